"""The model and the result lie over each other: one of them is seen at a time, or both."""

from __future__ import annotations

from typing import Literal

from napari.layers import Layer
from psygnal import Signal

from napari_structseg.widgets.correcting.book import Book
from napari_structseg.widgets.exploration import Exploration

Side = Literal["model", "result", "both"]


class Sides:
    """Shows and hides layers; which of them are visible is all that it knows.

    ``changed()`` is emitted when another of them is seen, also by a click on an eye in napari's
    list of layers.
    """

    changed = Signal()

    def __init__(self) -> None:
        self._book: Book | None = None
        self._exploration: Exploration | None = None
        self._watched: tuple[Layer, ...] = ()
        self._told: tuple[bool, Side | None] = False, None

    def open(self, book: Book | None, exploration: Exploration | None) -> None:
        """Look at what is shown of an image, and at its result."""
        self._book, self._exploration = book, exploration
        self.watch()

    def watch(self) -> None:
        """Follow the layers that there are now."""
        book, shown = self._book, self._exploration
        result = None if book is None else book.result_layer
        layers = (*(() if shown is None else shown.layers.all), result)
        there = tuple(layer for layer in layers if layer is not None)
        # While a slider moves, nothing of it changes.
        if there != self._watched:
            for layer in self._watched:
                layer.events.visible.disconnect(self._on_visible)
            for layer in there:
                layer.events.visible.connect(self._on_visible)
            self._watched = there
        now = self.has_both, self.side
        if now != self._told:
            self._told = now
            self.changed.emit()

    @property
    def has_both(self) -> bool:
        """Whether there is a result over what a model shows."""
        return self._result is not None and bool(self._model)

    @property
    def side(self) -> Side | None:
        """What is seen; None: neither."""
        is_model = any(layer.visible for layer in self._model)
        is_result = self._result is not None and self._result.visible
        if is_model and is_result:
            return "both"
        return "model" if is_model else "result" if is_result else None

    def choose(self, side: Side) -> None:
        """Show one of them alone, or both."""
        for layer in self._model:
            layer.visible = side != "result"
        if self._result is not None:
            self._result.visible = side != "model"

    def toggle(self) -> None:
        """Show the other one; after both, the result."""
        if self.has_both:
            self.choose("model" if self.side == "result" else "result")

    def close(self) -> None:
        """Let go of the layers."""
        self.open(None, None)

    @property
    def _model(self) -> tuple[Layer, ...]:
        return () if self._exploration is None else self._exploration.layers.pictured

    @property
    def _result(self) -> Layer | None:
        return None if self._book is None else self._book.result_layer

    def _on_visible(self, _event: object = None) -> None:
        self.watch()
