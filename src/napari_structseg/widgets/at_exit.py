"""Workers come to rest before Python ends."""

from __future__ import annotations

import atexit
import weakref
from collections.abc import Callable
from typing import TypeVar

from napari_structseg.session.engine import Engine
from napari_structseg.session.runner import ModelRun

# Longer than a step of any worker: a tile of a large network on a slow machine.
_TIMEOUT_SECONDS = 60.0

Worker = TypeVar("Worker", Engine, ModelRun)


def rest_at_exit(engine: Engine) -> None:
    """Stop an engine, and wait for its current step, when Python ends.

    A thread that is inside torch when the interpreter goes brings the process down with
    "terminate called without an active exception".
    """
    _at_exit(engine, Engine.close)


def cancel_at_exit(run: ModelRun) -> None:
    """Cancel a run, and wait for its current tile, when Python ends; as for an engine."""
    _at_exit(run, ModelRun.cancel)


def _at_exit(worker: Worker, stop: Callable[[Worker], None]) -> None:
    # A worker's own thread keeps it alive until it has stopped.
    reference = weakref.ref(worker)

    def finish() -> None:
        living = reference()
        if living is not None:
            stop(living)
            living.join(_TIMEOUT_SECONDS)

    atexit.register(finish)
