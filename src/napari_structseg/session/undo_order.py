"""One order of undo for sliders and for the user's own result: what was done last goes first."""

from __future__ import annotations

from functools import partial

from psygnal import Signal

from napari_structseg.correction.actions import Correction
from napari_structseg.correction.entries import Event
from napari_structseg.session.history import History

SLIDERS = "sliders"
"""Name of an action on the controls."""


class UndoOrder:
    """Undoes and redoes the actions of two histories in the order in which they came.

    Either can still be undone by itself; this follows. Once something new was done in one of
    them, nothing can be done again here, not in the other one either.

    ``changed()`` is emitted when another action is the next to be undone or done again.

    Parameters
    ----------
    history
        Of the controls.
    correction
        The user's own result and the strokes.
    """

    changed = Signal()

    def __init__(self, history: History, correction: Correction) -> None:
        self._history, self._correction = history, correction
        # A session that goes on has a history.
        self._done: list[History | Correction] = [correction] * len(correction.past.done)
        self._undone: list[History | Correction] = [correction] * len(correction.past.undone)
        self._on_moved = partial(self._note, history)
        history.moved.connect(self._on_moved)
        correction.recorded.connect(self._on_recorded)

    @property
    def undo_name(self) -> str | None:
        """Name of the action that :meth:`undo` takes back; None: there is none."""
        if not self._done:
            return None
        return SLIDERS if self._done[-1] is self._history else self._correction.past.undo_name

    @property
    def redo_name(self) -> str | None:
        """Name of the action that :meth:`redo` does again; None: there is none."""
        if not self._undone:
            return None
        return SLIDERS if self._undone[-1] is self._history else self._correction.past.redo_name

    def undo(self) -> str | None:
        """Take back the last action, whichever it was; its name, or None: there is none."""
        while self._done:
            name, last, n_left = self.undo_name, self._done[-1], len(self._done) - 1
            if last.undo():
                return name
            # Its history keeps fewer actions than there were.
            del self._done[n_left:]
        return None

    def redo(self) -> str | None:
        """Do again what was undone last, whichever it was; its name, or None: there is none."""
        name = self.redo_name
        return name if self._undone and self._undone[-1].redo() else None

    def close(self) -> None:
        """Listen no longer."""
        self._history.moved.disconnect(self._on_moved)
        self._correction.recorded.disconnect(self._on_recorded)

    def _on_recorded(self, event: Event) -> None:
        self._note(self._correction, event.kind)

    def _note(self, which: History | Correction, what: str) -> None:
        if what == "do":
            self._done.append(which)
            self._undone.clear()
        elif what == "undo":
            _take_last(self._done, which)
            self._undone.append(which)
        elif what == "redo":
            _take_last(self._undone, which)
            self._done.append(which)
        else:
            self._done = [one for one in self._done if one is not which]
            self._undone = [one for one in self._undone if one is not which]
        self.changed.emit()


def _take_last(those: list[History | Correction], which: History | Correction) -> None:
    """Remove the last one that is `which`, if there is one."""
    for at in range(len(those) - 1, -1, -1):
        if those[at] is which:
            del those[at]
            return
