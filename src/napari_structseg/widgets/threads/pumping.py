"""Waiting in the main thread while the window goes on working."""

from __future__ import annotations

import time
from collections.abc import Callable

from qtpy.QtCore import QEventLoop, QTimer

_LOOK_MS = 5


def pump_until(is_over: Callable[[], bool], timeout: float | None = None) -> bool:
    """Handle events until something is over.

    Parameters
    ----------
    is_over
        Asked every few milliseconds.
    timeout
        In seconds; None: however long it takes.

    Returns
    -------
    bool
        False if it was not over in time.
    """
    deadline = None if timeout is None else time.monotonic() + timeout

    def is_late() -> bool:
        return deadline is not None and time.monotonic() > deadline

    if is_over():
        return True
    loop, timer = QEventLoop(), QTimer()
    timer.setInterval(_LOOK_MS)
    timer.timeout.connect(lambda: loop.quit() if is_over() or is_late() else None)
    timer.start()
    loop.exec()
    timer.stop()
    return is_over()
