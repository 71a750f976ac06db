"""Sliders while a model learns in the background, and what that costs the learning."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from napari_structseg.bench.timing import N_CLASSES, RANK, environment, run_part


@dataclass(frozen=True, slots=True)
class FinetuneSettings:
    """What is measured.

    Attributes
    ----------
    shape
        (Z, Y, X) of the image.
    moves
        Slider moves behind each percentile.
    seconds
        For how long steps are counted while no slider moves.
    patch
        Voxels along each side of a training patch.
    window
        Whether frames are painted, in a real viewer.
    device
        Where the model learns.
    """

    shape: tuple[int, int, int]
    moves: int
    seconds: float
    patch: int
    window: bool
    device: str = "cpu"

    @classmethod
    def from_command_line(cls) -> FinetuneSettings:
        """The settings that `run_part` handed to this process."""
        values = json.loads(sys.argv[1])
        return cls(**{**values, "shape": tuple(values["shape"])})


def bench_finetune(settings: FinetuneSettings, report: Callable[[str], None]) -> dict[str, Any]:
    """Measure everything, in a process of its own beside that which learns.

    Parameters
    ----------
    settings
        What to measure.
    report
        Told what is being measured.

    Returns
    -------
    dict
        ``slider_p95_ms.{alone,training,ratio}``, the same of ``slider_p50_ms``,
        ``first_move_p95_ms`` of each drag, ``steps_per_second.{alone,exploring}``,
        ``environment``.
    """
    report("sliders beside fine-tuning")
    part = "finetune_painted" if settings.window else "finetune_engine"
    return {
        "shape": list(settings.shape),
        "classes": N_CLASSES,
        "rank": RANK,
        "moves": settings.moves,
        "patch": settings.patch,
        "painted": settings.window,
        **run_part(part, settings),
        "environment": environment(settings.device),
    }


def rows(result: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """The result as a table: what, alone, together, their ratio."""
    table = []
    for name, words in (
        ("slider_p50_ms", "slider to slice, p50"),
        ("slider_p95_ms", "slider to slice, p95"),
        ("first_move_p95_ms", "first move of a drag, p95"),
    ):
        times = result[name]
        table.append(
            (
                words,
                f"{times['alone']:.1f} ms",
                f"{times['training']:.1f} ms",
                f"{times['ratio']:.2f}",
            )
        )
    rate = result["steps_per_second"]
    share = rate["exploring"] / rate["alone"] if rate["alone"] else 0.0
    table.append(
        (
            "steps of training",
            f"{rate['alone']:.2f} / s",
            f"{rate['exploring']:.2f} / s",
            f"{share:.2f}",
        )
    )
    return table
