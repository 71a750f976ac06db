"""Ctrl-C, and a polite request to end, at a moment of the program's choosing."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

logger = logging.getLogger(__name__)


class Terminated(KeyboardInterrupt):
    """SIGTERM: what a batch system, a container or `kill` sends to end a program."""


@contextmanager
def deferred_stop(
    *numbers: signal.Signals,
) -> Iterator[Callable[[], type[KeyboardInterrupt] | None]]:
    """Hold back the first of some signals, so that work can stop where its state is whole.

    A second one raises at once. Python delivers signals to the main thread only: on any other
    thread this does nothing.

    Parameters
    ----------
    numbers
        Which: SIGINT, SIGTERM.

    Yields
    ------
    callable
        Gives what is to be raised: KeyboardInterrupt for Ctrl-C, :class:`Terminated` for SIGTERM;
        None as long as none came.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    came: type[KeyboardInterrupt] | None = None

    def hold_back(number: int, _frame: FrameType | None) -> None:
        nonlocal came
        kind = Terminated if number == signal.SIGTERM else KeyboardInterrupt
        if came is not None:
            raise kind
        came = kind
        logger.warning("stopping after this step; press Ctrl-C again to stop at once")

    previous = {number: signal.signal(number, hold_back) for number in numbers}
    try:
        yield lambda: came
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Hold back the first Ctrl-C, as :func:`deferred_stop`.

    Yields
    ------
    callable
        Says whether Ctrl-C was pressed.
    """
    with deferred_stop(signal.SIGINT) as came:
        yield lambda: came() is not None


@contextmanager
def stopped_at_once() -> Iterator[None]:
    """Let SIGTERM raise :class:`Terminated`, as Ctrl-C raises KeyboardInterrupt: at once.

    For work that may be left anywhere, but has something to write down at its end. On any other
    thread than the main one this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise Terminated

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
