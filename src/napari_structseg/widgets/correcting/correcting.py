"""Strokes and results of all images of one viewer, and which of them is worked on."""

from __future__ import annotations

from typing import Any

from napari_structseg.distributions import Strokes
from napari_structseg.session.history import History
from napari_structseg.session.undo_order import UndoOrder
from napari_structseg.widgets.controller import Controller
from napari_structseg.widgets.correcting.book import Book
from napari_structseg.widgets.correcting.places import Places
from napari_structseg.widgets.correcting.regions import Regions
from napari_structseg.widgets.correcting.resulting import Resulting
from napari_structseg.widgets.correcting.safety import Safety
from napari_structseg.widgets.correcting.stroking import Stroking
from napari_structseg.widgets.exploration import Exploration
from napari_structseg.widgets.threads.serial import Serial


class Correcting:
    """What is said and kept by hand, shared by all docks of a viewer.

    Parameters
    ----------
    controller
        Knows what is shown.
    history
        Of the sliders, which are undone in one order with corrections.
    """

    def __init__(self, controller: Controller, history: History) -> None:
        self._controller = controller
        self._history = history
        self._orders: dict[Book, UndoOrder] = {}
        say, fail = controller.said.emit, controller.failed.emit
        self._books: list[Book] = []
        self._actions = Serial("structseg-correct")
        self.safety = Safety(self._actions, controller.state, say, fail)
        self.result = Resulting(controller.viewer, self._actions, self.safety, say, fail)
        self.safety.restored.connect(self._on_restored)
        self.strokes = Stroking(
            controller.viewer, controller.state.correction, say, self.result.undo, self.result.redo
        )
        self.regions = Regions(controller.viewer)
        self.places = Places(controller.viewer, controller.state, say, fail)
        controller.received.connect(self.places.receive)
        self.strokes.committed.connect(self.result.record_strokes)
        self.result.took_back.connect(self._on_took_back)
        controller.adopted.connect(self._on_adopted)
        controller.viewer.layers.events.removed.connect(self._on_removed)
        if controller.current is not None:
            self._on_adopted(controller.current, is_continued=False)

    @property
    def book(self) -> Book | None:
        """What belongs to the image that is shown; None: nothing is shown."""
        return self.result.book

    @property
    def order(self) -> UndoOrder | None:
        """In which order sliders and corrections of what is shown are undone."""
        return None if self.book is None else self._orders.get(self.book)

    @property
    def exploration(self) -> Exploration | None:
        """What is shown."""
        return self._controller.current

    def is_busy(self) -> bool:
        """Whether anything that was painted or asked for is not done yet."""
        parts = (self.result, self.places, self._actions)
        return self.strokes.is_reading or any(part.is_busy() for part in parts)

    def unsaved(self) -> list[str]:
        """Corrections that are in no file, in words."""
        return [
            f"the result of {book.image_layer.name}"
            for book in self._books
            if self.safety.is_unsaved(book)
        ]

    def close(self) -> None:
        """Let go of the viewer; its layers stay."""
        self._controller.adopted.disconnect(self._on_adopted)
        self._controller.received.disconnect(self.places.receive)
        self._controller.viewer.layers.events.removed.disconnect(self._on_removed)
        self.strokes.close()
        self.places.close()
        self.result.close()
        self.safety.close()
        self._actions.close()
        for book in self._books:
            for layer in book.layers:
                layer.touched = layer.painted = layer.undone = layer.redone = None
        for order in self._orders.values():
            order.close()
        self._orders.clear()
        self._books.clear()

    def _on_adopted(self, exploration: Exploration | None, is_continued: bool) -> None:
        if exploration is not None and is_continued:
            self._open(self.book, exploration)
            return
        book = None if exploration is None else self._book_of(exploration)
        if book is not None and exploration is not None:
            self.safety.open(book, exploration)
        if book is not self.book:
            if self.book is not None:
                self.book.hide()
            if book is not None:
                book.bring_back()
        self._open(book, exploration)

    def _open(self, book: Book | None, exploration: Exploration | None) -> None:
        is_same = book is self.book
        for part in (self.result, self.regions, self.strokes):
            part.open(book, exploration)
        self.places.open(exploration, is_same=is_same)

    def _book_of(self, exploration: Exploration) -> Book:
        for book in self._books:
            if book.is_for(exploration):
                return book
        book = Book.of(exploration)
        self.result.listen_to(book)
        self._orders[book] = UndoOrder(self._history, book.correction)
        self._books.append(book)
        return book

    def _on_restored(self, book: Book) -> None:
        self._orders.pop(book).close()
        self._orders[book] = UndoOrder(self._history, book.correction)
        self.result.take_over(book)

    def _on_took_back(self, book: Book, strokes: Strokes) -> None:
        if book is self.book:
            self.strokes.show(strokes)
        else:
            book.strokes = strokes

    def _on_removed(self, event: Any) -> None:  # noqa: ANN401 -- napari's events are untyped
        for book in self._books:
            if event.value is book.strokes_layer and book is self.book:
                book.strokes_layer = None
                self.strokes.clear()
            book.forget_deleted(self._controller.viewer)
        viewer = self._controller.viewer
        self._books = [
            one for one in self._books if one.image_layer in viewer.layers or one is self.book
        ]
        self.result.changed.emit()
        self.regions.changed.emit()
