"""Which formats images come in, told by the names of files."""

from __future__ import annotations

import os
from pathlib import Path

NIFTI = (".nii", ".nii.gz")
PNG = (".png",)
TIFF = (".tif", ".tiff")
NRRD = (".nrrd", ".nhdr")
META = (".mha", ".mhd")
DICOM = (".dcm", ".dicom", ".ima")

OPENED = (
    "NIfTI (.nii, .nii.gz), DICOM (a folder, or .dcm files), NRRD (.nrrd, .nhdr), MetaImage (.mha, "
    ".mhd), PNG (.png), TIFF (.tif, .tiff)"
)
"""What can be opened, in words, for messages."""


def has_ending(path: str | os.PathLike[str], endings: tuple[str, ...]) -> bool:
    """Whether a name has one of these endings, in either case."""
    return os.fspath(path).lower().endswith(endings)


def stem_of(path: str | os.PathLike[str], endings: tuple[str, ...]) -> str:
    """A file's name without folder and ending."""
    name = Path(path).name
    for ending in sorted(endings, key=len, reverse=True):
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return name
