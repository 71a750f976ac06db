"""What the header of a DICOM file says, without its pixels.

Names of attributes and their meaning: DICOM PS3.3, for example C.7.6.2 (image plane), C.7.6.16
(multi-frame functional groups) and C.11.1 (modality LUT).
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from napari_structseg.errors import InputError, MemoryLimitError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

T = TypeVar("T")

_TAGS = (
    "SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "Modality",
    "SeriesDescription", "SeriesNumber", "FrameOfReferenceUID", "ImageType", "Rows", "Columns",
    "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated",
    "BitsStored", "PixelRepresentation", "RescaleSlope", "RescaleIntercept", "RescaleType",
    "ModalityLUTSequence", "PixelSpacing", "ImagerPixelSpacing", "SliceThickness",
    "ImagePositionPatient", "ImageOrientationPatient", "AcquisitionNumber", "EchoTime",
    "TemporalPositionIdentifier", "TriggerTime", "DiffusionBValue", "DimensionOrganizationType",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
)  # fmt: skip
# By these, slices at one place are told apart: echoes, time points, weightings.
VARIANTS = (
    "AcquisitionNumber", "EchoTime", "TemporalPositionIdentifier", "TriggerTime",
    "DiffusionBValue", "ImageType",
)  # fmt: skip
_DEFLATED = "1.2.840.10008.1.2.1.99"
_PREAMBLE = 128
_MAX_FRAMES = 100_000


@dataclass(frozen=True, slots=True)
class Frame:
    """One slice before its pixels are read.

    Attributes
    ----------
    number
        In its file, from 1 on.
    position
        Centre of the first pixel in mm, towards left, posterior, superior; None: nobody says.
    orientation
        Direction of a row (from column to column), then of a column, as cosines; None: unknown.
    spacing
        mm between the centres of rows, then of columns; None: unknown.
    thickness
        Slice thickness in mm; None: unknown.
    slope, intercept
        From stored values to the output units, such as HU.
    variant
        Values of `VARIANTS`, as text.
    """

    number: int
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing: tuple[float, ...] | None
    thickness: float | None
    slope: float
    intercept: float
    variant: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Header:
    """What one file says about its image."""

    path: Path
    transfer_syntax: str
    sop_class: str
    instance_uid: str
    series_uid: str
    modality: str
    description: str
    series_number: str
    frame_of_reference: str
    image_type: tuple[str, ...]
    rows: int
    columns: int
    samples: int
    photometric: str
    bits_allocated: int
    bits_stored: int
    is_signed: bool
    rescale_type: str
    has_lut: bool
    is_tiled: bool
    frames: tuple[Frame, ...]

    @property
    def is_image(self) -> bool:
        """Whether the file has pixels at all."""
        return self.rows > 0 and self.columns > 0

    @property
    def sop_class_name(self) -> str:
        """The kind of object in words, such as "CT Image Storage"."""
        from pydicom.uid import UID

        return str(UID(self.sop_class).name) if self.sop_class else "an unknown kind of object"


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what pydicom raises for a damaged file into an InputError."""
    from pydicom.errors import BytesLengthException, InvalidDicomError

    try:
        with warnings.catch_warnings():
            # Values against the standard that can be read all the same.
            warnings.simplefilter("ignore")
            yield
    except MemoryError as error:
        raise MemoryLimitError(
            f"There is not enough memory to open {path}. Close other programs or images."
        ) from error
    # pydicom has hardly a class of its own for damaged files: these are what its parsers run into.
    except (
        BytesLengthException,
        InvalidDicomError,
        OSError,
        EOFError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        OverflowError,
        NotImplementedError,
        RecursionError,
        RuntimeError,
        struct.error,
    ) as error:
        raise InputError(
            f"Cannot read {path} as DICOM: {error}. The file may be damaged or cut short: export "
            "or download it again."
        ) from error


def read_header(path: Path) -> Header:
    """Read all but the pixels of a file.

    Raises
    ------
    InputError
        If it is damaged.
    """
    import pydicom

    with reading(path):
        _refuse_deflated(path)
        dataset = pydicom.dcmread(
            path, stop_before_pixels=True, force=True, specific_tags=list(_TAGS)
        )
        meta = getattr(dataset, "file_meta", None)
        syntax = "" if meta is None else str(meta.get("TransferSyntaxUID", ""))
        return _header(dataset, path, syntax)


def is_dicom_file(path: Path) -> bool:
    """Whether a file begins as a DICOM file does: with a preamble, or at once with its data."""
    try:
        with path.open("rb") as file:
            head = file.read(_PREAMBLE + 4)
    except OSError:
        return False
    if head[_PREAMBLE:] == b"DICM":
        return True
    # Files of old programs: the first element is of group 8, in the implicit little endian form.
    return head[:2] == b"\x08\x00" and head[3:4] == b"\x00" and len(head) == _PREAMBLE + 4


