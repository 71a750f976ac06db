"""What the viewer shows, in the terms of the session: the view, and layers as images."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from napari.components import Dims
from napari.layers import Image as ImageLayer
from napari.layers import Layer

from napari_structseg.distributions import Region
from napari_structseg.errors import InputError
from napari_structseg.image import Image, channel_names
from napari_structseg.layer_geometry import (
    IMAGE_KEY,
    TRANSFORM_KEY,
    in_mm,
    layer_geometry,
    says_size,
)
from napari_structseg.session.messages import View


def current_view(dims: Dims, layer: Layer) -> View:
    """Which slice of a layer the viewer shows.

    Parameters
    ----------
    dims
        The viewer's dimensions, in any order, possibly more than the layer has.
    layer
        2-D or 3-D. Its axes are the viewer's last ones.
    """
    if layer.ndim == 2:
        return View()
    if dims.ndim < layer.ndim:
        # The layer was deleted, and nothing of its size is left in the viewer.
        return View(0, layer.data.shape[0] // 2)
    offset = dims.ndim - layer.ndim
    ours = [axis - offset for axis in dims.order if axis >= offset]
    # The first axis in the viewer's order is the one that a slider moves along in 2-D, and the
    # one along which thumbnails are cut in 3-D.
    axis = ours[0]
    position = round(float(layer.world_to_data(dims.point)[axis]))
    volume = axis + offset in dims.displayed
    return View(axis, min(max(position, 0), layer.data.shape[axis] - 1), volume)


def is_transposed(dims: Dims, layer: Layer, view: View) -> bool:
    """Whether the viewer shows the plane of a view with its two axes exchanged."""
    if dims.ndim < layer.ndim:
        return False
    offset = dims.ndim - layer.ndim
    rows, columns = (axis + offset for axis in view.plane(layer.ndim))
    order = list(dims.order)
    return order.index(rows) > order.index(columns)


def layer_transform(layer: Layer) -> npt.NDArray[np.float64]:
    """From a layer's voxels to napari's world in mm, ``(ndim + 1, ndim + 1)``."""
    origin = np.asarray(layer.data_to_world(np.zeros(layer.ndim)), dtype=np.float64)
    steps = [np.asarray(layer.data_to_world(unit)) - origin for unit in np.eye(layer.ndim)]
    world = np.eye(layer.ndim + 1)
    world[:-1] = np.column_stack([*steps, origin])
    return in_mm(world, layer.units)


def layer_spacing(layer: Layer) -> tuple[float, ...]:
    """Distance between voxel centres in mm along each axis, whatever moves the layer."""
    return tuple(map(float, np.linalg.norm(layer_transform(layer)[:-1, :-1], axis=0)))


def has_size(layer: Layer) -> bool:
    """Whether anybody has said how large the voxels of a layer are."""
    return says_size(layer_transform(layer), layer.units)


def image_of_layer(layer: ImageLayer) -> Image:
    """The image that a layer shows, with the geometry it was read with where that still holds.

    Voxels that this plugin did not read may be NaN: whoever computes with them calls
    :meth:`Image.check_finite`, in another thread than the one that paints.

    Raises
    ------
    InputError
        If the layer is RGB or multiscale, or has axes that no image may have.
    """
    if layer.rgb:
        raise InputError(
            f"{layer.name!r} is an RGB picture, but a model needs an image of measured "
            "intensities. Choose another layer, or split its colours into channels: right-click "
            "the layer, then Split RGB."
        )
    if layer.multiscale:
        raise InputError(
            f"{layer.name!r} is stored at several resolutions. Choose a layer with a single one, "
            "for example made of one of its levels."
        )
    known = layer.metadata.get(IMAGE_KEY)
    fits = isinstance(known, Image) and layer.data.shape == known.spatial_shape
    image: Image | None = known if fits else None
    transform = layer_transform(layer)
    geometry = layer_geometry(
        layer.data.shape,
        transform,
        has_spacing=says_size(transform, layer.units),
        opened=None if image is None else image.geometry,
        opened_transform=layer.metadata.get(TRANSFORM_KEY),
    )
    if image is not None and _shows(layer, image):
        # The same object as long as nothing moved: what was computed for it still holds.
        if geometry is image.geometry:
            return image
        return replace(image, geometry=geometry, checked=True)
    data = np.asarray(layer.data)[np.newaxis]
    return Image(data, geometry, channel_names(1), layer.name, checked=True)


def grey_picture(
    layer: ImageLayer, view: View, size: int, region: Region | None = None
) -> npt.NDArray[np.uint8]:
    """The slice of a layer as it is in the thumbnails, ``(h, w)``, 0 to 255.

    Parameters
    ----------
    layer
        With its contrast limits.
    view
        Which slice.
    size
        Largest side of a thumbnail, as in the request that the thumbnails answer.
    region
        The part of the layer that is pictured; None: all of it.
    """
    index: list[Any] = list(region or [slice(None)] * layer.ndim)
    if layer.ndim == 3:
        index[view.axis] = view.position
    plane = np.asarray(layer.data[tuple(index)])
    step = max(1, -(-max(plane.shape) // size))
    thinned = plane[::step, ::step].astype(np.float32)
    low, high = layer.contrast_limits
    scaled = (thinned - low) / max(high - low, np.finfo(np.float32).tiny)
    picture: npt.NDArray[np.uint8] = (255 * np.clip(scaled, 0, 1)).astype(np.uint8)
    return picture


def _shows(layer: ImageLayer, image: Image) -> bool:
    """Whether a layer still shows one of an image's channels, unaltered."""
    return isinstance(layer.data, np.ndarray) and np.may_share_memory(layer.data, image.data)
