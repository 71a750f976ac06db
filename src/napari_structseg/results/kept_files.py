"""One labelling as a file, in the format that its name stands for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_structseg.errors import InputError
from napari_structseg.exports.dicom.segmentation import (
    SUFFIX as DICOM,
)
from napari_structseg.exports.dicom.segmentation import (
    Maker,
    Place,
    new_uid,
    write_dicom_segmentation,
)
from napari_structseg.exports.dicom.source import check_source, read_source
from napari_structseg.exports.nrrd import SEGMENTATION_SUFFIX as NRRD
from napari_structseg.exports.nrrd import write_segmentation
from napari_structseg.exports.report.page import SUFFIX as REPORT
from napari_structseg.exports.segments import segments_of
from napari_structseg.image import Image
from napari_structseg.io.checks import SUFFIXES as NIFTI
from napari_structseg.io.nifti import write_volume
from napari_structseg.models import ClassSpec

_DESCRIPTION = "napari-structseg"


def check_name(path: Path, image: Image | None = None) -> Path:
    """Refuse a name that no labelling can be written to, before anything is computed.

    Parameters
    ----------
    path
        Ends in .nii.gz, .nii, .seg.nrrd or .dcm.
    image
        What was segmented: DICOM needs a DICOM series. None: that is looked at later.

    Raises
    ------
    InputError
        If it ends otherwise, there is no such folder, or the image cannot be written so.
    """
    name = path.name.lower()
    if not name.endswith((*NIFTI, NRRD, DICOM)):
        raise InputError(
            f"A name that ends in .nii.gz, .nii, {NRRD} or {DICOM} was expected, but it is "
            f"{path.name!r}. Add .nii.gz."
        )
    if image is not None and name.endswith(DICOM):
        check_source(image)
    return check_folder(path)


def check_folder(path: Path) -> Path:
    """Raise InputError where the folder of a file is missing."""
    if not path.parent.is_dir():
        raise InputError(f"There is no folder {path.parent}. Make it, or choose another one.")
    return path


def is_report(path: Path) -> bool:
    """Whether a name is that of a report rather than of a labelling."""
    return path.name.lower().endswith(REPORT)


def stem_of(path: Path) -> str:
    """The name without the suffix of its format, for what is written beside it."""
    for suffix in (*reversed(NIFTI), NRRD, DICOM, REPORT):
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.name


def write_labels(
    path: Path,
    labels: npt.NDArray[np.uint8],
    image: Image,
    classes: Sequence[ClassSpec],
    *,
    maker: Maker,
    what: str,
    keep_patient: bool = False,
) -> None:
    """Write a labelling, whole or not at all.

    Parameters
    ----------
    path
        See :func:`check_name`.
    labels
        Of the whole image, ``(*spatial)``.
    image
        What was segmented.
    classes
        In label order.
    maker, what
        What made it, and what it shows, for DICOM.
    keep_patient
        Whether a DICOM file says who the patient is.

    Raises
    ------
    InputError
        If the name cannot be used, or the system refuses.
    """
    name = check_name(path, image).name.lower()
    if name.endswith(NRRD):
        write_segmentation(path, labels, image.geometry, segments_of(classes))
    elif name.endswith(DICOM):
        write_dicom_segmentation(
            path,
            labels,
            read_source(image, keep_patient=keep_patient),
            segments_of(classes),
            maker=maker,
            place=Place(new_uid(), 1),
            what=what,
        )
    else:
        write_volume(path, labels, image.geometry, dtype=np.uint8, description=_DESCRIPTION)
