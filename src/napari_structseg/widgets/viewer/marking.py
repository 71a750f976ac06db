"""Which slices of a volume the user has marked for a 2-D model: by the view, and by a shape."""

from __future__ import annotations

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image as ImageLayer
from napari.layers import Shapes

from napari_structseg.errors import InputError
from napari_structseg.prediction.region_of_interest import AXES, RegionOfInterest
from napari_structseg.session.state import SourceState
from napari_structseg.widgets.viewer.viewing import current_view

WHOLE = "Whole slice"
# Edges that lie between two voxels do so only nearly, after a turn in the world.
_ROUNDING = 1e-3

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
