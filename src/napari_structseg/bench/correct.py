"""Strokes beside the full-volume way: from a stroke to the corrected visible slice."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_structseg.bench.memory import METHOD
from napari_structseg.bench.timing import N_CLASSES, RANK, environment, run_part
from napari_structseg.distributions import Strokes

_WARM_UP = 3
# Voxels along each side of one dab of the brush, and how far the next one is from it.
_DAB, _STEP = 5, 7


@dataclass(frozen=True, slots=True)
class CorrectSettings:
    """What is measured.

    Attributes
    ----------
    shape
        (Z, Y, X) of the image.
    strokes
        Dabs of the brush behind each percentile; each is added to those before.
    direct_strokes
        The same for the full-volume way, which takes seconds for each.
    window
        Whether frames are painted, in a real viewer.
    """

    shape: tuple[int, int, int]
    strokes: int
    direct_strokes: int
    window: bool

    @classmethod
    def from_command_line(cls) -> CorrectSettings:
        """The settings that `run_part` handed to this process."""
        values = json.loads(sys.argv[1])
        return cls(**{**values, "shape": tuple(values["shape"])})


def dabs(shape: tuple[int, int, int], n_strokes: int) -> Iterator[Strokes]:
    """Strokes on the middle slice, each with one dab more than the one before.

    The first few warm up, see :func:`after_warm_up`.
    """
    middle, rows, columns = shape[0] // 2, shape[1], shape[2]
    strokes = Strokes.none(shape)
    per_row = max(1, (columns - _DAB) // _STEP)
    for number in range(_WARM_UP + n_strokes):
        top = (number // per_row * _STEP) % max(1, rows - _DAB)
        left = number % per_row * _STEP
        dab = np.zeros((1, min(_DAB, rows - top), min(_DAB, columns - left)), np.uint8)
        dab[:] = number % N_CLASSES + 1
        place = (
            slice(middle, middle + 1),
            slice(top, top + dab.shape[1]),
            slice(left, left + dab.shape[2]),
        )
        strokes = strokes.repainted(place, dab)
        yield strokes


def after_warm_up(seconds: list[float]) -> list[float]:
    """Those that count."""
    return seconds[_WARM_UP:]


def bench_correct(settings: CorrectSettings, report: Callable[[str], None]) -> dict[str, Any]:
    """Measure each part in a fresh process.

    Parameters
    ----------
    settings
        What is measured.
    report
        Called with what is measured next.

    Returns
    -------
    dict
        ``stroke_to_slice``: ``p50_ms`` and ``p95_ms`` from a stroke to the painted visible slice,
        or to its labels where no frames are painted (``painted``); ``stroke_to_labels`` without a
        window; ``direct``, the full-volume way; ``speedup`` of its median over that of
        ``stroke_to_labels``; ``environment``.
    """
    report("the engine")
    computed = run_part("correct_ours", settings)
    report("the full-volume way")
    direct = run_part("correct_direct", settings)
    painted = None
    if settings.window:
        report("painted frames")
        painted = run_part("correct_painted", settings)
    return {
        "shape": list(settings.shape),
        "classes": N_CLASSES,
        "rank": RANK,
        "stroke_to_slice": {
            **(computed["stroke_to_labels"] if painted is None else painted),
            "painted": painted is not None,
        },
        **computed,
        "direct": direct,
        "speedup": round(direct["p50_ms"] / computed["stroke_to_labels"]["p50_ms"], 2),
        "memory_method": METHOD,
        "environment": environment(),
    }


def rows(result: dict[str, Any]) -> list[tuple[str, str, str]]:
    """What was measured, ours and the full-volume way: for a table."""
    said, labels, direct = result["stroke_to_slice"], result["stroke_to_labels"], result["direct"]
    name = "stroke to painted slice" if said["painted"] else "stroke to slice"
    return [
        (f"{name}, p50 / p95", f"{said['p50_ms']:.0f} / {said['p95_ms']:.0f} ms", ""),
        (
            "stroke to labels, p50 / p95",
            f"{labels['p50_ms']:.0f} / {labels['p95_ms']:.0f} ms",
            f"{direct['p50_ms']:.0f} / {direct['p95_ms']:.0f} ms",
        ),
        ("first stroke", f"{result['first_stroke_ms']:.0f} ms", ""),
        (
            "peak memory",
            f"{result['peak_memory_mb']:.0f} MB",
            f"{direct['peak_memory_mb']:.0f} MB",
        ),
    ]
