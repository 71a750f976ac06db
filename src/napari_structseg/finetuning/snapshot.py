"""The corrections of an image as they are now, as files that a run reads.

A run that goes on days later must find the same. So it never reads what still changes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_structseg.correction.actions import Correction
from napari_structseg.errors import InputError
from napari_structseg.finetuning.settings import CaseFiles, LearnFrom
from napari_structseg.image import Image
from napari_structseg.io.nifti import write_volume

_NOTHING = {
    "result": "The result is empty: there is nothing to learn from. Accept or paint something in "
    "the Correct dock first.",
    "locked": "Nothing is locked: what was reviewed is what is locked. Lock classes or a region in "
    "the Correct dock first, or learn from the whole image.",
    "strokes": "There are no strokes to learn from. Paint some in the Correct dock first, or learn "
    "from the whole image.",
}


def check_said(correction: Correction, learn_from: LearnFrom) -> None:
    """Raise InputError where corrections say nothing of the kind that is learned from.

    An empty result would teach that there is nothing anywhere.
    """
    result = correction.result
    said = {
        "result": bool(result.counts[1:].any()),
        "locked": bool(result.locked_classes) or bool(result.locked.any()),
        "strokes": len(correction.strokes) > 0,
    }
    if not said[learn_from]:
        raise InputError(_NOTHING[learn_from])


def write_case(
    folder: Path,
    image: Image,
    correction: Correction,
    learn_from: LearnFrom,
    *,
    image_file: Path | None = None,
) -> CaseFiles:
    """Write the corrections of an image into a folder, which is made.

    Parameters
    ----------
    folder
        Where to.
    image
        What was corrected.
    correction
        Nothing changes it meanwhile: give a copy.
    learn_from
        Which voxels count.
    image_file
        A file with the very same image; None: there is none, and one is written.

    Raises
    ------
    InputError
        If there is nothing to learn from, or the system refuses.
    """
    check_said(correction, learn_from)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"Cannot make the folder {folder}: {error.strerror or error}. Check that the disk has "
            "room and that you may write there."
        ) from error
    result, geometry = correction.result, image.geometry
    if image_file is None:
        image_file = folder / "image.nii"
        data = image.data if image.n_channels > 1 else image.data[0]
        write_volume(image_file, data, geometry, dtype=np.float32)
    labels = folder / "labels.nii.gz"
    write_volume(labels, result.labels, geometry, dtype=np.uint8)
    where: npt.NDArray[Any] | None = None
    if learn_from == "locked":
        everything = tuple(slice(0, size) for size in result.shape)
        where = result.protected(everything)
    elif learn_from == "strokes":
        where = correction.strokes.to_array()
    reviewed = None
    if where is not None:
        reviewed = folder / "reviewed.nii.gz"
        write_volume(reviewed, where.astype(np.uint8), geometry, dtype=np.uint8)
    return CaseFiles(image=(image_file,), labels=labels, reviewed=reviewed)
