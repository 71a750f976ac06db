"""The result in the viewer: what is accepted into it, what is painted on it, what is locked.

Over 300 lines: every action on the result is a method, and all of them share one order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt
from napari.components import ViewerModel
from psygnal import Signal

from napari_structseg.correction.actions import Correction
from napari_structseg.correction.entries import Changed, Entry, Event
from napari_structseg.correction.said import Said
from napari_structseg.distributions import whole
from napari_structseg.errors import Cancelled
from napari_structseg.session.messages import Request
from napari_structseg.session.work.whole import WholeLabels
from napari_structseg.widgets.correcting.book import Book, layers_below
from napari_structseg.widgets.correcting.safety import Safety
from napari_structseg.widgets.exploration import Exploration
from napari_structseg.widgets.keeping import in_words
from napari_structseg.widgets.threads.serial import Serial
from napari_structseg.widgets.viewer.own_layers import add_above, make_result_layer
from napari_structseg.widgets.viewer.painted import Values, Voxels

Labelling = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
_Action = Callable[[Correction], object]
_Accept = Callable[[Correction, Labelling, str], object]

_NO_MODEL = "Run a model on the image first: then what it shows can be accepted"
_UNFINISHED = "The model still runs: accept when the whole image is segmented"
_NOTHING_NEW = "Nothing has changed: the result is so already, or locked there"


class Resulting:
    """Every action on the result, in order and away from the main thread.

    ``changed()`` is emitted in the main thread when the result, its locks, its layer or its
    history are others; ``took_back(book, strokes)`` when strokes were undone or done again.

    Parameters
    ----------
    viewer
        Where the layer goes.
    actions
        In whose thread they are done.
    safety
        Keeps them on disk.
    say, fail
        Called in the main thread with what happened, and with what prevented it.
    """

    changed = Signal()
    took_back = Signal(object, object)

    def __init__(
        self,
        viewer: ViewerModel,
        actions: Serial,
        safety: Safety,
        say: Callable[[str], object],
        fail: Callable[[Exception], object],
    ) -> None:
        self._viewer, self._say, self._fail = viewer, say, fail
        self.book: Book | None = None
        self._exploration: Exploration | None = None
        self._actions = actions
        self._safety = safety
        # Whole labellings that are computed for an accept.
        self._waiting: list[WholeLabels] = []
        # Of the action in the thread: whether the layer shows its outcome already.
        self._is_shown = False

    def is_busy(self) -> bool:
        """Whether any action is not done yet."""
        return bool(self._waiting) or self._actions.is_busy()

    def open(self, book: Book | None, exploration: Exploration | None) -> None:
        """Work on the result of an image; None: there is none."""
        self.book, self._exploration = book, exploration
        self.changed.emit()

    def listen_to(self, book: Book) -> None:
        """Hear of what happens to a result, from its first action on."""
        book.correction.changed.connect(partial(self._on_changed_there, book))
        book.correction.recorded.connect(partial(self._on_recorded_there, book))

    def accept_all(self) -> None:
        """Take over the whole labelling that is chosen; what is locked stays."""
        region, book, shown = self._part(), self.book, self._exploration
        if book is None or shown is None or shown.wanted is None:
            self._say(_NO_MODEL)
            return
        request, prior_model = shown.wanted, shown.prior_model

        def accept(correction: Correction, labels: Labelling, name: str) -> Entry | None:
            entry = correction.accept(labels, name=name, region=region)
            book.accepted.append((entry, request, prior_model))
            return entry

        self._accept("accept {what}", accept)

    def accept_component(self, voxel: Sequence[int]) -> None:
        """Take over the component at a voxel, of what is chosen."""
        shown = self._exploration
        if shown is None or self.book is None:
            return
        label = int(shown.layers.segmentation.data[tuple(voxel)])
        what = self.book.class_name(label) if label else "background"
        self._accept(
            f"accept {what} here from {{what}}",
            lambda correction, labels, name: correction.accept_component(labels, voxel, name=name),
        )

    def accept_region(self, region: Mask, *, sample: int | None = None) -> None:
        """Take over what is chosen in a region, or one sample there."""
        part = self._part()
        if part is not None:
            region = region & part
        shown = self._exploration
        request = None if shown is None else shown.wanted
        if request is not None and sample is not None:
            chosen = {"sample": sample, "latent": ()}
            request = replace(request, controls=request.controls.model_copy(update=chosen))
        self._accept(
            "accept a region of {what}",
            lambda correction, labels, name: correction.accept(labels, name=name, region=region),
            request,
        )

    def lock_class(self, label: int, *, is_locked: bool) -> None:
        """Protect a class from all that is accepted, or no longer."""
        if self.book is not None:
            name = f"{'lock' if is_locked else 'unlock'} {self.book.class_name(label)}"
            self._do(
                lambda correction: correction.lock_class(label, name=name, is_locked=is_locked)
            )

    def lock_region(self, region: Mask, *, is_locked: bool) -> None:
        """Protect a region from all that is accepted, or no longer."""
        name = f"{'lock' if is_locked else 'unlock'} a region"
        self._do(lambda correction: correction.lock_region(region, name=name, is_locked=is_locked))

    def record_strokes(self, book: Book, said: Said, name: str) -> None:
        """Make what is said, and shown already, an entry of the history."""
        book.strokes_ahead.append(said)
        self._do(
            lambda correction: correction.set_strokes(said.on(correction.strokes), name=name),
            book,
            done=book.strokes_ahead.popleft,
        )

    def undo(self) -> None:
        """Take back the last action."""
        self._do(lambda correction: correction.undo())

    def redo(self) -> None:
        """Do again what was taken back last."""
        self._do(lambda correction: correction.redo())

    def show_layer(self) -> None:
        """Have a layer of the result, also where it was deleted."""
        book, shown = self.book, self._exploration
        if book is None or book.result_layer is not None:
            return
        labels = book.correction.result.labels
        layer = make_result_layer(book.like(shown), book.classes, labels)
        layer.painted = partial(self._on_painted, book)
        layer.undone, layer.redone = self.undo, self.redo
        book.result_layer = layer
        add_above(self._viewer, layer, layers_below(book, shown))
        self.changed.emit()

    def close(self) -> None:
        """Give up what waits for the model."""
        for labels in self._waiting:
            labels.cancel()
        self._waiting.clear()
        self.book = self._exploration = None

    def _accept(self, name: str, accept: _Accept, request: Request | None = None) -> None:
        """Accept something of a whole labelling, by default the one chosen, once it is known."""
        shown, book = self._exploration, self.book
        if shown is None or book is None or shown.wanted is None:
            return
        wanted = shown.wanted if request is None else request
        if not shown.is_complete:
            self._say(_UNFINISHED)
            return
        self.show_layer()
        called = name.format(what=in_words(wanted.controls))
        if wanted == shown.wanted and shown.is_painted:
            labels = shown.layers.segmentation.data.copy()
            self._do(lambda correction: self._check(accept(correction, labels, called)), book)
            return
        self._say("Computing the whole segmentation…")
        future = shown.engine.whole_labels(wanted)
        self._waiting.append(future)
        then = partial(self._on_whole, book, shown, future, accept, called)
        # In the engine's thread.
        future.add_done_callback(lambda _future: self._actions.tell(then))

    def _on_whole(
        self,
        book: Book,
        shown: Exploration,
        future: WholeLabels,
        accept: _Accept,
        name: str,
    ) -> None:
        if future not in self._waiting:
            return
        self._waiting.remove(future)
        error = future.exception()
        if isinstance(error, Cancelled):
            return
        if isinstance(error, Exception):
            self._fail(error)
            return
        labels = shown.on_image(future.result())
        self._do(lambda correction: self._check(accept(correction, labels, name)), book)

    def _part(self) -> Mask | None:
        """Where the model was applied; None: to the whole image."""
        shown = self._exploration
        if shown is None or shown.region == whole(shown.image.spatial_shape):
            return None
        part = np.zeros(shown.image.spatial_shape, bool)
        part[shown.region] = True
        return part

    def _check(self, entry: object) -> None:
        if entry is None:
            self._actions.tell(partial(self._say, _NOTHING_NEW))

    def _do(
        self,
        action: _Action,
        book: Book | None = None,
        *,
        is_shown: bool = False,
        done: Callable[[], object] = lambda: None,
    ) -> None:
        """Do something in the thread; then call `done` in the main thread."""
        on = self.book if book is None else book
        if on is None:
            return

        def act() -> None:
            self._safety.prepare(on)
            self._is_shown = is_shown
            action(on.correction)

        self._actions.do(act, partial(self._on_done, done))

    def _on_done(self, done: Callable[[], object], error: Exception | None) -> None:
        done()
        if error is not None:
            self._fail(error)
        self.changed.emit()

    def _on_painted(self, book: Book, voxels: Voxels, values: Values) -> None:
        """The user's hand has painted on the layer."""
        label = int(values[-1])
        is_class = label < len(book.classes)
        if not is_class:
            self._take_off(book, voxels)
            self._say(f"No class has the value {label}: nothing was painted")
            return
        what = book.class_name(label) if label else "background"
        name = f"paint {what}"
        # Something else may have been written there while the brush moved.
        _put(book, voxels, values)
        book.paint_ahead.append((voxels, values))
        self._do(
            lambda correction: correction.paint(voxels, values, name=name),
            book,
            is_shown=True,
            done=book.paint_ahead.popleft,
        )

    def _take_off(self, book: Book, voxels: Voxels) -> None:
        _put(book, voxels, book.correction.result.labels.reshape(-1)[voxels].astype(np.int64))

    def _on_changed_there(self, book: Book, changed: Changed) -> None:
        """Called in the thread."""
        self._actions.tell(partial(self._on_changed, book, changed, self._is_shown))

    def _on_recorded_there(self, book: Book, event: Event) -> None:
        """Called in the thread."""
        self._actions.tell(partial(self._on_recorded, book, event))

    def _on_changed(self, book: Book, changed: Changed, is_shown: bool) -> None:
        if changed.labels is not None and not is_shown:
            if book.result_layer is None and book is self.book:
                self.show_layer()
            elif book.result_layer is not None:
                labels = book.correction.result.labels[changed.labels]
                book.result_layer.write(changed.labels, labels)
                # What the user has painted since it was asked for stands.
                for voxels, values in book.paint_ahead:
                    _put(book, voxels, values)
        self.changed.emit()

    def take_over(self, book: Book) -> None:
        """Show a correction that was put in the place of another."""
        self.listen_to(book)
        layer, labels = book.result_layer, book.correction.result.labels
        if layer is not None:
            layer.write(whole(labels.shape), labels)
        elif labels.any() and book is self.book:
            self.show_layer()
        self.took_back.emit(book, book.correction.strokes)
        self.changed.emit()

    def _on_recorded(self, book: Book, event: Event) -> None:
        self._safety.note(book)
        if event.kind == "do":
            self._say(event.entry.name[:1].upper() + event.entry.name[1:])
            return
        self._say(f"{'Undone' if event.kind == 'undo' else 'Redone'}: {event.entry.name}")
        if event.entry.strokes is not None:
            self.took_back.emit(book, book.correction.strokes)


def _put(book: Book, voxels: Voxels, values: Values) -> None:
    """Have voxels of the layer show some labels."""
    layer = book.result_layer
    if layer is None:
        return
    along = np.unravel_index(voxels, layer.data.shape)
    if np.any(layer.data[along] != values):
        layer.data[along] = values
        layer.refresh(extent=False, highlight=False)
