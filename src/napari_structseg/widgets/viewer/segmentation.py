"""The labels layer of the plugin: what leaves it is one whole labelling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import napari.layers
import numpy as np
import numpy.typing as npt

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
    """

    whole: WholeLabels | None = None

    def as_layer_data_tuple(self) -> tuple[Any, ...]:
        """Data, attributes and type, as napari saves and duplicates a layer."""
        labels = None if self.whole is None else self.whole()
        if labels is not None:
            self.data[...] = labels
            self.refresh(extent=False, highlight=False)
        given: tuple[Any, ...] = super().as_layer_data_tuple()
        return given
