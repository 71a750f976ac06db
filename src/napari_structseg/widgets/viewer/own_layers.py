"""The two layers that are the user's own: strokes, and the result."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from napari.components import ViewerModel
from napari.layers import Layer
from napari.utils.colormaps import DirectLabelColormap

from napari_structseg.layer_geometry import GEOMETRY_KEY, TRANSFORM_KEY
from napari_structseg.models import ClassSpec
from napari_structseg.widgets.parts.colors import (
    LABEL_OPACITY,
    display_name,
    label_colormap,
    label_colors,
    stroke_colormap,
    stroke_colors,
)
from napari_structseg.widgets.viewer.layer_making import RESULT_KEY
from napari_structseg.widgets.viewer.painted import Labels

_STROKE_OPACITY = 0.9
_STROKE_BRUSH = 3
_RESULT_BRUSH = 8
_REGION_BRUSH = 20
_REGION_COLOR = (1.0, 0.82, 0.25, 1.0)
_REGION_OPACITY = 0.35
_CHANGED_COLOR = (0.22, 1.0, 0.08, 1.0)


def make_strokes_layer(like: Layer, classes: Sequence[ClassSpec]) -> Labels:
    """An empty layer of strokes: 0 where nothing was said, k + 1 for class k.

    Parameters
    ----------
    like
        Of the same image: it lies as this does, and is saved on the same grid.
    classes
        In whose colours is painted.
    """
    layer = _make(like, np.zeros(like.data.shape, np.uint8), "Strokes")
    layer.colormap = stroke_colormap(stroke_colors(classes))
    layer.features = {"class": ["", *(display_name(one) for one in classes)]}
    layer.opacity = _STROKE_OPACITY
    layer.brush_size = _STROKE_BRUSH
    layer.selected_label = 1
    return layer


def make_result_layer(
    like: Layer, classes: Sequence[ClassSpec], labels: npt.NDArray[np.uint8]
) -> Labels:
    """A layer of the user's own labels, which is painted on with napari's own tools.

    Parameters
    ----------
    like
        As in :func:`make_strokes_layer`.
    classes
        For its colours.
    labels
        ``(*spatial)``. The layer has a copy.
    """
    layer = _make(like, labels.copy(), "Result")
    layer.colormap = label_colormap(label_colors(classes), (1.0,) * len(classes))
    layer.features = {"class": [display_name(one) for one in classes]}
    layer.brush_size = _RESULT_BRUSH
    layer.selected_label = min(1, len(classes) - 1)
    return layer


def make_region_layer(like: Layer) -> Labels:
    """An empty layer in which a region is marked: 1 inside."""
    layer = _make(like, np.zeros(like.data.shape, np.uint8), "Region")
    table: dict[int | None, npt.NDArray[np.float32]] = {
        0: np.zeros(4, np.float32),
        1: np.array(_REGION_COLOR, np.float32),
        None: np.zeros(4, np.float32),
    }
    layer.colormap = DirectLabelColormap(color_dict=table)
    layer.opacity = _REGION_OPACITY
    layer.brush_size = _REGION_BRUSH
    layer.selected_label = 1
    return layer


def make_improved_layer(
    like: Layer, classes: Sequence[ClassSpec], labels: npt.NDArray[np.uint8]
) -> Labels:
    """A layer of what other weights predict, to be looked at beside the segmentation."""
    layer = _make(like, labels, "Improved")
    layer.colormap = label_colormap(label_colors(classes), (1.0,) * len(classes))
    layer.features = {"class": [display_name(one) for one in classes]}
    layer.editable = False
    return layer


def make_changed_layer(like: Layer, changed: npt.NDArray[np.bool_]) -> Labels:
    """A layer of the voxels that have another label: 1 there."""
    layer = _make(like, changed.astype(np.uint8), "Changed by fine-tuning")
    table: dict[int | None, npt.NDArray[np.float32]] = {
        0: np.zeros(4, np.float32),
        1: np.array(_CHANGED_COLOR, np.float32),
        None: np.zeros(4, np.float32),
    }
    layer.colormap = DirectLabelColormap(color_dict=table)
    layer.contour = 1
    layer.opacity = 1
    layer.editable = False
    return layer


def add_above(viewer: ViewerModel, layer: Layer, below: Sequence[Layer]) -> None:
    """Put a layer above some others; the selection stays the user's."""
    present = viewer.layers
    selected, active = set(present.selection), present.selection.active
    present.insert(
        1 + max((present.index(one) for one in below if one in present), default=-1), layer
    )
    # napari selects what is added.
    present.selection.clear()
    present.selection.update(selected)
    present.selection.active = active


def _make(like: Layer, labels: npt.NDArray[np.uint8], name: str) -> Labels:
    return Labels(
        labels,
        name=name,
        opacity=LABEL_OPACITY,
        scale=like.scale,
        translate=like.translate,
        rotate=like.rotate,
        shear=like.shear,
        affine=like.affine,
        units=like.units,
        axis_labels=like.axis_labels,
        metadata={
            RESULT_KEY: True,
            **{key: like.metadata[key] for key in (GEOMETRY_KEY, TRANSFORM_KEY)},
        },
    )
