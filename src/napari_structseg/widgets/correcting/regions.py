"""A region that the user marks by hand: to accept, to lock, or to ask about."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt
from napari.components import ViewerModel
from psygnal import Signal

from napari_structseg.distributions import Region
from napari_structseg.widgets.correcting.book import Book, layers_below
from napari_structseg.widgets.exploration import Exploration
from napari_structseg.widgets.viewer.box_drawing import BoxDrawing
from napari_structseg.widgets.viewer.own_layers import add_above, make_region_layer
from napari_structseg.widgets.viewer.painted import Labels
from napari_structseg.widgets.viewer.viewing import current_view


class Regions:
    """The layer Region: what is painted in it is the region.

    ``changed()`` is emitted when something was painted, or the layer came or went.

    Parameters
    ----------
    viewer
        Where the layer goes.
    say
        Called with what the user should know.
    """

    changed = Signal()

    def __init__(self, viewer: ViewerModel, say: Callable[[str], object]) -> None:
        self._viewer, self._say = viewer, say
        self._drawing: BoxDrawing | None = None
        # Where a box is shown while it is drawn, and what was there before.
        self._preview: tuple[Labels, Region, npt.NDArray[np.uint8]] | None = None
        self.book: Book | None = None
        self._exploration: Exploration | None = None

    def open(self, book: Book | None, exploration: Exploration | None) -> None:
        """Mark in an image."""
        if book is not self.book:
            self.stop_drawing()
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
        layer = self._selected()
        if layer is not None:
            layer.mode = mode

    def begin_box(self, n_slices: int = 1) -> None:
        """Wait for a drag of the mouse: the box between its corners is marked, too.

        Parameters
        ----------
        n_slices
            Through how many slices it reaches, around the one that is shown; cut at the ends of
            the image.
        """
        layer = self._selected()
        if layer is None:
            return
        if self._viewer.dims.ndisplay != 2:
            self._say("A box is drawn on slices: leave the 3-D view first")
            return
        self._drawing = BoxDrawing(
            self._viewer, layer, partial(self._on_box, layer, n_slices), self.stop_drawing
        )
        self._say("Drag from corner to corner, or press Escape")
        self.changed.emit()

    @property
    def is_drawing(self) -> bool:
        """Whether a box is waited for."""
        return self._drawing is not None

    def stop_drawing(self) -> None:
        """Wait for no box."""
        drawing, self._drawing = self._drawing, None
        if drawing is not None:
            self._take_preview_off()
            drawing.close()
            self.changed.emit()

    def mask(self) -> npt.NDArray[np.bool_] | None:
        """The region as it is now, ``(*spatial)``; None: there is none."""
        if self.layer is None or not self.is_marked:
            return None
        marked: npt.NDArray[np.bool_] = np.asarray(self.layer.data) != 0
        return marked

    def clear(self) -> None:
        """Mark nothing, and hide the layer; napari takes long to remove one and to add it again."""
        self.stop_drawing()
        layer = self.layer
        if layer is not None:
            layer.visible = False
            layer.data[...] = 0
            layer.refresh(extent=False, highlight=False)
            self.changed.emit()

    def close(self) -> None:
        """Let go of the viewer."""
        self.stop_drawing()
        self.book = self._exploration = None

    def _selected(self) -> Labels | None:
        """The layer, made where there is none, and selected; None: there is no image."""
        book, shown = self.book, self._exploration
        if book is None:
            return None
        self.stop_drawing()
        layer = book.region_layer
        if layer is None:
            layer = book.region_layer = make_region_layer(book.like(shown))
            layer.painted = lambda _voxels, _values: self.changed.emit()
            # Its marks are no work: napari's own undo takes them back.
            layer.keeps_own_undo = True
            add_above(self._viewer, layer, (*layers_below(book, shown), *book.layers))
        layer.visible = True
        self._viewer.layers.selection.active = layer
        return layer

    def _on_box(self, layer: Labels, n_slices: int, box: Region | None, is_last: bool) -> None:
        self._take_preview_off()
        if box is None:
            return
        if not is_last:
            self._preview = layer, box, layer.data[box].copy()
            layer.write(box, np.ones_like(self._preview[2]))
            return
        if len(box) == 3:
            axis = current_view(self._viewer.dims, layer).axis
            size = layer.data.shape[axis]
            count = min(n_slices, size)
            start = min(max(box[axis].start - count // 2, 0), size - count)
            box = (*box[:axis], slice(start, start + count), *box[axis + 1 :])
        layer.write(box, np.ones_like(layer.data[box]))
        self.stop_drawing()

    def _take_preview_off(self) -> None:
        if self._preview is not None:
            layer, box, before = self._preview
            self._preview = None
            layer.write(box, before)
