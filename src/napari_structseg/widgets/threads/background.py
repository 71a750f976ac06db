"""One short piece of work away from the main thread, its outcome brought back."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from napari_structseg.widgets.threads.inbox import Inbox

logger = logging.getLogger(__name__)

Value = TypeVar("Value")


class Background(Generic[Value]):
    """Works in a thread of its own, which Python waits for before it ends.

    Parameters
    ----------
    work
        What to do; it touches neither layers nor widgets.
    receive
        Called in the main thread with what came of it, or with the error.
    """

    def __init__(
        self, work: Callable[[], Value], receive: Callable[[Value | Exception], None]
    ) -> None:
        def hand_over(outcomes: Sequence[Value | Exception]) -> None:
            self._inbox.close()
            receive(outcomes[0])

        self._work = work
        self._inbox: Inbox[Value | Exception] = Inbox(hand_over)
        self._thread = threading.Thread(target=self._run, name="structseg-background")
        self._thread.start()

    def close(self) -> None:
        """Tell nobody what comes of it."""
        self._inbox.close()

    def _run(self) -> None:
        try:
            outcome: Value | Exception = self._work()
        except Exception as error:
            logger.debug("work in the background failed", exc_info=True)
            outcome = error
        self._inbox.put(outcome)
