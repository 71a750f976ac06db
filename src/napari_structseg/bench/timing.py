"""Settings, moves and figures that every part of a benchmark shares."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_structseg.controls import Controls
from napari_structseg.errors import MemoryLimitError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

N_CLASSES, RANK = 4, 10
AXES = ("z", "y", "x")
WINDOW_SIZE = (1280, 800)
_STEP, _N_STEPS = 0.05, 30
_PACKAGES = ("napari-structseg", "napari", "numpy", "PyQt6", "torch", "vispy")
_KILLED = (-9, 137)


@dataclass(frozen=True, slots=True)
class Settings:
    """What is measured.

    Attributes
    ----------
    shape
        (Z, Y, X) of the image.
    moves
        Slider moves behind each percentile.
    memory_moves
        Slider moves after which memory must be where it was.
    window
        Whether frames are painted, in a real viewer.
    device
        Name of the device that computes.
    """

    shape: tuple[int, int, int]
    moves: int
    memory_moves: int
    window: bool
    device: str = "cpu"

    @classmethod
    def from_command_line(cls) -> Settings:
        """The settings that :func:`run_part` handed to this process."""
        values = json.loads(sys.argv[1])
        return cls(**{**values, "shape": tuple(values["shape"])})


def run_part(module: str, settings: DataclassInstance) -> dict[str, Any]:
    """Measure one part in a fresh process: memory is its own, and nothing is warm.

    Raises
    ------
    MemoryLimitError
        If the system ended the process for want of memory.
    """
    name = f"{__package__}.{module}"
    command = [sys.executable, "-m", name, json.dumps(asdict(settings))]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode in _KILLED:
        raise MemoryLimitError(
            f"The system ended {name}, probably since memory ran out. Close other programs, or "
            "give a smaller --shape."
        )
    if finished.returncode:
        raise RuntimeError(f"{name} failed:\n{finished.stderr}")
    result: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return result


def slider_values(n_moves: int) -> Iterator[tuple[str, float]]:
    """Slider moves: temperature and class scale in turn, up and down, each in steps of 0.05.

    Yields
    ------
    what
        ``temperature`` or ``class_scale``.
    value
        Its new value, from 0.5 to 2, never the one it had.
    """
    for move in range(n_moves):
        step = (move // 2 + 1) % (2 * _N_STEPS)
        yield (
            "temperature" if move % 2 == 0 else "class_scale",
            0.5 + _STEP * min(step, 2 * _N_STEPS - step),
        )


def moved(controls: Controls, what: str, value: float) -> Controls:
    """Controls after a slider move; of the classes, the third is moved."""
    if what == "temperature":
        return controls.model_copy(update={"temperature": value})
    scale = [1.0] * N_CLASSES
    scale[2] = value
    return controls.model_copy(update={"class_scale": tuple(scale)})


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Median and 95th percentile in ms."""
    p50, p95 = np.percentile(seconds, (50, 95)) * 1e3
    return {"p50_ms": round(float(p50), 3), "p95_ms": round(float(p95), 3)}


def environment(device: str = "cpu") -> dict[str, Any]:
    """The machine, the device that computed, and the software."""
    import torch

    from napari_structseg.devices import describe_device

    return {
        "device": describe_device(device),
        "cpus": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{package: version(package) for package in _PACKAGES},
    }