def _refuse_deflated(path: Path) -> None:
    """Raise InputError for a deflated file: pydicom unpacks all of it, however large it becomes."""
    from pydicom.filereader import read_file_meta_info

    with path.open("rb") as file:
        if file.read(_PREAMBLE + 4)[_PREAMBLE:] != b"DICM":
            return
    if str(read_file_meta_info(path).get("TransferSyntaxUID", "")) == _DEFLATED:
        raise InputError(
            f"{path} is a deflated DICOM file, which no scanner writes for images. Export it "
            "without deflation, for example as Explicit VR Little Endian."
        )


def _header(dataset: Dataset, path: Path, syntax: str) -> Header:
    def number(keyword: str) -> int:
        return int(dataset.get(keyword) or 0)

    n_frames = max(1, number("NumberOfFrames"))
    if n_frames > _MAX_FRAMES:
        raise InputError(
            f"{path} says that it has {n_frames} frames, but at most {_MAX_FRAMES} are read."
        )
    return Header(
        path=path,
        transfer_syntax=syntax,
        sop_class=_text(dataset, "SOPClassUID"),
        instance_uid=_text(dataset, "SOPInstanceUID"),
        series_uid=_text(dataset, "SeriesInstanceUID"),
        modality=_text(dataset, "Modality"),
        description=_text(dataset, "SeriesDescription"),
        series_number=_text(dataset, "SeriesNumber"),
        frame_of_reference=_text(dataset, "FrameOfReferenceUID"),
        image_type=_texts(dataset, "ImageType"),
        rows=number("Rows"),
        columns=number("Columns"),
        samples=number("SamplesPerPixel"),
        photometric=_text(dataset, "PhotometricInterpretation"),
        bits_allocated=number("BitsAllocated"),
        bits_stored=number("BitsStored"),
        is_signed=bool(number("PixelRepresentation")),
        rescale_type=_text(dataset, "RescaleType"),
        has_lut="ModalityLUTSequence" in dataset,
        is_tiled=_text(dataset, "DimensionOrganizationType").startswith("TILED")
        or _text(dataset, "Modality") == "SM",
        frames=tuple(_frames(dataset, n_frames)),
    )


def _frames(dataset: Dataset, n_frames: int) -> Iterator[Frame]:
    groups = dataset.get("PerFrameFunctionalGroupsSequence") or ()
    if groups and len(groups) != n_frames:
        raise ValueError(f"it has {n_frames} frames, but describes {len(groups)}")
    (shared, *_) = dataset.get("SharedFunctionalGroupsSequence") or (None,)
    variant = tuple(str(dataset.get(name, "")) for name in VARIANTS)
    for index in range(n_frames):
        own = groups[index] if index < len(groups) else None

        def find(
            sequence: str, keyword: str, make: Callable[[Any], T], own: Dataset | None = own
        ) -> T | None:
            """A value of the frame, of all frames, or of the file."""
            for group in (own, shared):
                items = () if group is None else (group.get(sequence) or ())
                if items and items[0].get(keyword) is not None:
                    return make(items[0].get(keyword))
            found = dataset.get(keyword)
            return None if found is None or found == "" else make(found)

        slope = find("PixelValueTransformationSequence", "RescaleSlope", float)
        yield Frame(
            number=index + 1,
            position=find("PlanePositionSequence", "ImagePositionPatient", _numbers(3)),
            orientation=find("PlaneOrientationSequence", "ImageOrientationPatient", _numbers(6)),
            spacing=find("PixelMeasuresSequence", "PixelSpacing", _numbers(2))
            or find("PixelMeasuresSequence", "ImagerPixelSpacing", _numbers(2)),
            thickness=find("PixelMeasuresSequence", "SliceThickness", float),
            slope=1.0 if slope is None else slope,
            intercept=find("PixelValueTransformationSequence", "RescaleIntercept", float) or 0.0,
            variant=variant,
        )


def _numbers(count: int) -> Callable[[Any], tuple[float, ...]]:
    def make(value: Any) -> tuple[float, ...]:  # noqa: ANN401 -- what pydicom gives
        found = tuple(float(one) for one in value)
        if len(found) != count:
            raise ValueError(f"{count} numbers were expected, but there are {len(found)}")
        return found

    return make


def _text(dataset: Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    return "" if value is None else str(value).strip()


def _texts(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    value = dataset.get(keyword)
    if value is None or isinstance(value, str):
        return (value,) if value else ()
    return tuple(str(one) for one in value)
