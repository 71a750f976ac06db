"""The benchmark of the live explorer: ours, beside the direct way and napari's own floor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from napari_structseg.bench.memory import METHOD
from napari_structseg.bench.timing import AXES, N_CLASSES, RANK, WINDOW_SIZE, Settings, run_part
from napari_structseg.memory import check_memory

NO_WINDOW = (
    "painted_frame was not measured, and the growth of memory without the dock: run without "
    "--no-window where there is a screen"
)
# Of the direct way: its factor, twice that while it is made, and its other arrays.
_DIRECT_FLOATS = N_CLASSES * (3 * RANK + 8)


def bench_explore(settings: Settings, report: Callable[[str], None]) -> dict[str, Any]:
    """Measure everything, each part in a process of its own.

    Parameters
    ----------
    settings
        What to measure.
    report
        Told what is being measured.

    Returns
    -------
    dict
        ``visible_slice.{z,y,x}.{p50_ms,p95_ms}``, ``painted_frame.{p50_ms,p95_ms,
        napari_floor_p50_ms,napari_floor_p95_ms}`` (None where there is no window),
        ``full_volume.p50_ms``, ``peak_memory_mb``, the same under ``direct``, and what they
        were measured with.

    Raises
    ------
    MemoryLimitError
        If the direct way does not fit into memory.
    """
    n_voxels = settings.shape[0] * settings.shape[1] * settings.shape[2]
    check_memory(4 * n_voxels * _DIRECT_FLOATS, "The direct way, which is measured beside ours,")
    report("slices, volume and memory")
    ours = run_part("ours", settings)
    growth = ours.pop("memory_growth_mb")
    painted = None
    if settings.window:
        report("painted frames")
        window = run_part("painted", settings)
        painted, growth = window["painted_frame"], window["memory_growth_mb"]
    report("the direct way")
    direct = run_part("direct", settings)
    surroundings = ours.pop("environment")
    return {
        "shape": list(settings.shape),
        "classes": N_CLASSES,
        "rank": RANK,
        "moves": settings.moves,
        "window": list(WINDOW_SIZE),
        **ours,
        "painted_frame": painted,
        **({} if settings.window else {"note": NO_WINDOW}),
        f"memory_growth_mb_after_{settings.memory_moves}_moves": growth,
        "memory_method": METHOD,
        "direct": direct,
        "environment": surroundings,
    }


def rows(result: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """The result as a table: what, ours, napari's floor, the direct way."""
    direct = result["direct"]
    table = [
        (
            f"slice along {axis}, p50 / p95",
            _both(result["visible_slice"][axis]),
            "",
            _both(direct["visible_slice"][axis]),
        )
        for axis in AXES
    ]
    painted = result["painted_frame"]
    if painted is not None:
        floor = {"p50_ms": painted["napari_floor_p50_ms"], "p95_ms": painted["napari_floor_p95_ms"]}
        table.append(
            (
                "painted frame, p50 / p95",
                _both(painted),
                _both(floor),
                _both(direct["painted_frame"]),
            )
        )
    table.append(
        (
            "full volume, p50",
            f"{result['full_volume']['p50_ms']:.0f} ms",
            "",
            f"{direct['full_volume']['p50_ms']:.0f} ms",
        )
    )
    table.append(
        (
            "peak memory",
            f"{result['peak_memory_mb']:.0f} MB",
            "",
            f"{direct['peak_memory_mb']:.0f} MB",
        )
    )
    for name, value in result.items():
        if name.startswith("memory_growth_mb_after_"):
            n_moves = name.removeprefix("memory_growth_mb_after_").removesuffix("_moves")
            table.append((f"memory after {n_moves} moves", f"{value:+.1f} MB", "", ""))
    return table


def _both(times: dict[str, float]) -> str:
    return f"{times['p50_ms']:.1f} / {times['p95_ms']:.1f} ms"
