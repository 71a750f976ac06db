"""The direct way: torch's own distribution, everything computed again, a new array.

What a careful programmer writes first. The sample is drawn once and kept, and labels are uint8,
which is more than most do. Run as a program by `bench.explore`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.distributions import LowRankMultivariateNormal

from napari_structseg.bench.gpu import finish, gpu_memory
from napari_structseg.bench.memory import megabytes, peak_bytes, resident_bytes
from napari_structseg.bench.timing import (
    AXES,
    N_CLASSES,
    RANK,
    WINDOW_SIZE,
    Settings,
    moved,
    percentiles,
    slider_values,
)
from napari_structseg.controls import Controls
from napari_structseg.devices import resolve_device

# A move takes about a second.
_SHARE_OF_MOVES = 20
_MIN_MOVES = 5
_WARM_UP_MOVES = 2

Index = tuple[int | slice, ...]
LabelArray = npt.NDArray[np.uint8]


def measure(settings: Settings) -> dict[str, Any]:
    """Time and memory of the direct way.

    Returns
    -------
    dict
        As of `bench.ours`, and ``painted_frame`` where there is a window.
    """
    before = resident_bytes()
    shape = settings.shape
    n_moves = max(_MIN_MOVES, settings.moves // _SHARE_OF_MOVES)
    started = time.perf_counter()
    device = resolve_device(settings.device)
    way = DirectWay(shape, device)
    finish(device)
    new_sample = time.perf_counter() - started
    volume = _times(n_moves, way.labels)
    visible = {}
    for axis, name in enumerate(AXES):
        index = tuple(size // 2 if a == axis else slice(None) for a, size in enumerate(shape))

        def visible_labels(controls: Controls, index: Index = index) -> LabelArray:
            return way.labels(controls)[index]

        visible[name] = percentiles(_times(n_moves, visible_labels))
    result = {
        "visible_slice": visible,
        "full_volume": {
            "p50_ms": percentiles(volume)["p50_ms"],
            "new_sample_ms": round(1e3 * new_sample, 3),
        },
        "peak_memory_mb": megabytes(peak_bytes() - before),
        **gpu_memory(device),
        "painted_frame": None,
    }
    if settings.window:
        result["painted_frame"] = percentiles(_painted(way, shape, n_moves))
    return result


class DirectWay:
    """One sample of a random distribution, and its labels under any controls.

    Parameters
    ----------
    shape
        (Z, Y, X).
    device
        Where it is computed; labels come back to the processor, for the viewer.
    """

    def __init__(self, shape: tuple[int, ...], device: torch.device) -> None:
        torch.manual_seed(0)
        n_logits = N_CLASSES * int(np.prod(shape))
        # Variances well above 0: with smaller ones, its factorisation fails in float32.
        distribution = LowRankMultivariateNormal(
            torch.randn(n_logits, device=device),
            torch.randn(n_logits, RANK, device=device),
            torch.rand(n_logits, device=device).add_(0.5),
        )
        self._mean = distribution.mean.reshape(N_CLASSES, *shape)
        self._offset = distribution.rsample().reshape(N_CLASSES, *shape) - self._mean
        # Kept, since another sample may be asked for.
        self._distribution = distribution

    def labels(self, controls: Controls) -> LabelArray:
        """Labels of every voxel."""
        scale = self._mean.new_tensor(controls.weights(N_CLASSES)).reshape(-1, 1, 1, 1)
        logits = self._mean + scale * self._offset
        result: LabelArray = logits.argmax(dim=0).to(torch.uint8).cpu().numpy()
        return result


def _times(n_moves: int, change: Callable[[Controls], object]) -> list[float]:
    controls = Controls()
    seconds = []
    for what, value in slider_values(n_moves):
        controls = moved(controls, what, value)
        started = time.perf_counter()
        change(controls)
        seconds.append(time.perf_counter() - started)
    return seconds


def _painted(way: DirectWay, shape: tuple[int, ...], n_moves: int) -> list[float]:
    import napari

    from napari_structseg.bench.frames import Frames, find_canvas

    viewer = napari.Viewer()
    viewer.window.resize(*WINDOW_SIZE)
    viewer.add_image(np.zeros(shape, np.uint8), contrast_limits=(0, 255))
    layer = viewer.add_labels(way.labels(Controls()))
    viewer.dims.set_current_step(0, shape[0] // 2)
    frames = Frames(find_canvas())
    frames.watch(layer)
    controls = Controls()
    seconds = []
    for what, value in slider_values(_WARM_UP_MOVES + n_moves):
        controls = moved(controls, what, value)

        def change(now: Controls = controls) -> None:
            layer.data = way.labels(now)

        seconds.append(frames.seconds(change))
    viewer.close()
    return seconds[_WARM_UP_MOVES:]


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(Settings.from_command_line())))
