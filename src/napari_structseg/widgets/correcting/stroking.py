"""Strokes in the viewer: the layer that is painted on, and what it says, kept the same."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from napari.components import ViewerModel
from psygnal import Signal
from qtpy.QtCore import QTimer

from napari_structseg.correction.said import Said
from napari_structseg.distributions import Region, Strokes
from napari_structseg.session.state import CorrectionState
from napari_structseg.widgets.correcting.book import Book, layers_below
from napari_structseg.widgets.exploration import Exploration
from napari_structseg.widgets.viewer.own_layers import add_above, make_strokes_layer
from napari_structseg.widgets.viewer.painted import Labels, Values, Voxels, around_all

# While the brush moves, the picture follows so often at most.
_FOLLOW_MS = 25
_NO_CLASS = "No class has the value {value}: what is painted with it says nothing"


class Stroking:
    """Reads the layer of strokes into the state while it is painted on, and shows what is set.

    The layer of a volume is never read as a whole: the boxes that the brush has touched are read
    again, everything else of the strokes stays as it is.

    ``changed()`` is emitted when the strokes, the layer or its tool are others; ``committed(book,
    said, name)`` once for every action of the user, with what it says (:class:`Said`).

    Parameters
    ----------
    viewer
        Where the layer goes.
    state
        Holds the strokes.
    say
        Called with what the user should know.
    undo, redo
        What the keys of the layer do.
    """

    changed = Signal()
    committed = Signal(object, object, str)

    def __init__(
        self,
        viewer: ViewerModel,
        state: CorrectionState,
        say: Callable[[str], object],
        undo: Callable[[], object],
        redo: Callable[[], object],
    ) -> None:
        self._viewer, self._state, self._say = viewer, state, say
        self._undo, self._redo = undo, redo
        self.book: Book | None = None
        self._exploration: Exploration | None = None
        self._pending: list[Region] = []
        self._timer = QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(_FOLLOW_MS)
        self._timer.timeout.connect(self._follow)
        state.events.strokes.connect(self._on_state)

    @property
    def is_reading(self) -> bool:
        """Whether the state does not say yet what was painted."""
        return bool(self._pending)

    def open(self, book: Book | None, exploration: Exploration | None) -> None:
        """Take the strokes of an image for those of the state; None: there is no image."""
        self._read()
        self._exploration = exploration
        if book is self.book:
            return
        self.book = book
        self._state.strokes = None if book is None or not len(book.strokes) else book.strokes
        self.changed.emit()

    def begin(self, label: int) -> None:
        """Select the layer, and its brush in the colour of a class: the next drag is a stroke."""
        layer = self._layer()
        if layer is None:
            return
        layer.visible = True
        self._viewer.layers.selection.active = layer
        layer.selected_label = label + 1
        layer.mode = "paint"

    def erase(self) -> None:
        """Take the eraser of the layer."""
        layer = None if self.book is None else self.book.strokes_layer
        if layer is not None:
            self._viewer.layers.selection.active = layer
            layer.mode = "erase"

    def clear(self) -> None:
        """Say nothing of any voxel."""
        book = self.book
        if book is not None and len(book.strokes):
            self._read()
            self.show(Strokes.none(book.strokes.shape))
            self._commit(book, "clear strokes")

    def say(self, strokes: Strokes) -> None:
        """Say the class of more voxels, as a stroke of the brush does."""
        book = self.book
        if book is not None and len(strokes):
            self._read()
            self.show(book.strokes.merged(strokes))
            labels = np.unique(strokes.labels)
            what = book.class_name(int(labels[0])) if len(labels) == 1 else "several classes"
            self._commit(book, f"stroke: {what}")

    def take_back(self, book: Book, strokes: Strokes) -> None:
        """Show what the history says, and what was painted since it was asked."""
        if book is self.book:
            self._read()
        painted = Said.between(book.told, book.strokes)
        for said in book.strokes_ahead:
            strokes = said.on(strokes)
        book.told = strokes
        if book is self.book:
            self.show(painted.on(strokes))
        else:
            book.strokes = painted.on(strokes)

    def show(self, strokes: Strokes) -> None:
        """Make layer and state say something else."""
        book = self.book
        if book is None:
            return
        self._pending.clear()
        self._timer.stop()
        layer = self._layer() if len(strokes) else book.strokes_layer
        before, book.strokes = book.strokes, strokes
        if layer is not None:
            for voxels, values in ((before.voxels, 0), (strokes.voxels, strokes.labels + 1)):
                layer.data[np.unravel_index(voxels, strokes.shape)] = values
            layer.refresh(extent=False, highlight=False)
        self._tell()

    def close(self) -> None:
        """Follow nothing from now on."""
        self._timer.stop()
        self._state.events.strokes.disconnect(self._on_state)
        self.book = self._exploration = None

    def _layer(self) -> Labels | None:
        """The layer of the strokes; it is made where there is none."""
        book = self.book
        if book is None:
            return None
        layer = book.strokes_layer
        if layer is not None:
            return layer
        like = book.like(self._exploration)
        layer = book.strokes_layer = make_strokes_layer(like, book.classes)
        strokes = book.strokes
        layer.data[np.unravel_index(strokes.voxels, strokes.shape)] = strokes.labels + 1
        layer.touched, layer.painted = self._on_touched, self._on_painted
        layer.undone, layer.redone = self._undo, self._redo
        for events in (layer.events.mode, layer.events.selected_label, layer.events.data):
            events.connect(self._on_layer)
        layer.events.data.connect(self._on_data)
        below = layers_below(book, self._exploration)
        add_above(self._viewer, layer, (*below, *book.layers))
        return layer

    def _on_layer(self, _event: object = None) -> None:
        self.changed.emit()

    def _on_data(self, _event: object = None) -> None:
        """Another array was put into the layer: all of it is read."""
        book = self.book
        if book is not None and book.strokes_layer is not None:
            shape = book.strokes_layer.data.shape
            self._pending.append(tuple(slice(0, size) for size in shape))
            self._read()
            self._commit(book, "strokes")

    def _on_touched(self, box: Region) -> None:
        self._pending.append(box)
        if not self._timer.isActive():
            self._timer.start()
            # It comes after the event of the mouse, whose dabs are all there then, and before
            # anything is painted: the dab and the slice that it corrects are seen together.
            QTimer.singleShot(0, self._follow)

    def _follow(self) -> None:
        """Read what was painted, and no more for a moment."""
        if self._pending:
            self._read()
            self._timer.start()

    def _on_painted(self, voxels: Voxels, values: Values) -> None:
        book = self.book
        if book is None or book.strokes_layer is None:
            return
        along = np.unravel_index(voxels, book.strokes.shape)
        self._pending.append(tuple(slice(int(one.min()), int(one.max()) + 1) for one in along))
        # After some tools napari tells what it paints before it is in the layer.
        self._read(along, values)
        value = int(values[-1])
        if value > len(book.classes):
            self._say(_NO_CLASS.format(value=value))
            return
        name = "erase strokes" if not value else f"stroke: {book.class_name(value - 1)}"
        self._commit(book, name)

    def _read(
        self, along: tuple[npt.NDArray[np.intp], ...] = (), told: Values | None = None
    ) -> None:
        """Read the boxes that were painted in; of some voxels there the values are told."""
        book, pending = self.book, self._pending
        self._timer.stop()
        if book is None or book.strokes_layer is None or not pending:
            return
        box = around_all(pending)
        pending.clear()
        values = np.array(book.strokes_layer.data[box])
        if told is not None:
            inside = tuple(one - part.start for one, part in zip(along, box, strict=True))
            values[inside] = told
        known = np.where(values > len(book.classes), 0, values)
        book.strokes = book.strokes.repainted(box, known)
        self._tell()

    def _commit(self, book: Book, name: str) -> None:
        before, book.told = book.told, book.strokes
        self.committed.emit(book, Said.between(before, book.strokes), name)

    def _tell(self) -> None:
        book = self.book
        if book is not None:
            self._state.strokes = book.strokes if len(book.strokes) else None
            self.changed.emit()

    def _on_state(self, strokes: Strokes | None) -> None:
        """Follow a script, or a state that was restored."""
        book = self.book
        if book is None:
            return
        said = Strokes.none(book.strokes.shape) if strokes is None else strokes
        if said == book.strokes:
            return
        if said.shape != book.strokes.shape:
            self._say(f"The strokes are of an image of the shape {said.shape}, not of this one")
            return
        self.show(said)
        self._commit(book, "strokes")
