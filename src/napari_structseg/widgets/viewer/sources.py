"""Which layers of a viewer can be segmented, and which of them is chosen."""

from __future__ import annotations

from napari.components import ViewerModel
from napari.layers import Image as ImageLayer

from napari_structseg.session.state import SourceState
from napari_structseg.widgets.viewer.layer_making import RESULT_KEY


def source_layers(viewer: ViewerModel) -> list[ImageLayer]:
    """Image layers of a viewer that are not the plugin's own, from the bottom up."""
    return [
        layer
        for layer in viewer.layers
        if isinstance(layer, ImageLayer) and RESULT_KEY not in layer.metadata
    ]


def image_layer_of(viewer: ViewerModel, source: SourceState) -> ImageLayer | None:
    """The image layer that is chosen; None: there is none of that name."""
    named = (layer for layer in source_layers(viewer) if layer.name == source.image)
    return next(named, None)
