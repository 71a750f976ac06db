"""Drags of a slider while a model learns, in turn with drags while it is paused."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from napari_structseg.bench.finetune import FinetuneSettings
from napari_structseg.bench.timing import slider_values
from napari_structseg.finetuning.events import Ended, Event, Paused, Stepped
from napari_structseg.finetuning.gate import ASIDE_SECONDS
from napari_structseg.finetuning.process import FinetuneProcess
from napari_structseg.finetuning.settings import make_settings
from napari_structseg.image import Image
from napari_structseg.io.model_files import find_model
from napari_structseg.io.nifti import write_volume
from napari_structseg.io.weights import read_spec

_MODEL = "brain-tissue"
_MOVES_PER_DRAG = 10
# Between two drags, as of somebody who looks at what has changed.
_REST_SECONDS = 1.0
_TIMEOUT_SECONDS = 600.0
_ENDLESS = 1_000_000

Move = Callable[[str, float], float]
"""Move a slider to a value; seconds until the slice is there."""


class Training:
    """A model that learns in a process of its own, and how many steps it has taken.

    Parameters
    ----------
    folder
        For its files.
    settings
        What is measured.
    """

    def __init__(self, folder: Path, settings: FinetuneSettings) -> None:
        self._changed = threading.Condition()
        self._n_steps, self._is_paused = 0, False
        self._ended: Ended | None = None
        image, labels = _case(folder, settings.shape)
        self.process = FinetuneProcess(
            make_settings(
                model=_MODEL,
                cases=[{"image": [image], "labels": labels}],
                steps=_ENDLESS,
                learning_rate=1e-6,
                patch=(settings.patch,) * 3,
                held_out=0,
                validate_every=_ENDLESS,
                weights_every=_ENDLESS,
                device=settings.device,
            ),
            folder / "run",
        )
        self.process.told.connect(self._take)
        self.process.start()

    @property
    def n_steps(self) -> int:
        """Steps taken so far."""
        return self._n_steps

    def wait_for_steps(self, n: int) -> None:
        """Wait until so many more steps were taken."""
        wanted = self._n_steps + n
        self._wait(lambda: self._n_steps >= wanted)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Hold it as long as the context lasts."""
        self.process.pause()
        self._wait(lambda: self._is_paused)
        try:
            yield
        finally:
            self.process.resume()
            self._wait(lambda: not self._is_paused)

    def close(self) -> None:
        """End it."""
        self.process.cancel()
        self.process.wait(_TIMEOUT_SECONDS)

    def _wait(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            self._changed.wait_for(lambda: condition() or self._ended is not None, _TIMEOUT_SECONDS)
        if self._ended is not None or not condition():
            raise RuntimeError(f"fine-tuning does not go on: {self._ended}")

    def _take(self, event: Event) -> None:
        with self._changed:
            if isinstance(event, Stepped):
                self._n_steps = event.step
            elif isinstance(event, Paused):
                self._is_paused = event.is_paused
            elif isinstance(event, Ended):
                self._ended = event
            self._changed.notify_all()


def measure_in_turn(
    training: Training, move: Move, rest: Callable[[float], None], settings: FinetuneSettings
) -> dict[str, Any]:
    """Drag, alone and while it learns, in turn, so that both see the same machine.

    Parameters
    ----------
    training
        What learns.
    move
        Moves a slider.
    rest
        Lets so many seconds pass, with a window that lives.
    settings
        What is measured.

    Returns
    -------
    dict
        As :func:`~napari_structseg.bench.finetune.bench_finetune`.
    """
    training.wait_for_steps(2)
    began, before = time.perf_counter(), training.n_steps
    rest(settings.seconds)
    rate_alone = (training.n_steps - before) / (time.perf_counter() - began)
    alone: list[float] = []
    together: list[float] = []
    n_steps, exploring = 0, 0.0
    # The first drag warms up.
    values = slider_values(2 * (settings.moves + _MOVES_PER_DRAG))
    while drag := list(itertools.islice(values, _MOVES_PER_DRAG)):
        with training.paused():
            alone += [move(*one) for one in drag]
            rest(ASIDE_SECONDS)
        began, before = time.perf_counter(), training.n_steps
        rest(_REST_SECONDS)
        for one in itertools.islice(values, _MOVES_PER_DRAG):
            started = time.perf_counter()
            training.process.step_aside()
            asked = time.perf_counter() - started
            together.append(asked + move(*one))
        n_steps += training.n_steps - before
        exploring += time.perf_counter() - began
    return {
        **_compared("slider", alone[_MOVES_PER_DRAG:], together[_MOVES_PER_DRAG:]),
        "first_move_p95_ms": _both(
            alone[_MOVES_PER_DRAG::_MOVES_PER_DRAG], together[_MOVES_PER_DRAG::_MOVES_PER_DRAG], 95
        ),
        "steps_per_second": {
            "alone": round(rate_alone, 3),
            "exploring": round(n_steps / exploring, 3),
        },
        "moves_per_drag": _MOVES_PER_DRAG,
        "rest_seconds": _REST_SECONDS,
        "aside_seconds": ASIDE_SECONDS,
    }


def _compared(name: str, alone: list[float], together: list[float]) -> dict[str, Any]:
    return {f"{name}_p{share}_ms": _both(alone, together, share) for share in (50, 95)}


def _both(alone: list[float], together: list[float], share: int) -> dict[str, float]:
    ours, theirs = (1e3 * float(np.percentile(one, share)) for one in (alone, together))
    return {
        "alone": round(ours, 3),
        "training": round(theirs, 3),
        "ratio": round(theirs / ours, 3),
    }


def _case(folder: Path, shape: tuple[int, int, int]) -> tuple[Path, Path]:
    """Random intensities, and random labels of the model's classes."""
    rng = np.random.default_rng(0)
    n_classes = read_spec(find_model(_MODEL)).n_classes
    image = Image.from_array(rng.integers(1, 255, shape, dtype=np.uint8), spacing=(1.0, 1.0, 1.0))
    geometry = image.geometry
    paths = folder / "image.nii.gz", folder / "labels.nii.gz"
    write_volume(paths[0], image.data[0], geometry, dtype=np.uint8)
    labels = rng.integers(0, n_classes, shape, dtype=np.uint8)
    write_volume(paths[1], labels, geometry, dtype=np.uint8)
    return paths
