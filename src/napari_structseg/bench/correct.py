"""Strokes beside the full-volume way: from a stroke to the corrected visible slice."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_structseg.bench.memory import METHOD
from napari_structseg.bench.timing import N_CLASSES, RANK, environment, run_part
from napari_structseg.distributions import Strokes

_WARM_UP = 3
DAB = 5
"""Voxels along each side of one dab of the brush."""

# How far the next one is from it.
_STEP = 7


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


def places(shape: tuple[int, int, int], n_strokes: int) -> Iterator[tuple[int, int, int]]:
    """Where the first voxel of each dab of the brush is, on the middle slice: row by row.

    The first few warm up, see :func:`after_warm_up`.
    """
    _, rows, columns = shape
    per_row = max(1, (columns - DAB) // _STEP)
    for number in range(_WARM_UP + n_strokes):
        top = (number // per_row * _STEP) % max(1, rows - DAB)
        yield shape[0] // 2, top, number % per_row * _STEP


def dabs(shape: tuple[int, int, int], n_strokes: int) -> Iterator[Strokes]:
    """Strokes with one square dab more than the ones before, at :func:`places`."""
    strokes = Strokes.none(shape)
    for number, (middle, top, left) in enumerate(places(shape, n_strokes)):
        dab = np.zeros((1, min(DAB, shape[1] - top), min(DAB, shape[2] - left)), np.uint8)
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
        or to its labels where no frames are painted (``painted``), and ``event``, the part of it in
        which the window answers to nothing else but the stroke; ``stroke_to_labels`` without a
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
    event = said.get("event")
    in_event = [] if event is None else [("of that in the event of the mouse", _both(event), "")]
    return [
        (f"{name}, p50 / p95", _both(said), ""),
        *in_event,
        (
            "stroke to labels, p50 / p95",
            _both(labels),
            _both(direct),
        ),
        ("first stroke", f"{result['first_stroke_ms']:.0f} ms", ""),
        (
            "peak memory",
            f"{result['peak_memory_mb']:.0f} MB",
            f"{direct['peak_memory_mb']:.0f} MB",
        ),
    ]


def _both(times: Mapping[str, float]) -> str:
    return f"{times['p50_ms']:.0f} / {times['p95_ms']:.0f} ms"
