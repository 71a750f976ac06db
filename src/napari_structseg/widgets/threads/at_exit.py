"""Workers come to rest, and closed windows are deleted, before Python ends."""

from __future__ import annotations

import atexit
import weakref
from collections.abc import Callable
from functools import cache
from typing import TypeVar

from qtpy.QtCore import QCoreApplication, QEvent

from napari_structseg.session.engine import Engine
from napari_structseg.session.runner import ModelRun

# Longer than a step of any worker: a level of a large network on a slow machine.
_TIMEOUT_SECONDS = 60.0

Worker = TypeVar("Worker", Engine, ModelRun)


def rest_at_exit(engine: Engine) -> None:
    """Stop an engine, and wait until its thread has ended, when Python ends.

    A thread that is inside torch when the interpreter goes, be it to let go of a tensor, brings
    the process down with "terminate called without an active exception".
    """
    _at_exit(engine, Engine.close)


def cancel_at_exit(run: ModelRun) -> None:
    """Cancel a run, and wait for its current step, when Python ends; as for an engine."""
    _at_exit(run, ModelRun.cancel)


@cache
def delete_closed_windows_at_exit() -> None:
    """Have Qt delete what was closed, when Python ends.

    A closed window is deleted by the event loop, and a script that ends after ``viewer.close()``
    runs none. PyQt then deletes the window at the end, while it goes through its list of all
    objects, and falls over those that went with the window. What is registered here goes first.
    """
    atexit.register(_delete_closed_windows)


def _delete_closed_windows() -> None:
    if QCoreApplication.instance() is not None:
        QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)


def _at_exit(worker: Worker, stop: Callable[[Worker], None]) -> None:
    # Its own thread keeps a worker alive until it has stopped. Where nobody else does, the last
    # the thread does is to let go of it, and of all its tensors: the worker is no more, but the
    # thread still is.
    reference, thread = weakref.ref(worker), worker.worker

    def finish() -> None:
        living = reference()
        if living is not None:
            stop(living)
        if thread is not None:
            thread.join(_TIMEOUT_SECONDS)

    atexit.register(finish)
