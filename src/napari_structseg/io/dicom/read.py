"""One image from DICOM files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_structseg.errors import InputError
from napari_structseg.geometry import Geometry
from napari_structseg.image import Image, channel_names
from napari_structseg.io.dicom.pixels import read_pixels
from napari_structseg.io.dicom.series import Series, choose_series, dicom_files, group_series
from napari_structseg.io.dicom.slices import stack_slices
from napari_structseg.io.extras import require
from napari_structseg.source_files import SourceFiles, SourceFrame

FilePath = str | os.PathLike[str]


def find_series(paths: Sequence[FilePath]) -> list[Series]:
    """The series in files and folders, those with most slices first; no pixel is read.

    Raises
    ------
    InputError
        If there is no DICOM file, or one is damaged.
    """
    require("pydicom", extra="dicom", what="DICOM files")
    return group_series(dicom_files([Path(path) for path in paths]))


def read_dicom(paths: FilePath | Sequence[FilePath], *, series: str | None = None) -> Image:
    """Read one series of slices, or one file, as an image.

    Slices are sorted by place. Values are rescaled, for CT to Hounsfield units. The image is named
    by what the series is, never by the patient.

    Parameters
    ----------
    paths
        A folder, a file, or several.
    series
        Series Instance UID or Series Number, where there are several series.

    Returns
    -------
    image
        With `data` (1, Z, Y, X), or (1, Y, X) for one slice; its `source` names the files.

    Raises
    ------
    InputError
        If there is no series of images or not exactly one, its slices do not make a regular grid,
        or a file is damaged.
    MemoryLimitError
        If it does not fit into memory. Nothing was allocated.
    """
    named = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    return read_series(_chosen(named, series))


def files_of_series(paths: Sequence[FilePath], *, series: str | None = None) -> tuple[Path, ...]:
    """The files that :func:`read_dicom` would read, in order of name, without reading a pixel.

    Raises
    ------
    InputError
        As for :func:`read_dicom`.
    """
    chosen = _chosen(paths, series)
    stack = stack_slices(chosen.headers, f"The series {chosen.name!r}")
    return tuple(sorted({place.header.path for place in stack.places}))


def _chosen(paths: Sequence[FilePath], series: str | None) -> Series:
    where = ", ".join(os.fspath(path) for path in paths[:3])
    if len(paths) > 3:
        where += f" and {len(paths) - 3} more"
    return choose_series(find_series(paths), series, where)


def read_series(series: Series) -> Image:
    """Read the slices of a series.

    Raises
    ------
    InputError, MemoryLimitError
        As for :func:`read_dicom`.
    """
    what = f"The series {series.name!r} ({series.first.path.parent})"
    stack = stack_slices(series.headers, what)
    pixels = read_pixels(stack.places, what)
    geometry = Geometry.from_file_order(
        pixels.T.shape, stack.affine, has_spacing=stack.has_spacing, what=f"The place of {what}"
    )
    frames = tuple(
        SourceFrame(place.header.path, place.header.instance_uid, place.frame.number)
        for place in stack.places
    )
    files = tuple(sorted({frame.path for frame in frames}))
    source = SourceFiles((files,), series.uid, frames, stack.notices)
    data = np.ascontiguousarray(geometry.from_file(pixels.T))
    return Image(data, geometry, channel_names(1), series.name, source)


def to_frames(array: npt.NDArray[Any], image: Image) -> npt.NDArray[Any]:
    """Bring a map of an image to the pixels of its DICOM slices.

    Parameters
    ----------
    array
        Shape `spatial_shape`.
    image
        That was read from DICOM files.

    Returns
    -------
    array
        Shape (slices, rows, columns), in the order of ``image.source.frames``. A view.

    Raises
    ------
    InputError
        If the image did not come from DICOM files, or the array is not on its voxels.
    """
    if image.source is None or not image.source.frames:
        raise InputError(
            f"{image.name!r} was not read from DICOM files, so there are no slices to refer to. "
            "Save as NIfTI or NRRD, or open the DICOM series."
        )
    stored = image.geometry.to_file(array)
    return stored.reshape((*stored.shape, 1)[:3]).transpose(2, 1, 0)
