"""napari opens NIfTI files through this module.

A layer shows voxels: its only transform is the spacing in mm. The rest of the affine, an oblique
rotation above all, is kept in the layer's metadata instead, because napari would otherwise show
slices through a rotated grid, resampled for display, and not the slices that were acquired and
that a model sees. Everything that is saved uses the metadata, and how far the layer was moved
since.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_structseg.image import Image
from napari_structseg.io.checks import is_nifti_path
from napari_structseg.io.nifti import holds_labels, read_image
from napari_structseg.layer_geometry import GEOMETRY_KEY, IMAGE_KEY

LayerData = tuple[npt.NDArray[Any], dict[str, Any], str]
Path = str | os.PathLike[str]

_AXIS_LABELS = ("z", "y", "x")


def get_reader(path: Path | Sequence[Path]) -> Callable[[Any], list[LayerData]] | None:
    """Return a function that reads `path`, or None if it is not NIfTI by name.

    Parameters
    ----------
    path
        One file, or several.

    Returns
    -------
    reader
        Takes `path` and returns layer data tuples. It raises `InputError` or `MemoryLimitError`
        for a file that cannot be shown; napari displays the message.
    """
    return read_layers if all(is_nifti_path(one) for one in _as_list(path)) else None


def read_layers(path: Path | Sequence[Path]) -> list[LayerData]:
    """Read NIfTI files into layer data tuples."""
    return [layer for one in _as_list(path) for layer in image_layers(read_image(one))]


def image_layers(image: Image) -> list[LayerData]:
    """Return the layer data tuples that show an image, one for each channel.

    A file that declares its numbers to be labels becomes labels layers.
    """
    is_labels = holds_labels(image.geometry) and image.data.dtype.kind in "iu"
    layers: list[LayerData] = []
    for channel, data in zip(image.channels, image.data, strict=True):
        settings: dict[str, Any] = {
            "name": image.name if image.n_channels == 1 else f"{image.name} {channel}",
            "scale": image.spacing,
            "units": ("mm" if image.has_spacing else "pixel",) * image.ndim,
            "axis_labels": _AXIS_LABELS[-image.ndim :],
        }
        if is_labels:
            settings["metadata"] = {GEOMETRY_KEY: image.geometry}
            layers.append((_smallest_labels(data), settings, "labels"))
        else:
            settings["metadata"] = {IMAGE_KEY: image}
            layers.append((data, settings, "image"))
    return layers


def _as_list(path: Path | Sequence[Path]) -> Sequence[Path]:
    return [path] if isinstance(path, str | os.PathLike) else path


def _smallest_labels(data: npt.NDArray[Any]) -> npt.NDArray[Any]:
    # napari draws uint8 labels many times faster than any other integers.
    fits = int(data.min()) >= 0 and int(data.max()) <= np.iinfo(np.uint8).max
    return data.astype(np.uint8, copy=False) if fits else data
