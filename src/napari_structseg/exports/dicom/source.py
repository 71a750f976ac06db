"""The series that a result was made from, as far as a result may repeat it.

A result in DICOM has to name the images it belongs to, or no viewer overlays it. So the UIDs of
study, series, images and frame of reference are always there; and who the patient is only where the
user asks for that. What is copied is a list of what is needed, not all but what is forbidden.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_structseg.errors import InputError
from napari_structseg.image import Image
from napari_structseg.io.dicom.read import to_frames
from napari_structseg.io.extras import require

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom import DataElement, Dataset

# What places an image and its pixels.
_PLACE = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "Modality",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "SpacingBetweenSlices",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "DimensionOrganizationSequence",
    "DimensionIndexSequence",
)
# Who it is of, and when: empty unless the user asks for it.
_PATIENT = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
)
_MORE_OF_PATIENT = ("IssuerOfPatientID", "PatientAge", "StudyDescription")
# Between where a slice lies by its file and by the image, in mm.
_TOLERANCE_MM = 0.05
_CHARACTERS = "ISO_IR 192"


@dataclass(frozen=True, slots=True, eq=False)
class SourceSeries:
    """Images that a result refers to, and the way from an array to their pixels.

    Attributes
    ----------
    image
        What was segmented.
    datasets
        One for each file, without pixels.
    order
        For each frame of the files, in their order, the slice of the image that it shows.
    """

    image: Image
    datasets: tuple[Dataset, ...]
    order: tuple[int, ...]

    @property
    def slice_step(self) -> float | None:
        """Distance from slice to slice in mm; None: there is one."""
        if len(self.order) == 1:
            return None
        step = self.image.geometry.file_affine_mm[:3, 2]
        return float(np.linalg.norm(step))

    def frames_of(self, array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """A map on the frames of the files, ``(frames, rows, columns)``."""
        return to_frames(array, self.image)[list(self.order)]


def check_source(image: Image) -> None:
    """Refuse an image that no DICOM file can refer to, before anything is computed.

    Raises
    ------
    InputError
        If the image was not read from a DICOM series, or a library is missing.
    """
    require("highdicom", extra="dicom", what="DICOM results")
    if image.source is None or not image.source.frames:
        raise InputError(
            f"A DICOM series was expected for a result in DICOM, but {image.name!r} was not read "
            "from one: there is nothing that the result could refer to. Save as NIfTI or NRRD, or "
            "open the DICOM series itself."
        )


def read_source(image: Image, *, keep_patient: bool = False) -> SourceSeries:
    """Read what a result refers to.

    Parameters
    ----------
    image
        That was read from a DICOM series.
    keep_patient
        Whether name, number, birth date and sex of the patient, and what identifies the study for
        people, are copied. Otherwise these fields are there and empty.

    Raises
    ------
    InputError
        If the image was not read from a DICOM series or was moved since, its files have changed, or
        they do not say what a reference needs.
    """
    check_source(image)
    if image.source is None:
        raise AssertionError("it was checked")
    frames = image.source.frames
    paths = list(dict.fromkeys(frame.path for frame in frames))
    datasets = tuple(_read(path, keep_patient=keep_patient) for path in paths)
    known = {frame.instance_uid for frame in frames}
    if {str(one.SOPInstanceUID) for one in datasets} != known:
        raise InputError(
            f"The files of {image.name!r} are not those that were opened. Open the series again."
        )
    several = any("PerFrameFunctionalGroupsSequence" in one for one in datasets)
    if several and len(datasets) > 1:
        raise InputError(
            f"{image.name!r} was read from {len(datasets)} files of several frames each. A result "
            "in DICOM can refer to one of such files. Save as NIfTI or NRRD."
        )
    n_frames = sum(int(one.get("NumberOfFrames", 1) or 1) for one in datasets)
    if n_frames != len(frames):
        raise InputError(
            f"{image.name!r} is {len(frames)} slices of {n_frames} in its file. A result in DICOM "
            "needs all of them. Save as NIfTI or NRRD."
        )
    order = tuple(int(one) for one in np.argsort([frame.number for frame in frames], kind="stable"))
    found = SourceSeries(image, datasets, order)
    _check_place(found)
    return found


def _read(path: Path, *, keep_patient: bool) -> Dataset:
    from pydicom import Dataset, dcmread
    from pydicom.errors import InvalidDicomError

    try:
        stored = dcmread(path, stop_before_pixels=True)
        copied = Dataset()
        copied.file_meta = stored.file_meta
        for name in _PLACE:
            if name in stored:
                copied.add(stored[name])
        copied.walk(_shorten)
        copied.SpecificCharacterSet = _CHARACTERS
        for name in _PATIENT:
            setattr(copied, name, str(stored.get(name, "")) if keep_patient else "")
        for name in _MORE_OF_PATIENT:
            if keep_patient and name in stored:
                setattr(copied, name, str(stored[name].value))
    except (OSError, InvalidDicomError, ValueError, KeyError, AttributeError) as error:
        raise InputError(
            f"Cannot read {path}, which the image was read from: {error}. Open the series again."
        ) from error
    missing = [name for name in ("StudyInstanceUID", "FrameOfReferenceUID") if not copied.get(name)]
    if missing:
        raise InputError(
            f"{path} has no {' and no '.join(missing)}, without which no result can lie over it. "
            "Save as NIfTI or NRRD."
        )
    return copied


def _shorten(_dataset: Dataset, element: DataElement) -> None:
    """Write numbers in the 16 characters that DICOM allows; not every program keeps to that."""
    from pydicom.valuerep import format_number_as_ds

    if element.VR == "DS" and element.value is not None:
        several = element.VM > 1
        numbers = element.value if several else [element.value]
        written = [format_number_as_ds(float(one)) for one in numbers]
        element.value = written if several else written[0]


def _check_place(source: SourceSeries) -> None:
    """Refuse an image that does not lie where its slices lie."""
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ source.image.geometry.file_affine_mm
    positions = _positions(source.datasets)
    for place, position in zip(source.order, positions, strict=True):
        if np.linalg.norm((affine @ (0, 0, place, 1))[:3] - position) > _TOLERANCE_MM:
            raise InputError(
                f"{source.image.name!r} does not lie where its DICOM slices lie: it was moved "
                "after it was opened. A result in DICOM would be at the wrong place. Save as NIfTI "
                "or NRRD, or open the series again."
            )


def _positions(datasets: tuple[Dataset, ...]) -> list[npt.NDArray[np.float64]]:
    """Positions of all frames, towards left, posterior and superior."""
    first = datasets[0]
    if "PerFrameFunctionalGroupsSequence" in first:
        return [
            np.asarray(group.PlanePositionSequence[0].ImagePositionPatient, np.float64)
            for group in first.PerFrameFunctionalGroupsSequence
        ]
    return [np.asarray(one.ImagePositionPatient, np.float64) for one in datasets]
