"""The files of a prediction in the format that was asked for: NIfTI, or that of another program."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from napari_structseg.exports.nrrd import write_map, write_segmentation
from napari_structseg.exports.samples import SampleSet
from napari_structseg.exports.segments import segments_of, segments_of_modes
from napari_structseg.image import Image
from napari_structseg.io.nifti import write_volume
from napari_structseg.models import ClassSpec

Format = Literal["nifti", "nrrd"]
NIFTI = ".nii.gz"
# Of labellings, and of maps.
_SUFFIXES: dict[Format, tuple[str, str]] = {
    "nifti": (NIFTI, NIFTI),
    "nrrd": (".seg.nrrd", ".nrrd"),
}
LABEL_SUFFIXES = tuple(labels for labels, _ in _SUFFIXES.values())
MAP_SUFFIXES = tuple(dict.fromkeys(maps for _, maps in _SUFFIXES.values()))
HYPOTHESES = "hypotheses"


def file_name(name: str, kind: Format, *, is_map: bool) -> str:
    """What a result is called in a format, by its name as NIfTI."""
    return name.removesuffix(NIFTI) + _SUFFIXES[kind][is_map]


def write_result(
    path: Path, array: npt.NDArray[Any], image: Image, classes: Sequence[ClassSpec], model: str
) -> None:
    """Write labels, a map, or probabilities in the format that the name stands for.

    Parameters
    ----------
    path
        See :func:`file_name`.
    array
        Labels, uint8, ``(*spatial)``; a map, float32, the same; or a stack ``(C, *spatial)``.
    image
        What was segmented.
    classes
        In label order.
    model
        What made it.

    Raises
    ------
    InputError
        If the system refuses.
    """
    is_map = array.dtype.kind == "f"
    if path.name.endswith(NIFTI):
        what = path.name.partition(".")[0]
        description = f"napari-structseg {what} of {model}"
        write_volume(path, array, image.geometry, description=description)
    elif is_map:
        write_map(path, array, image.geometry)
    else:
        write_segmentation(path, array, image.geometry, segments_of(classes))


def write_hypotheses(
    folder: Path, samples: SampleSet, image: Image, classes: Sequence[ClassSpec], kind: Format
) -> list[Path]:
    """Write the representatives of the hypotheses as one file of several segment sets.

    Returns
    -------
    paths
        What was written: nothing where there are too few samples for hypotheses, or the format
        has no such files.

    Raises
    ------
    InputError
        If the system refuses.
    """
    found = samples.hypotheses()
    if found is None or kind == "nifti":
        return []
    path = folder / file_name(HYPOTHESES + NIFTI, kind, is_map=False)
    stack = np.stack([samples.whole(mode.representative) for mode in found.modes])
    write_segmentation(path, stack, image.geometry, segments_of_modes(classes, found))
    return [path]
