"""From worker threads to the main thread, in order."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from qtpy.QtCore import QObject, Signal

Item = TypeVar("Item")


class _Notifier(QObject):
    """Rings in the main thread when something has come.

    One connection for as long as it lives: helpers that make one for each call leave something
    behind in the calling thread every time, since that runs no event loop.
    """

    notified = Signal()


class Inbox(Generic[Item]):
    """A queue that any thread fills and the main thread, which makes it, empties.

    Items that arrive while the main thread is busy, for example painting, are handed over
    together, so that the receiver can skip what has been superseded meanwhile.

    Parameters
    ----------
    receive
        Called in the main thread with what has arrived, oldest first; never with nothing, and
        never after :meth:`close`.
    """

    def __init__(self, receive: Callable[[list[Item]], None]) -> None:
        self._receive: Callable[[list[Item]], None] | None = receive
        self._items: list[Item] = []
        self._arrival = threading.Condition()
        self._notifier = _Notifier()
        self._notifier.notified.connect(self._deliver)

    def put(self, item: Item) -> None:
        """Hand over an item; from any thread."""
        with self._arrival:
            if self._receive is None:
                return
            self._items.append(item)
            is_first = len(self._items) == 1
            self._arrival.notify_all()
        if not is_first:
            return
        if threading.current_thread() is threading.main_thread():
            self._deliver()
        else:
            self._notifier.notified.emit()

    def is_empty(self) -> bool:
        """Whether everything has been handed over."""
        with self._arrival:
            return not self._items

    def wait(self, seconds: float, is_awaited: Callable[[Item], bool]) -> None:
        """Wait for a certain item, and receive all that is there; in the main thread.

        Parameters
        ----------
        seconds
            How long, at most.
        is_awaited
            Whether an item is the one. What came before it is no reason not to wait.
        """
        with self._arrival:
            self._arrival.wait_for(lambda: any(map(is_awaited, self._items)), seconds)
        self._deliver()

    def close(self) -> None:
        """Drop what is waiting and whatever still comes."""
        with self._arrival:
            self._receive = None
            self._items = []

    def _deliver(self) -> None:
        with self._arrival:
            items, self._items = self._items, []
            receive = self._receive
        if receive is not None and items:
            receive(items)
