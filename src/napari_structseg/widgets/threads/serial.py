"""Actions that are done one after the other, away from the main thread."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from functools import partial

from napari_structseg.widgets.threads.inbox import Inbox

logger = logging.getLogger(__name__)

_Done = Callable[[Exception | None], object]


class Serial:
    """One thread that does what it is given, in order; it ends when it is closed.

    Parameters
    ----------
    name
        Of the thread.
    """

    def __init__(self, name: str) -> None:
        self._inbox: Inbox[Callable[[], object]] = Inbox(_call_each)
        self._queue: queue.SimpleQueue[tuple[Callable[[], object], _Done] | None]
        self._queue = queue.SimpleQueue()
        self._n_waiting = 0
        self._is_closed = False
        self._name = name
        self._thread: threading.Thread | None = None

    def is_busy(self) -> bool:
        """Whether anything is still to be done, or to be told."""
        return self._n_waiting > 0

    def do(self, action: Callable[[], object], done: _Done) -> None:
        """Do something after all that was given before.

        Parameters
        ----------
        action
            Called in the thread.
        done
            Called in the main thread afterwards, with the error that the action has raised.
        """
        if self._is_closed:
            return
        if self._thread is None:
            # Python waits for it before it ends: nothing that was begun is lost.
            self._thread = threading.Thread(target=self._run, name=self._name)
            self._thread.start()
        self._n_waiting += 1
        self._queue.put((action, done))

    def tell(self, call: Callable[[], object]) -> None:
        """Have something called in the main thread, in the order of what is told; from any."""
        self._inbox.put(call)

    def close(self) -> None:
        """Do what was given before, tell nobody, and end."""
        self._is_closed = True
        self._inbox.close()
        self._queue.put(None)
        self._n_waiting = 0

    def join(self) -> None:
        """Wait until it has ended, after it was closed."""
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while (given := self._queue.get()) is not None:
            action, done = given
            failure: Exception | None = None
            try:
                action()
            except Exception as error:
                logger.debug("an action has failed", exc_info=True)
                failure = error
            self._inbox.put(partial(self._tell, done, failure))

    def _tell(self, done: _Done, failure: Exception | None) -> None:
        self._n_waiting -= 1
        done(failure)


def _call_each(calls: Sequence[Callable[[], object]]) -> None:
    for call in calls:
        call()
