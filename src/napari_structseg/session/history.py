"""Undo and redo: what was chosen before, as states of the controls."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from psygnal import Signal

from napari_structseg.controls import Controls
from napari_structseg.session.state import ExplorerState

_MOST = 200
# Changes of the same fields that follow each other faster are one drag of a slider.
_PAUSE_SECONDS = 1.0
_CHOSEN = "controls.chosen"


@dataclass(frozen=True, eq=False)
class Exchange:
    """An action that is not on the controls: something else was put in the place of what is shown.

    Attributes
    ----------
    name
        Of the action.
    undo, redo
        Take it back, and do it again. They leave the controls as they were left there.
    """

    name: str
    undo: Callable[[], None]
    redo: Callable[[], None]


class History:
    """Remembers the controls before each action.

    An action is what :attr:`ExplorerState.settled` tells of. Actions on the same fields without
    a pause between them are one, as when a slider is dragged.

    ``moved`` says what has become of the history: ``do`` (there is one more action), ``undo``,
    ``redo``, or ``forget`` (there is none).

    Parameters
    ----------
    state
        Whose controls it remembers and brings back.
    clock
        Seconds, from any start.

    Examples
    --------
    >>> state = ExplorerState()
    >>> history = History(state)
    >>> state.controls.temperature = 2.0
    >>> history.undo()
    True
    >>> state.controls.temperature
    1.0
    """

    moved = Signal(str)

    def __init__(self, state: ExplorerState, clock: Callable[[], float] = time.monotonic) -> None:
        self._state = state
        self._clock = clock
        self._undone: list[Controls | Exchange] = []
        self._done: list[Controls | Exchange] = []
        self._current = state.controls.frozen()
        self._last: tuple[frozenset[str], float] | None = None
        self._is_moving = False
        state.settled.connect(self._on_settled)

    @property
    def is_moving(self) -> bool:
        """Whether it is changing what is shown itself, which is nothing new then."""
        return self._is_moving

    def exchange(self, exchange: Exchange) -> None:
        """Do an action that is not on the controls, as an entry of its own."""
        self._is_moving = True
        try:
            exchange.redo()
        finally:
            self._is_moving = False
        self._done.append(exchange)
        self._undone.clear()
        self._current, self._last = self._state.controls.frozen(), None
        self.moved.emit("do")

    def has(self, exchange: Exchange) -> bool:
        """Whether an action can still be undone, or done again."""
        return exchange in self._done or exchange in self._undone

    def name_of(self, what: str) -> str:
        """Name of what "undo" or "redo" would do; empty: it is of the controls, or nothing."""
        entries = self._done if what == "undo" else self._undone
        last = entries[-1] if entries else None
        return last.name if isinstance(last, Exchange) else ""

    def undo(self) -> bool:
        """Bring back the controls before the last action; False if there was none."""
        return self._move("undo", self._done, self._undone)

    def redo(self) -> bool:
        """Take back the last undo; False if there was none, or something was done since."""
        return self._move("redo", self._undone, self._done)

    def forget(self) -> None:
        """Begin with the controls as they are: those before belong to another model."""
        self._done.clear()
        self._undone.clear()
        self._current = self._state.controls.frozen()
        self._last = None
        self.moved.emit("forget")

    def close(self) -> None:
        """Listen no longer."""
        self._state.settled.disconnect(self._on_settled)

    def _move(
        self,
        what: str,
        source: list[Controls | Exchange],
        target: list[Controls | Exchange],
    ) -> bool:
        if not source:
            return False
        last = source.pop()
        target.append(last if isinstance(last, Exchange) else self._current)
        self._last = None
        self._is_moving = True
        try:
            if isinstance(last, Exchange):
                (last.undo if what == "undo" else last.redo)()
                self._current = self._state.controls.frozen()
            else:
                self._current = last
                self._state.controls.take(last)
        finally:
            self._is_moving = False
        self.moved.emit(what)
        return True

    def _on_settled(self, touched: frozenset[str]) -> None:
        fields = frozenset(name for name in touched if name.startswith("controls."))
        if self._is_moving or not fields:
            return
        now, last = self._clock(), self._last
        is_continued = (
            last is not None
            and now - last[1] < _PAUSE_SECONDS
            # A slider that is dragged away from the mean chooses a sample, once.
            and (fields == last[0] or bool((fields & last[0]) - {_CHOSEN}))
        )
        self._last = (fields, now)
        if not is_continued:
            self._done.append(self._current)
            del self._done[:-_MOST]
        self._undone.clear()
        self._current = self._state.controls.frozen()
        if not is_continued:
            self.moved.emit("do")
