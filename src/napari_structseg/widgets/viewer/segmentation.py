"""The labels layer of the plugin: what leaves it is one whole labelling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import napari.layers
import numpy as np
import numpy.typing as npt

from napari_structseg.layer_geometry import SAVED_KEY

WholeLabels = Callable[[], "npt.NDArray[np.uint8] | None"]


# napari tells kinds of layers by the name of their class.
class Labels(napari.layers.Labels):  # type: ignore[misc]  # napari is untyped
    """Labels that are written slice by slice while somebody looks at them.

    Soon after a change only the visible slice shows what is chosen, and other slices something
    older. napari asks for the layer's data where it saves or duplicates the layer: then the labels
    of the whole image are computed first, so that no mixture is ever written or copied.

    Attributes
    ----------
    whole
        Gives all labels that are chosen now, or None where the layer has them. It raises an
        InputError where they cannot be had yet.
    saved
        Called when a file holds the data, see :func:`tell_when_saved`.
    """

    whole: WholeLabels | None = None
    saved: Callable[[], None] | None = None

    def as_layer_data_tuple(self) -> tuple[Any, ...]:
        """Data, attributes and type, as napari saves and duplicates a layer."""
        labels = None if self.whole is None else self.whole()
        if labels is not None:
            self.data[...] = labels
            self.refresh(extent=False, highlight=False)
        given: tuple[Any, ...] = super().as_layer_data_tuple()
        return given


def tell_when_saved(layer: Labels) -> None:
    """Call :attr:`Labels.saved` when napari has saved the layer as NIfTI.

    A duplicate of the layer has the same metadata, but other data: nothing is told of it.
    """

    def on_written(data: object) -> None:
        if data is layer.data and layer.saved is not None:
            layer.saved()

    layer.metadata[SAVED_KEY] = on_written
