"""The page of the correction experiment and its figure, from its results."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_structseg.io.atomic import atomic_path

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE, FIGURE = DOCS / "experiments-correction.md", DOCS / "figures" / "correction.png"
MARKS = ("<!-- tables: experiments/correction/run.py -->", "<!-- end of tables -->")
SHOWN = (0, 1, 2, 4, 8, 12)
_RESAMPLINGS = 2000
_SWEEP = " sweep"


def write_page(results: dict[str, Any]) -> None:
    """Replace the tables of the page, and draw the figure.

    Parameters
    ----------
    results
        By data set.
    """
    lines: list[str] = []
    for name, result in results.items():
        lines += [*table(name, result), ""]
    if not lines:
        return
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    with atomic_path(PAGE) as temporary:
        text = before + "\n".join([MARKS[0], *lines[:-1], MARKS[1]]) + after
        temporary.write_text(text, encoding="utf-8")
    shown = {name: one for name, one in results.items() if not name.endswith(_SWEEP)}
    if shown:
        figure(shown)


def table(name: str, result: dict[str, Any]) -> Iterator[str]:
    """Dice after some strokes, the mean over cases and its interval, for each way."""
    steps = [step for step in SHOWN if step <= result["strokes"]]
    first = next(iter(result["ways"].values()))
    yield f"**{name}**: {result['model']}, {len(curve(first))} cases"
    yield ""
    yield "| Way | " + " | ".join(f"{step} strokes" for step in steps) + " | one stroke |"
    yield "|---" * (len(steps) + 2) + "|"
    for way, rows in result["ways"].items():
        dice = curve(rows)
        cells = []
        for step in steps:
            low, high = interval(dice[:, step])
            cells.append(f"{dice[:, step].mean():.3f} [{low:.3f}, {high:.3f}]")
        times = [row["ms"] for row in rows if row["ms"] is not None]
        yield f"| {way} | " + " | ".join(cells) + f" | {np.median(times):.0f} ms |"
    baselines = [way for way in result["ways"] if way != "conditioning"]
    if "conditioning" in result["ways"]:
        ours = curve(result["ways"]["conditioning"])[:, steps[-1]]
        for way in baselines:
            gain = ours - curve(result["ways"][way])[:, steps[-1]]
            low, high = interval(gain)
            yield ""
            yield (
                f"Conditioning above {way} after {steps[-1]} strokes, on the same cases: "
                f"{gain.mean():+.3f} [{low:+.3f}, {high:+.3f}]."
            )
    yield ""
    yield f"{result['machine']}; {result['cpu_seconds']} s of processor time."


def curve(rows: list[dict[str, Any]]) -> npt.NDArray[np.float64]:
    """Dice of each case after each stroke, averaged over users, ``(cases, strokes + 1)``."""
    of_case: dict[str, list[list[float]]] = {}
    for row in rows:
        of_case.setdefault(row["case"], []).append(row["dice"])
    return np.array([np.mean(one, axis=0) for one in of_case.values()])


def interval(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """95 % interval of a mean over cases, by bootstrap."""
    chance = np.random.default_rng(0)
    drawn = chance.choice(values, (_RESAMPLINGS, len(values))).mean(axis=1)
    low, high = np.percentile(drawn, (2.5, 97.5))
    return float(low), float(high)


def figure(results: dict[str, Any]) -> None:
    """Dice against strokes, a panel for each data set."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    panels = plt.subplots(1, len(results), figsize=(4.5 * len(results), 3.6), squeeze=False)
    for axes, (name, result) in zip(panels[1][0], results.items(), strict=True):
        for way, rows in result["ways"].items():
            dice = curve(rows)
            steps = np.arange(dice.shape[1])
            low, high = np.array([interval(column) for column in dice.T]).T
            (line,) = axes.plot(steps, dice.mean(axis=0), label=way)
            axes.fill_between(steps, low, high, color=line.get_color(), alpha=0.15)
        axes.set(title=name, xlabel="strokes", ylabel="Dice")
        axes.legend(fontsize=8)
    panels[0].tight_layout()
    FIGURE.parent.mkdir(exist_ok=True)
    panels[0].savefig(FIGURE, dpi=110)
