"""PNG files: 2-D images without a voxel size, for data sets in nnU-Net's layout."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from skimage.io import imread

from napari_structseg.errors import InputError
from napari_structseg.image import Image

SUFFIX = ".png"
_COLOUR = ("red", "green", "blue", "alpha")


def read_png(path: str | os.PathLike[str]) -> Image:
    """Read a greyscale or colour PNG as a 2-D image with pixels of 1 mm.

    Parameters
    ----------
    path
        A .png file.

    Returns
    -------
    image
        With `data` (1, Y, X), or (3, Y, X) for colour, (4, Y, X) with transparency.

    Raises
    ------
    InputError
        If there is no such file, or it is damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no file {path}. Check the name and the folder.")
    try:
        pixels = np.asarray(imread(path))
    # Pillow calls a damaged PNG a SyntaxError.
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(
            f"Cannot read {path} as PNG: {error}. Copy it again, or export it anew."
        ) from error
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8)
    name = path.name[: -len(SUFFIX)]
    if pixels.ndim == 2:
        return Image.from_array(pixels, name=name)
    return Image.from_array(
        pixels, channel_axis=-1, channels=_COLOUR[: pixels.shape[-1]], name=name
    )
