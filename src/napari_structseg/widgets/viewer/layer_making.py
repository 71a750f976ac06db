"""The plugin's own layers as they begin: empty, placed as the image layer is, marked as ours."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Image as ImageLayer
from napari.layers import Layer, Vectors

from napari_structseg.geometry import Geometry
from napari_structseg.layer_geometry import GEOMETRY_KEY, TRANSFORM_KEY
from napari_structseg.widgets.parts.colors import LABEL_OPACITY, change_colormap
from napari_structseg.widgets.viewer.line_mesh import line_arrays
from napari_structseg.widgets.viewer.segmentation import Labels, tell_when_saved
from napari_structseg.widgets.viewer.viewing import layer_transform

# In a layer's metadata: it is the plugin's, and no image to run a model on.
RESULT_KEY = "structseg_result"
# Lines are as thick as if the image's longer side had this many of them beside each other.
_LINES_PER_SIDE = 420


class LayerMaking:
    """Makes layers for the results of one image.

    Parameters
    ----------
    beside
        The image layer, whose transforms they get.
    geometry
        Of the image, for saving.
    """

    def __init__(self, beside: Layer, geometry: Geometry) -> None:
        self._shape = tuple(beside.data.shape)
        self._common: dict[str, Any] = {
            "scale": beside.scale,
            "translate": beside.translate,
            "rotate": beside.rotate,
            "shear": beside.shear,
            "affine": beside.affine,
            "units": beside.units,
            "axis_labels": beside.axis_labels,
            "metadata": {
                RESULT_KEY: True,
                GEOMETRY_KEY: geometry,
                TRANSFORM_KEY: layer_transform(beside),
            },
        }

    def segmentation(self) -> Labels:
        """Labels, all background."""
        layer = Labels(
            np.zeros(self._shape, np.uint8),
            name="Segmentation",
            opacity=LABEL_OPACITY,
            **self._common,
        )
        # What is painted here is gone with the next slider move: painting is for a copy.
        layer.editable = False
        tell_when_saved(layer)
        return layer

    def uncertainty(self) -> ImageLayer:
        """Entropy or agreement, hidden."""
        return ImageLayer(
            np.zeros(self._shape, np.float32),
            name="Uncertainty",
            contrast_limits=(0, 1),
            visible=False,
            **self._common,
        )

    def lines(self) -> Vectors:
        """Outlines or contours, none yet, hidden."""
        no_vectors, no_colors = line_arrays(len(self._shape), 0)
        return Vectors(
            no_vectors,
            edge_color=no_colors,
            ndim=len(self._shape),
            name="Lines",
            vector_style="line",
            length=1,
            edge_width=max(self._shape[-2:]) / _LINES_PER_SIDE,
            opacity=1,
            visible=False,
            **self._common,
        )

    def changes(self) -> ImageLayer:
        """Marks of changed labels, hidden."""
        return ImageLayer(
            np.zeros(self._shape, np.uint8),
            name="Changes",
            contrast_limits=(0, 1),
            colormap=change_colormap(),
            visible=False,
            **self._common,
        )
