"""napari saves labels layers as NIfTI through this module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_structseg.errors import InputError
from napari_structseg.geometry import Geometry
from napari_structseg.image import SPATIAL_NDIMS, Image
from napari_structseg.io.nifti import write_volume
from napari_structseg.layer_geometry import (
    GEOMETRY_KEY,
    IMAGE_KEY,
    SAVED_KEY,
    TRANSFORM_KEY,
    layer_geometry,
    says_size,
    transform_of_settings,
)


def write_labels(
    path: str, data: npt.NDArray[Any] | Sequence[npt.ArrayLike], meta: Mapping[str, Any]
) -> list[str]:
    """Save a labels layer as NIfTI.

    Labels of an image that the plugin knows go on the grid of the image's file, moved by as much
    as the layer was moved since. Any other layer lies where napari shows it: its axes Z, Y, X are
    taken as superior, anterior and right.

    Parameters
    ----------
    path
        Ends in .nii or .nii.gz.
    data
        The layer's labels, between 0 and 255; of a multiscale layer, the first level is saved.
    meta
        The layer's attributes, as napari hands them to writers.

    Returns
    -------
    paths
        What was written.

    Raises
    ------
    InputError
        If the labels do not fit into uint8 or the image's grid, or the layer's transform cannot
        place voxels.
    """
    labels = np.asarray(data[0] if meta.get("multiscale") else data)
    if labels.ndim not in SPATIAL_NDIMS:
        raise InputError(
            f"Layer {meta.get('name', 'labels')!r} must have 2 or 3 axes to be saved as NIfTI, but "
            f"its shape is {labels.shape}. Save one time point or channel of it at a time."
        )
    transform = transform_of_settings(meta, labels.ndim)
    metadata = meta.get("metadata", {})
    geometry = layer_geometry(
        labels.shape,
        transform,
        has_spacing=says_size(transform, meta.get("units", ())),
        opened=_opened(metadata),
        opened_transform=metadata.get(TRANSFORM_KEY),
    )
    write_volume(path, labels, geometry, dtype=np.uint8)
    on_written = metadata.get(SAVED_KEY)
    if callable(on_written):
        on_written(data)
    return [path]


def _opened(metadata: Mapping[str, Any]) -> Geometry | None:
    geometry = metadata.get(GEOMETRY_KEY)
    if isinstance(geometry, Geometry):
        return geometry
    image = metadata.get(IMAGE_KEY)
    return image.geometry if isinstance(image, Image) else None
