"""Strokes in a file: what the user has said of the voxels of an image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from napari_structseg.distributions import Strokes
from napari_structseg.errors import ConfigError, InputError
from napari_structseg.image import Image
from napari_structseg.io.channels import read_channels


def read_strokes(
    path: Path, image: Image, n_classes: int, labels: Mapping[int, int] | None = None
) -> Strokes:
    """Read strokes on the voxel grid of an image.

    Parameters
    ----------
    path
        A file of whole numbers, 0 where nothing was said.
    image
        What they are of.
    n_classes
        Number of classes C.
    labels
        Label of the class that each value stands for; None: value k + 1 stands for class k.

    Raises
    ------
    ConfigError
        If a value is to stand for no class.
    InputError
        If the file cannot be read, lies on another voxel grid, says nothing, or holds a value
        that stands for no class.
    """
    for value, label in (labels or {}).items():
        if value == 0 or not 0 <= label < n_classes:
            raise ConfigError(
                f"Values of strokes other than 0 were expected to stand for the classes 0 to "
                f"{n_classes - 1}, but {value} is to stand for {label}. Change --stroke-labels."
            )
    found = read_channels((path,))
    if found.n_channels != 1 or not found.geometry.same_grid(image.geometry):
        raise InputError(
            f"Strokes on the voxel grid of the image were expected, but {path} has "
            f"{found.n_channels} channels of {found.spatial_shape} voxels of {found.spacing} mm, "
            f"and the image {image.spatial_shape} of {image.spacing} mm, or they lie in different "
            "places. Draw the strokes on the image itself."
        )
    values = found.data[0]
    whole = values.astype(np.int64)
    if (whole != values).any():
        raise InputError(
            f"Whole numbers were expected in the strokes {path}: 0 where nothing was said, and one "
            "number for each class. Save them as a label image."
        )
    if not whole.any():
        raise InputError(
            f"The strokes {path} say nothing: every voxel is 0. Leave --strokes out, or draw some."
        )
    if labels is None:
        return Strokes.from_array(whole, n_classes)
    said = np.zeros_like(whole)
    for value, label in labels.items():
        said[whole == value] = label + 1
    left_out = np.unique(whole[(whole != 0) & (said == 0)])
    if len(left_out):
        raise InputError(
            f"Every value in the strokes {path} was expected to have a class, but --stroke-labels "
            f"says nothing of {', '.join(map(str, left_out[:5]))}. Add VALUE=LABEL for each."
        )
    return Strokes.from_array(said, n_classes)
