"""One image from a file or a folder, whatever its format."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from napari_structseg.errors import InputError
from napari_structseg.image import Image
from napari_structseg.io import nifti
from napari_structseg.io.formats import DICOM, META, NIFTI, NRRD, OPENED, PNG, TIFF, has_ending
from napari_structseg.io.png import read_png, read_tiff
from napari_structseg.source_files import SourceFiles


def read_image(path: str | os.PathLike[str], *, series: str | None = None) -> Image:
    """Read an image of any format that is known.

    Parameters
    ----------
    path
        A NIfTI, DICOM, NRRD, MetaImage, PNG or TIFF file, by its ending, or a folder of DICOM
        files.
    series
        Series Instance UID or Series Number, where a folder holds several DICOM series.

    Returns
    -------
    image
        With `data` (C, Z, Y, X) or (C, Y, X), the geometry to write results back with, and the
        files that it came from.

    Raises
    ------
    InputError
        If there is no such file, its format is not known, it is damaged, its affine cannot place
        voxels, or it holds something other than finite real numbers on 2 or 3 spatial axes.
    MemoryLimitError
        If it does not fit into memory. Nothing was allocated.
    """
    path = Path(path)
    if is_dicom(path):
        from napari_structseg.io.dicom.read import read_dicom

        return read_dicom(path, series=series)
    if has_ending(path, NRRD + META):
        from napari_structseg.io.itk import read_itk

        return read_itk(path)
    if has_ending(path, PNG):
        return _of_one_file(read_png(path), path)
    if has_ending(path, TIFF):
        return _of_one_file(read_tiff(path), path)
    if has_ending(path, NIFTI):
        return _of_one_file(nifti.read_image(path), path)
    if not path.exists():
        raise InputError(f"There is no file {path}. Check the name and the folder.")
    raise InputError(
        f"{path} is in no format that is known by its name. What can be opened: {OPENED}. Convert "
        "it, or give it the ending of its format."
    )


def files_of(path: str | os.PathLike[str], *, series: str | None = None) -> tuple[Path, ...]:
    """The files that :func:`read_image` would read for a path, without reading a voxel.

    Raises
    ------
    InputError
        If it is a folder without one series of images, or a header is damaged.
    """
    path = Path(path)
    if is_dicom(path):
        from napari_structseg.io.dicom.read import files_of_series

        return files_of_series([path], series=series)
    if has_ending(path, NRRD + META):
        from napari_structseg.io.itk import read_header

        return read_header(path).files
    return (path,)


def is_dicom(path: str | os.PathLike[str]) -> bool:
    """Whether a path is to be read as DICOM: a folder, or a file by its ending or its first bytes.

    Raises nothing: what is wrong with the file is found when it is read.
    """
    from napari_structseg.io.dicom.headers import is_dicom_file

    path = Path(path)
    if path.is_dir() or has_ending(path, DICOM):
        return True
    return (
        not has_ending(path, NIFTI + NRRD + META + PNG + TIFF)
        and path.is_file()
        and is_dicom_file(path)
    )


def _of_one_file(image: Image, path: Path) -> Image:
    return replace(image, source=SourceFiles(((path,),)), checked=True)
