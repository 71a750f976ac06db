"""Which slices of a volume the user has marked for a 2-D model: by the view, and by a shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from napari.components import ViewerModel
from napari.layers import Image as ImageLayer
from napari.layers import Shapes

from napari_structseg.errors import InputError
from napari_structseg.models import ModelSpec
from napari_structseg.prediction.region_of_interest import AXES, RegionOfInterest
from napari_structseg.session.messages import View
from napari_structseg.session.state import SourceState
from napari_structseg.widgets.viewer.viewing import current_view, layer_spacing

WHOLE = "Whole slice"
# Edges that lie between two voxels do so only nearly, after a turn in the world.
_ROUNDING = 1e-3

# In the metadata of the layer with the box of the last picked place: whose image it is on.
_PLACE_KEY = "structseg place"
_BOX_COLOR = "#ffd23f"
_LINES_PER_SIDE = 300
_TRANSFORMS = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")

Box = tuple[tuple[int, int], tuple[int, int]]


def marked_roi(viewer: ViewerModel, layer: ImageLayer, source: SourceState) -> RegionOfInterest:
    """The slices of a volume that a 2-D model is to be applied to now.

    Parameters
    ----------
    viewer
        Its slice is the middle one, unless the state names slices.
    layer
        A volume.
    source
        How many slices, and which shapes layer marks a part of them.

    Raises
    ------
    InputError
        If the shape lies outside the image.
    """
    if source.roi is not None:
        return source.roi
    view = current_view(viewer.dims, layer)
    size = layer.data.shape[view.axis]
    count = min(source.n_slices, size)
    start = min(max(view.position - count // 2, 0), size - count)
    shapes = chosen_shapes(viewer, source)
    box = None if shapes is None else box_of_shapes(shapes, layer, view.axis)
    return RegionOfInterest(axis=AXES[view.axis], start=start, count=count, box=box)


def chosen_shapes(viewer: ViewerModel, source: SourceState) -> Shapes | None:
    """The shapes layer that marks a part of the slices; None: there is none, or it is gone."""
    named = (layer for layer in viewer.layers if layer.name == source.box)
    return next((layer for layer in named if isinstance(layer, Shapes)), None)


def box_of_shapes(shapes: Shapes, layer: ImageLayer, axis: int) -> Box:
    """The voxels of a slice that a shape covers, as its bounding box.

    Parameters
    ----------
    shapes
        The shape that is selected counts, or the last.
    layer
        A volume.
    axis
        Along which slices are counted.

    Raises
    ------
    InputError
        If there is no shape, or it lies outside the image.
    """
    if not shapes.data:
        raise InputError(
            f"{shapes.name!r} has no shape. Draw a rectangle in it, or choose {WHOLE!r}."
        )
    vertices = np.asarray(shapes.data[max(shapes.selected_data, default=-1)])
    # A layer's axes are the viewer's last ones.
    points = np.zeros((len(vertices), max(layer.ndim, shapes.ndim)))
    points[:, -shapes.ndim :] = [shapes.data_to_world(vertex) for vertex in vertices]
    index = np.array([layer.world_to_data(point[-layer.ndim :]) for point in points])
    sides: list[tuple[int, int]] = []
    for other in (one for one in range(layer.ndim) if one != axis):
        size = layer.data.shape[other]
        # A voxel reaches half its width beyond its centre.
        ends = np.array([index[:, other].min(), index[:, other].max()])
        start, stop = np.floor(ends + 0.5 + _ROUNDING)
        sides.append((min(max(int(start), 0), size), min(max(int(stop), 0), size)))
    rows, columns = sides
    if rows[0] == rows[1] or columns[0] == columns[1]:
        raise InputError(
            f"The shape in {shapes.name!r} must cover a part of the slice that is shown, but it "
            "covers none of it. Draw it in this view, over the image."
        )
    return rows, columns


def patch_on(layer: ImageLayer, spec: ModelSpec, view: View) -> tuple[int, ...]:
    """Size of a patch of training, in pixels of the slices of a layer."""
    if spec.spacing is None:
        return spec.patch
    ours = [layer_spacing(layer)[axis] for axis in view.plane(layer.ndim)]
    return tuple(
        round(size * theirs / own)
        for size, theirs, own in zip(spec.patch, spec.spacing, ours, strict=True)
    )


def add_box(
    viewer: ViewerModel, layer: ImageLayer, spec: ModelSpec, centre: npt.NDArray[Any], name: str
) -> Shapes:
    """Add a rectangle of the size that a model was trained on, on the slice that is shown.

    Parameters
    ----------
    viewer
        The new layer is selected, as napari does.
    layer
        A volume.
    spec
        Of the 2-D model.
    centre
        Of the box, as an index of the layer.
    name
        Of the new layer.
    """
    view = current_view(viewer.dims, layer)
    plane = [layer.data.shape[axis] for axis in view.plane(layer.ndim)]
    shapes: Shapes = viewer.add_shapes(
        [_corners(layer, spec, view, centre)],
        shape_type="rectangle",
        name=name,
        edge_color=_BOX_COLOR,
        face_color="transparent",
        edge_width=max(plane) / _LINES_PER_SIDE,
        **{each: getattr(layer, each) for each in _TRANSFORMS},
    )
    return shapes


def mark_place(
    viewer: ViewerModel,
    layer: ImageLayer,
    spec: ModelSpec,
    source: SourceState,
    index: Sequence[float],
) -> Shapes:
    """Mark the place around a voxel: the slice through it, and a box as large as a patch.

    The viewer shows that slice then; its camera and its selected layers stay as they are. The box
    of the place that was picked before moves there.

    Parameters
    ----------
    viewer, layer
        Which volume.
    spec
        Of the 2-D model.
    source
        Its box becomes this one.
    index
        Of the voxel.

    Raises
    ------
    InputError
        If it lies outside the image.
    """
    voxel = np.round(np.asarray(index, dtype=np.float64))
    if voxel.shape != (layer.ndim,) or not ((voxel >= 0) & (voxel < layer.data.shape)).all():
        raise InputError(
            f"A voxel of {layer.name!r}, which has the shape {layer.data.shape}, was expected, but "
            f"{tuple(map(float, index))} came. Choose a place inside the image."
        )
    view = current_view(viewer.dims, layer)
    if voxel[view.axis] != view.position:
        world = layer.data_to_world(voxel)
        offset = viewer.dims.ndim - layer.ndim
        viewer.dims.set_point(view.axis + offset, float(world[view.axis]))
    shapes = _place_of(viewer, layer)
    if shapes is None:
        selection, active = set(viewer.layers.selection), viewer.layers.selection.active
        shapes = add_box(viewer, layer, spec, voxel, f"Place in {layer.name}")
        shapes.metadata[_PLACE_KEY] = layer.name
        viewer.layers.selection.update(selection)
        viewer.layers.selection.intersection_update(selection)
        viewer.layers.selection.active = active
    else:
        view = current_view(viewer.dims, layer)
        for each in _TRANSFORMS:
            setattr(shapes, each, getattr(layer, each))
        shapes.data = [_corners(layer, spec, view, voxel)]
    source.update({"box": shapes.name, "roi": None})
    return shapes


def _place_of(viewer: ViewerModel, layer: ImageLayer) -> Shapes | None:
    """The layer with the box of the place that was picked last on an image."""
    known = (one for one in viewer.layers if one.metadata.get(_PLACE_KEY) == layer.name)
    return next((one for one in known if isinstance(one, Shapes)), None)


def _corners(
    layer: ImageLayer, spec: ModelSpec, view: View, centre: npt.NDArray[Any]
) -> npt.NDArray[np.float64]:
    """Of a box of a patch's size around a voxel, moved into the image: ``(4, ndim)`` indices."""
    rows, columns = view.plane(layer.ndim)
    corners = np.full((4, layer.ndim), float(view.position))
    for axis, wanted in zip((rows, columns), patch_on(layer, spec, view), strict=True):
        size = layer.data.shape[axis]
        length = min(wanted, size)
        start = min(max(round(centre[axis] - length / 2), 0), size - length)
        ends = (start - 0.5, start + length - 0.5)
        corners[:, axis] = np.repeat(ends, 2) if axis == rows else (*ends, *reversed(ends))
    return corners
