"""Strokes and results of all images of one viewer, and which of them is worked on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari.layers import Image as ImageLayer
from psygnal import Signal

from napari_structseg.correction.folders import look_at
from napari_structseg.distributions import Strokes
from napari_structseg.image import Image
from napari_structseg.session.history import History
from napari_structseg.session.messages import Request
from napari_structseg.session.undo_order import UndoOrder
from napari_structseg.widgets.controller import Controller
from napari_structseg.widgets.correcting.book import Book
from napari_structseg.widgets.correcting.places import Places
from napari_structseg.widgets.correcting.recovery import Recovery
from napari_structseg.widgets.correcting.regions import Regions
from napari_structseg.widgets.correcting.resulting import Resulting
from napari_structseg.widgets.correcting.safety import Safety
from napari_structseg.widgets.correcting.sides import Sides
from napari_structseg.widgets.correcting.stroking import Stroking
from napari_structseg.widgets.correcting.taking_up import take_up
from napari_structseg.widgets.exploration import Exploration
from napari_structseg.widgets.parts.colors import display_name
from napari_structseg.widgets.threads.serial import Serial


class Correcting:
    """What is said and kept by hand, shared by all docks of a viewer.

    ``opened(is_continued)`` is emitted when another book is worked on, or something else is shown
    of its image; continued: what was shown has grown.

    Parameters
    ----------
    controller
        Knows what is shown.
    history
        Of the sliders, which are undone in one order with corrections.
    """

    opened = Signal(bool)

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
        self.regions = Regions(controller.viewer, say)
        self.places = Places(controller.viewer, controller.state, say, fail)
        self.sides = Sides()
        self.result.changed.connect(self.sides.watch)
        controller.asked.connect(self._on_asked)
        self.recovery = Recovery(controller.viewer, fail)
        self.recovery.wanted.connect(self._on_wanted)
        controller.received.connect(self.places.receive)
        self.strokes.committed.connect(self.result.record_strokes)
        self.result.took_back.connect(self._on_took_back)
        controller.adopted.connect(self._on_adopted)
        controller.state.settled.connect(self._on_settled)
        controller.viewer.layers.events.removed.connect(self._on_removed)
        if controller.current is not None:
            self._on_adopted(controller.current, is_continued=False)

    @property
    def book(self) -> Book | None:
        """What belongs to the image that is worked on; None: nothing is shown of any."""
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
        parts = (self.result, self.places, self.recovery, self._actions)
        return self.strokes.is_reading or any(part.is_busy() for part in parts)

    def after_all(self, call: Callable[[], object]) -> None:
        """Call something in the main thread when all that was asked for before is done."""
        if self._actions.is_busy():
            self._actions.do(lambda: None, lambda _error: call())
        else:
            call()

    def read(self, work: Callable[[], object], done: Callable[[Exception | None], object]) -> None:
        """Look at corrections in the thread that changes them, after all that was asked for.

        Parameters
        ----------
        work
            Called in that thread.
        done
            Called in the main thread afterwards, with the error that it has raised.
        """
        self._actions.do(work, done)

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
        self._controller.state.settled.disconnect(self._on_settled)
        self._controller.asked.disconnect(self._on_asked)
        self._controller.received.disconnect(self.places.receive)
        self._controller.viewer.layers.events.removed.disconnect(self._on_removed)
        self.strokes.close()
        self.regions.close()
        self.sides.close()
        self.places.close()
        self.result.close()
        self.recovery.close()
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
            self._open(self.book, exploration, is_continued=True)
        elif exploration is None:
            self._open(self._book_on(self._controller.image_layer), None)
        else:
            book = self._book_of(exploration)
            self.safety.open(book, exploration)
            self._open(book, exploration)

    def _on_asked(self, _request: Request) -> None:
        # Another layer may show the model now.
        self.sides.watch()

    def _on_settled(self, touched: frozenset[str]) -> None:
        """Another image was chosen; where nothing is shown of it, its book is there."""
        if "source.image" in touched and self.exploration is None:
            book = self._book_on(self._controller.image_layer)
            if book is not self.book:
                self._open(book, None)

    def _open(
        self, book: Book | None, exploration: Exploration | None, *, is_continued: bool = False
    ) -> None:
        before = self.book
        if book is not before:
            if before is not None:
                before.hide()
            if book is not None:
                book.bring_back()
                # The one that was worked on last comes last.
                self._books.sort(key=lambda one: one is book)
        for part in (self.result, self.regions, self.strokes, self.sides):
            part.open(book, exploration)
        self.places.open(exploration, is_same=book is before)
        self.opened.emit(is_continued)

    def _book_on(self, layer: ImageLayer | None) -> Book | None:
        """The book of an image that was worked on last."""
        mine = [one for one in self._books if one.image_layer is layer]
        return mine[-1] if mine else None

    def _book_of(self, exploration: Exploration) -> Book:
        for book in self._books:
            if book.is_for(exploration):
                book.image = exploration.image
                return book
        book = Book.of(exploration.layer, exploration.image, exploration.spec.classes)
        self._add(book)
        self.result.listen_to(book)
        self.recovery.look()
        return book

    def _add(self, book: Book) -> None:
        self._orders[book] = UndoOrder(self._history, book.correction)
        if book not in self._books:
            self._books.append(book)

    def _on_wanted(self, folder: Path, layer: ImageLayer, image: Image) -> None:
        """Go on with a session, whose image is there."""
        header = look_at(folder).header
        if header is None:
            return
        known = (one for one in self._books if one.is_of(layer, header.classes))
        book = next(known, None) or Book.of(layer, image, header.classes)
        self.safety.restore(book, folder)

    def _on_restored(self, book: Book, state: str | None, folder: Path) -> None:
        self.recovery.take_off(folder)
        if book in self._orders:
            self._orders.pop(book).close()
        self._add(book)
        self._controller.state.source.image = book.image_layer.name
        shown = self.exploration
        is_shown = shown is not None and book.is_for(shown)
        take_up(self._controller, book.image_layer, state, is_shown=is_shown)
        if shown is None and book is not self.book:
            self._open(book, None)
        elif not is_shown:
            names = ", ".join(display_name(one) for one in book.classes)
            self._controller.said.emit(f"Recovered: it is seen with a model of {names}")
        self.result.take_over(book)

    def _on_took_back(self, book: Book, strokes: Strokes) -> None:
        self.strokes.take_back(book, strokes)

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
