"""Ctrl-C at a moment of the program's choosing."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

logger = logging.getLogger(__name__)


@contextmanager
def deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Hold back the first Ctrl-C, so that work can stop where its state is whole.

    A second Ctrl-C raises KeyboardInterrupt at once. Python delivers signals to the main thread
    only: on any other thread this does nothing.

    Yields
    ------
    callable
        Says whether Ctrl-C was pressed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    pressed = False

    def hold_back(_number: int, _frame: FrameType | None) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True
        logger.warning("stopping after this step; press Ctrl-C again to stop at once")

    previous = signal.signal(signal.SIGINT, hold_back)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, previous)
