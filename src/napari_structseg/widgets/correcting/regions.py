"""A region that the user marks by hand: to accept, to lock, or to ask about."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from napari.components import ViewerModel
from psygnal import Signal

from napari_structseg.widgets.correcting.book import Book
from napari_structseg.widgets.exploration import Exploration
from napari_structseg.widgets.viewer.own_layers import add_above, make_region_layer
from napari_structseg.widgets.viewer.painted import Labels


class Regions:
    """The layer Region: what is painted in it is the region.

    ``changed()`` is emitted when something was painted, or the layer came or went.

    Parameters
    ----------
    viewer
        Where the layer goes.
    """

    changed = Signal()

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self.book: Book | None = None
        self._exploration: Exploration | None = None

    def open(self, book: Book | None, exploration: Exploration | None) -> None:
        """Mark in an image."""
        self.book, self._exploration = book, exploration
        self.changed.emit()

    @property
    def layer(self) -> Labels | None:
        """Where the region is painted; None: nowhere yet."""
        return None if self.book is None else self.book.region_layer

    @property
    def is_marked(self) -> bool:
        """Whether anything is marked."""
        return self.layer is not None and bool(self.layer.data.any())

    def begin(self, mode: str = "paint") -> None:
        """Select the layer, and a tool of napari: brush or polygon."""
        book, shown = self.book, self._exploration
        if book is None or shown is None:
            return
        layer = book.region_layer
        if layer is None:
            layer = book.region_layer = make_region_layer(shown.layers)
            layer.painted = lambda _voxels, _values: self.changed.emit()
            # Its marks are no work: napari's own undo takes them back.
            layer.keeps_own_undo = True
            add_above(self._viewer, layer, (book.image_layer, *shown.layers.all, *book.layers))
        layer.visible = True
        self._viewer.layers.selection.active = layer
        layer.mode = mode

    def mask(self) -> npt.NDArray[np.bool_] | None:
        """The region as it is now, ``(*spatial)``; None: there is none."""
        if self.layer is None or not self.is_marked:
            return None
        marked: npt.NDArray[np.bool_] = np.asarray(self.layer.data) != 0
        return marked

    def clear(self) -> None:
        """Take the layer away."""
        layer = self.layer
        if layer is not None and self.book is not None:
            self.book.region_layer = None
            self._viewer.layers.remove(layer)
            self.changed.emit()
