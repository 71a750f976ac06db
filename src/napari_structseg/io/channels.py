"""One image from one or several files: each file holds one channel, or a 4-D file holds all."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from napari_structseg.errors import InputError
from napari_structseg.image import Image, channel_names
from napari_structseg.io.nifti import read_image
from napari_structseg.io.png import SUFFIX as PNG_SUFFIX
from napari_structseg.io.png import read_png


def read_channels(paths: Sequence[str | os.PathLike[str]]) -> Image:
    """Read an image whose channels may lie in several files.

    Parameters
    ----------
    paths
        NIfTI or PNG files, in the order of the model's channels.

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
        raise InputError("No image was given. Give a .nii, .nii.gz or .png file.")
    parts = [_read(Path(path)) for path in paths]
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
    return replace(first, data=data, channels=channel_names(len(data)))


def _read(path: Path) -> Image:
    return read_png(path) if path.name.lower().endswith(PNG_SUFFIX) else read_image(path)


def _mm(image: Image) -> str:
    return " x ".join(f"{step:g}" for step in image.spacing)
