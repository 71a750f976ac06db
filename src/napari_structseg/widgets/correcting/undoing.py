"""Undo and redo of sliders and corrections in one order, one step after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Literal

from napari_structseg.session.history import History
from napari_structseg.session.undo_order import SLIDERS, UndoOrder
from napari_structseg.widgets.correcting.correcting import Correcting

Step = Literal["undo", "redo"]

_DONE = {"undo": "Undone", "redo": "Redone"}
_NOTHING = {"undo": "Nothing to undo", "redo": "Nothing to redo"}


class Undoing:
    """Takes back what was done last, whichever it was.

    Corrections are done in a thread of their own. What is last is known once all before it is
    done: so a step waits for what was done before it, and for the step before it.

    Parameters
    ----------
    history
        Of the sliders.
    correcting
        Of the user's own hand.
    say
        Called with what was done, where that is not said by who does it.
    """

    def __init__(
        self, history: History, correcting: Correcting, say: Callable[[str], object]
    ) -> None:
        self._history, self._correcting, self._say = history, correcting, say
        self._waiting: deque[Step] = deque()
        self._is_moving = False
        # Whether the last step has found anything to do.
        self.has_done = False

    def is_busy(self) -> bool:
        """Whether a step is not done yet."""
        return self._is_moving or bool(self._waiting)

    def step(self, step: Step) -> None:
        """Undo, or redo."""
        self._waiting.append(step)
        self._go_on()

    def _go_on(self) -> None:
        if not self._is_moving and self._waiting:
            self._is_moving = True
            self._correcting.after_all(self._move)

    def _move(self) -> None:
        step, order = self._waiting.popleft(), self._correcting.order
        name = None if order is None else _name(order, step)
        if name is not None and name != SLIDERS:
            self.has_done = True
            result = self._correcting.result
            (result.undo if step == "undo" else result.redo)()
            self._correcting.after_all(self._end)
            return
        history = self._history
        what = history.name_of(step)
        self.has_done = history.undo() if step == "undo" else history.redo()
        says = (_DONE if self.has_done else _NOTHING)[step]
        self._say(f"{says}: {what}" if what else says)
        self._end()

    def _end(self) -> None:
        self._is_moving = False
        self._go_on()


def _name(order: UndoOrder, step: Step) -> str | None:
    return order.undo_name if step == "undo" else order.redo_name
