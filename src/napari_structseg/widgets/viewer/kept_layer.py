"""A labelling that is kept as a layer of its own, when what it was chosen from goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from napari.components import ViewerModel

from napari_structseg.layer_geometry import GEOMETRY_KEY, TRANSFORM_KEY
from napari_structseg.models import ClassSpec
from napari_structseg.widgets.parts.colors import (
    LABEL_OPACITY,
    display_name,
    label_colormap,
    label_colors,
)
from napari_structseg.widgets.viewer.layers import ResultLayers
from napari_structseg.widgets.viewer.segmentation import Labels, tell_when_saved

# In a layer's metadata: by which model and controls its labels were made.
MADE_BY_KEY = "structseg_made_by"


def add_kept_layer(  # noqa: PLR0917 -- what a layer is made of
    viewer: ViewerModel,
    layers: ResultLayers,
    labels: npt.NDArray[np.uint8],
    classes: Sequence[ClassSpec],
    name: str,
    made_by: dict[str, Any],
) -> Labels:
    """Add a hidden, ordinary labels layer below the result layers; it can be painted on.

    Parameters
    ----------
    viewer
        Where to.
    layers
        Of the same image: the layer lies as they do, and is saved on the same grid.
    labels
        ``(*spatial)``.
    classes
        For its colours.
    name
        What it is called.
    made_by
        Goes into its metadata.
    """
    like = layers.segmentation
    geometry = {key: like.metadata[key] for key in (GEOMETRY_KEY, TRANSFORM_KEY)}
    colors = label_colors(classes)
    layer = Labels(
        labels,
        name=name,
        opacity=LABEL_OPACITY,
        visible=False,
        scale=like.scale,
        translate=like.translate,
        rotate=like.rotate,
        shear=like.shear,
        affine=like.affine,
        units=like.units,
        axis_labels=like.axis_labels,
        features={"class": [display_name(one) for one in classes]},
        colormap=label_colormap(colors, (1.0,) * len(classes)),
        metadata={**geometry, MADE_BY_KEY: made_by},
    )
    tell_when_saved(layer)
    present = viewer.layers
    selected, active = set(present.selection), present.selection.active
    below = [present.index(one) for one in layers.all if one in present]
    present.insert(min(below, default=len(present)), layer)
    # napari selects what is added; the selection is the user's.
    present.selection.clear()
    present.selection.update(selected)
    present.selection.active = active
    return layer
