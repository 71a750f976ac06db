"""One image from one or several files: each holds one channel, or one holds all.

DICOM files are an exception, since a shell and a viewer name every slice: several of them are the
slices of one series.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from napari_structseg.errors import InputError
from napari_structseg.image import Image, channel_names
from napari_structseg.io.formats import OPENED
from napari_structseg.io.images import files_of, is_dicom, read_image
from napari_structseg.io.references import FileReference, refer_to_parts
from napari_structseg.source_files import SourceFiles


def read_channels(paths: Sequence[str | os.PathLike[str]], *, series: str | None = None) -> Image:
    """Read an image whose channels may lie in several files.

    Parameters
    ----------
    paths
        Files or folders of DICOM files, in the order of the model's channels; or the slices of one
        DICOM series, in any order.
    series
        Series Instance UID or Series Number, where there are several DICOM series.

    Returns
    -------
    image
        With the geometry and the name of the first file.

    Raises
    ------
    InputError
        If no file is given, one cannot be read, or one lies on another voxel grid than the first.
    MemoryLimitError
        If a file does not fit into memory. Nothing was allocated for it.
    """
    if not paths:
        raise InputError(f"No image was given. What can be opened: {OPENED}.")
    if _are_slices(paths):
        from napari_structseg.io.dicom.read import read_dicom

        return read_dicom(paths, series=series)
    parts = [read_image(path, series=series) for path in paths]
    first = parts[0]
    if len(parts) == 1:
        return first
    for path, part in zip(paths, parts, strict=True):
        if not first.geometry.same_grid(part.geometry):
            raise InputError(
                f"The channels of an image must lie on one voxel grid, but {os.fspath(path)} has "
                f"shape {part.spatial_shape} and spacing {_mm(part)} mm, and {os.fspath(paths[0])} "
                f"has {first.spatial_shape} and {_mm(first)} mm, or they lie in different places. "
                "Resample one onto the grid of the other first."
            )
    data = np.concatenate([part.data for part in parts])
    # The slices are those of the first channel, on which results are written.
    sources = [part.source for part in parts if part.source is not None]
    source = replace(
        sources[0],
        parts=tuple(part for one in sources for part in one.parts),
        notices=tuple(notice for one in sources for notice in one.notices),
    )
    return replace(first, data=data, channels=channel_names(len(data)), source=source)


def refer_to_images(
    paths: Sequence[str | os.PathLike[str]], *, series: str | None = None
) -> tuple[FileReference, ...]:
    """References to the files that :func:`read_channels` would read, without reading a voxel.

    Raises
    ------
    InputError
        If a file is missing, or a folder does not hold one series of images.
    """
    if _are_slices(paths):
        from napari_structseg.io.dicom.read import files_of_series

        parts = [files_of_series(paths, series=series)]
    else:
        parts = [files_of(path, series=series) for path in paths]
    return refer_to_parts(SourceFiles(tuple(parts)))


def _are_slices(paths: Sequence[str | os.PathLike[str]]) -> bool:
    """Whether several files are slices of DICOM series rather than channels."""
    return len(paths) > 1 and all(is_dicom(path) and not os.path.isdir(path) for path in paths)


def _mm(image: Image) -> str:
    return " x ".join(f"{step:g}" for step in image.spacing)
