"""DICOM SEG: a labelling or probabilities as segments over the series they were made from.

Written by highdicom (Bridge et al., Journal of Digital Imaging 2022). A labelling is binary;
hypotheses are binary and overlap; probabilities are fractional, in steps of 1/255.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_structseg.errors import InputError
from napari_structseg.exports.dicom.codes import as_text, codes_of
from napari_structseg.exports.dicom.source import SourceSeries
from napari_structseg.exports.segments import Segment
from napari_structseg.io.atomic import atomic_path
from napari_structseg.memory import check_memory

if TYPE_CHECKING:
    from pydicom import Dataset

SUFFIX = ".dcm"
MANUFACTURER = "napari-structseg (research, not a medical device)"
MODEL_NAME = "napari-structseg"
_SERIES_NUMBER = 900
# highdicom holds each frame of each segment once more while it packs them.
_COPIES = 3


@dataclass(frozen=True, slots=True)
class Maker:
    """What made a result.

    Attributes
    ----------
    name
        Of the model.
    version
        What tells its weights from others: their hash, for example.
    by_hand
        Whether a person has corrected it.
    """

    name: str
    version: str = "unknown"
    by_hand: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Which object of which series a file is.

    Attributes
    ----------
    series_uid
        Of the series of results; those of one prediction are one series.
    number
        Of the object in it, from 1 on.
    """

    series_uid: str
    number: int


def new_uid() -> str:
    """A UID that nobody else has."""
    from highdicom import UID

    return str(UID())


def write_dicom_segmentation(
    path: str | Path,
    voxels: npt.NDArray[Any],
    source: SourceSeries,
    segments: Sequence[Segment],
    *,
    maker: Maker,
    place: Place,
    what: str,
) -> Dataset:
    """Write a labelling, several of them, or probabilities.

    Parameters
    ----------
    path
        Ends in .dcm. Written atomically.
    voxels
        Labels, uint8: ``(*spatial)``, or ``(K, *spatial)`` for layers that may overlap. Or
        probabilities of all classes, floating, ``(C, *spatial)``.
    source
        What it lies over.
    segments
        Which labels, layers or probabilities are written, numbered from 1 in this order.
    maker, place
        What made it, and which object it is.
    what
        What it shows, in words.

    Returns
    -------
    dataset
        What was written, for references.

    Raises
    ------
    InputError
        If the name ends otherwise, or the system refuses.
    MemoryLimitError
        If the frames do not fit into memory.
    """
    from highdicom.seg import Segmentation

    if not str(path).lower().endswith(SUFFIX):
        raise InputError(
            f"Cannot write {path}: the name of a DICOM segmentation must end in {SUFFIX}."
        )
    is_fractional = voxels.dtype.kind == "f"
    n_voxels = int(np.prod(source.image.spatial_shape))
    check_memory(n_voxels * len(segments) * (4 if is_fractional else 1) * _COPIES, f"Making {path}")
    with warnings.catch_warnings():
        # Nothing is segmented: then there are frames without a voxel.
        warnings.filterwarnings("ignore", message=".*[Ee]ncoding an empty segmentation.*")
        made = Segmentation(
            source_images=list(source.datasets),
            pixel_array=_frames(voxels, source, segments),
            segmentation_type="FRACTIONAL" if is_fractional else "BINARY",
            segment_descriptions=[
                _described(number, one, maker) for number, one in enumerate(segments, start=1)
            ],
            series_instance_uid=place.series_uid,
            series_number=_SERIES_NUMBER,
            sop_instance_uid=new_uid(),
            instance_number=place.number,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=MODEL_NAME,
            software_versions=version("napari-structseg")[:64],
            device_serial_number="none",
            content_description=as_text(f"{what}; not a medical device"),
            content_label="STRUCTSEG",
            pixel_measures=_measures(source),
            series_description=as_text(f"{maker.name} (research)"),
            specific_character_set=source.datasets[0].SpecificCharacterSet,
        )
    with atomic_path(path) as temporary:
        made.save_as(temporary, enforce_file_format=True)
    return made


def _frames(
    voxels: npt.NDArray[Any], source: SourceSeries, segments: Sequence[Segment]
) -> npt.NDArray[Any]:
    """The segments on the frames of the files: ``(frames, rows, columns, segments)``."""
    if voxels.dtype.kind == "f":
        maps = [source.frames_of(voxels[one.label]) for one in segments]
        # Rounding can bring a probability above 1.
        return np.clip(np.stack(maps, axis=-1), 0.0, 1.0).astype(np.float32)
    layers = voxels if voxels.ndim == source.image.ndim + 1 else voxels[np.newaxis]
    masks = [source.frames_of(layers[one.layer] == one.label) for one in segments]
    return np.stack(masks, axis=-1).astype(np.uint8)


def _described(number: int, segment: Segment, maker: Maker) -> Any:  # noqa: ANN401 -- highdicom's
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentDescription
    from highdicom.sr import CodedConcept
    from pydicom.sr.codedict import codes

    category, kind = codes_of(segment.class_name or segment.name)
    red, green, blue = (int(segment.color[at : at + 2], 16) for at in (1, 3, 5))
    return SegmentDescription(
        segment_number=number,
        segment_label=as_text(segment.name) or f"Segment {number}",
        segmented_property_category=CodedConcept(*category),
        segmented_property_type=CodedConcept(*kind),
        algorithm_type="SEMIAUTOMATIC" if maker.by_hand else "AUTOMATIC",
        algorithm_identification=AlgorithmIdentificationSequence(
            name=as_text(maker.name) or "unnamed",
            family=codes.DCM.ArtificialIntelligence,
            version=as_text(maker.version) or "unknown",
        ),
        display_color=CIELabColor.from_rgb(red, green, blue),
    )


def _measures(source: SourceSeries) -> Any:  # noqa: ANN401 -- highdicom's
    """Size of a pixel, and from slice to slice, as the image has it."""
    from highdicom import PixelMeasuresSequence

    affine = source.image.geometry.file_affine_mm
    columns, rows, thickness = (float(np.linalg.norm(affine[:3, axis])) for axis in range(3))
    return PixelMeasuresSequence(
        # Row spacing first.
        pixel_spacing=(rows, columns),
        slice_thickness=float(source.datasets[0].get("SliceThickness") or thickness),
        spacing_between_slices=source.slice_step,
    )
