"""Our way, without a window: time of a slice and of the volume, and memory.

Run as a program by `bench.explore`.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from napari_structseg.bench.gpu import gpu_memory
from napari_structseg.bench.memory import megabytes, peak_bytes, resident_bytes
from napari_structseg.bench.timing import (
    AXES,
    N_CLASSES,
    RANK,
    Settings,
    environment,
    moved,
    percentiles,
    slider_values,
)
from napari_structseg.controls import Controls
from napari_structseg.devices import resolve_device
from napari_structseg.distributions import LowRankNormal
from napari_structseg.session.engine import Engine
from napari_structseg.session.messages import (
    ClassVolumes,
    Request,
    Result,
    SlabLabels,
    SliceLabels,
    View,
)

VOXEL_ML = 1e-3
_WARM_UP_MOVES = 200
_VOLUME_PASSES = 5


def measure(settings: Settings) -> dict[str, Any]:
    """Drive the engine as the dock does.

    Returns
    -------
    dict
        ``visible_slice`` and ``new_slice_ms`` by axis, ``full_volume``, ``peak_memory_mb``,
        ``memory_growth_mb`` and ``environment``.
    """
    before = resident_bytes()
    device = resolve_device(settings.device)
    engine = Engine(random_distribution(settings.shape, device), VOXEL_ML)
    viewer = EngineViewer(engine, settings.shape)
    visible, new = {}, {}
    # What torch sets up on first use is not counted.
    viewer.wait_for_slice(Controls(sample=1), View())
    for axis, name in enumerate(AXES):
        view = View(axis, settings.shape[axis] // 2)
        new[name] = round(1e3 * viewer.wait_for_slice(Controls(sample=1), view), 3)
        visible[name] = percentiles(viewer.move(settings.moves, view))
    volumes = []
    for what, value in slider_values(_VOLUME_PASSES):
        volumes.append(viewer.wait_for_volume(moved(Controls(sample=1), what, value)))
    viewer.wait_until_idle()
    peak = peak_bytes() - before
    growth = None
    if not settings.window:
        # With a window, it is measured through the dock.
        view = View(0, settings.shape[0] // 2)
        viewer.move(_WARM_UP_MOVES, view)
        settled = resident_bytes()
        viewer.move(settings.memory_moves, view)
        growth = megabytes(resident_bytes() - settled)
    engine.close()
    return {
        "visible_slice": visible,
        "new_slice_ms": new,
        # The first pass draws the noise of the sample; a slider move never does.
        "full_volume": {
            "p50_ms": round(1e3 * float(np.median(volumes[1:])), 3),
            "new_sample_ms": round(1e3 * volumes[0], 3),
        },
        "peak_memory_mb": megabytes(peak),
        **gpu_memory(device),
        "memory_growth_mb": growth,
        "environment": environment(settings.device),
    }


def random_distribution(
    shape: tuple[int, ...], device: torch.device | str = "cpu"
) -> LowRankNormal:
    """Random parameters, stored as the predictor does."""
    torch.manual_seed(0)
    return LowRankNormal(
        torch.randn(N_CLASSES, *shape, device=device),
        torch.empty(RANK, N_CLASSES, *shape, dtype=torch.float16, device=device).normal_(),
        torch.rand(N_CLASSES, *shape, device=device).add_(0.5),
    )


class EngineViewer:
    """What the dock is to the engine: it asks, and keeps the labels of the layer."""

    def __init__(self, engine: Engine, shape: tuple[int, ...]) -> None:
        self._engine = engine
        self._labels = np.zeros(shape, np.uint8)
        self._arrived = threading.Condition()
        self._slice_generation = 0
        self._volume: ClassVolumes | None = None
        engine.result.connect(self._receive)

    def wait_for_slice(self, controls: Controls, view: View) -> float:
        """Seconds from the request until the labels of the visible slice are there."""
        started = time.perf_counter()
        generation = self._engine.request(Request(controls, view))
        self._wait(lambda: self._slice_generation >= generation)
        return time.perf_counter() - started

    def wait_for_volume(self, controls: Controls) -> float:
        """Seconds of computing the labels of every voxel."""
        self._volume = None
        self._engine.request(Request(controls, View()))
        self._wait(lambda: self._volume is not None)
        return 0.0 if self._volume is None else self._volume.seconds

    def wait_until_idle(self) -> None:
        """Until everything behind the slice is done, too."""
        self._engine.join()

    def move(self, n_moves: int, view: View) -> list[float]:
        """Move sliders, each move as soon as the slice of the last one is there."""
        controls = Controls(sample=1)
        seconds = []
        for what, value in slider_values(n_moves):
            controls = moved(controls, what, value)
            seconds.append(self.wait_for_slice(controls, view))
        return seconds

    def _wait(self, condition: Callable[[], bool]) -> None:
        with self._arrived:
            self._arrived.wait_for(condition)

    def _receive(self, result: Result) -> None:
        if isinstance(result, SliceLabels | SlabLabels):
            self._labels[result.region] = result.labels
        with self._arrived:
            if isinstance(result, SliceLabels):
                self._slice_generation = result.generation
            elif isinstance(result, ClassVolumes):
                self._volume = result
            self._arrived.notify_all()


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(Settings.from_command_line())))
