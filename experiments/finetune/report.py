"""The page of the fine-tuning experiment and its figure, from the rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_structseg.io.atomic import atomic_path

HERE = Path(__file__).resolve().parent
DOCS = HERE.parents[1] / "docs"
PAGE, FIGURE = DOCS / "experiments-finetune.md", DOCS / "figures" / "finetune.png"
RESULTS = HERE / "rows.jsonl"
MARKS = ("<!-- tables: experiments/finetune/run.py -->", "<!-- end of tables -->")
# What is shown, and its name.
MEASURES = {
    "dice": "Dice",
    "original": "Dice of the original kind",
    "ged": "energy distance to all raters",
    "ged_style": "energy distance to the one",
}
DEFAULT_PULL = 0.001
_RESAMPLINGS = 2000
# Of fewer numbers of corrected cases there is no curve.
_FEWEST_POINTS = 2

Row = dict[str, Any]
Values = npt.NDArray[np.float64]


def read_rows(path: Path) -> list[Row]:
    """Rows as they were written, the last one of each cell; the last line may be cut off."""
    if not path.exists():
        return []
    rows: dict[str, Row] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        rows[row["key"]] = row
    return list(rows.values())


def write_report(path: Path) -> None:
    """Replace the tables of the page, and draw the figure.

    Parameters
    ----------
    path
        New rows, which replace those beside this file; where there are none, those are used.
    """
    rows = read_rows(path) or read_rows(RESULTS)
    if not rows:
        return
    with atomic_path(RESULTS) as temporary:
        text = "".join(json.dumps(row) + "\n" for row in sorted(rows, key=lambda row: row["key"]))
        temporary.write_text(text, encoding="utf-8")
    lines: list[str] = []
    for name in dict.fromkeys(row["domain"] for row in rows):
        lines += [*table(name, [row for row in rows if row["domain"] == name]), ""]
    if len({row["n"] for row in rows}) > _FEWEST_POINTS:
        figure(rows)
        lines = ["![Dice of cases that nobody corrected](figures/finetune.png)", "", *lines]
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    with atomic_path(PAGE) as temporary:
        text = before + "\n".join([MARKS[0], *lines[:-1], MARKS[1]]) + after
        temporary.write_text(text, encoding="utf-8")


def table(name: str, rows: list[Row]) -> Iterator[str]:
    """A line for each way to tune, after its last step."""
    start = next((row for row in rows if row["n"] == 0), None)
    seeds = {row["seed"] for row in rows if row["n"]}
    yield f"**{name}**: {len(rows[0]['tests'])} test cases, {len(seeds)} of 3 seeds begun"
    yield ""
    kinds = [key for key in MEASURES if key in rows[0]["looks"][-1]]
    yield (
        "| Corrected | Learns from | Held by | Seeds | "
        + " | ".join(MEASURES[key] for key in kinds)
        + " | above the start | minutes |"
    )
    yield "|---" * (6 + len(kinds)) + "|"
    for setting in sorted({setting_of(row) for row in rows}):
        same = [row for row in rows if setting_of(row) == setting]
        n, learn_from, guard, pull = setting
        held = f"pull {pull:g}" if guard == "pull" else guard
        cells = [f"{values_of(same, key).mean():.3f}" for key in kinds]
        gain, minutes = "", ""
        if start is not None and n:
            low, mean, high = gain_of(same, start)
            gain = f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"
        if n:
            minutes = f"{np.mean([row['looks'][-1]['cpu_minutes'] for row in same]):.1f}"
        what = ("whole case" if learn_from == "result" else "strokes") if n else ""
        parts = [n, what, held if n else "", len(same), *cells, gain, minutes]
        yield "| " + " | ".join(map(str, parts)) + " |"
    yield ""
    yield helps_after(rows, start)


def setting_of(row: Row) -> tuple[int, str, str, float]:
    """What is the same for all seeds."""
    return row["n"], row["learn_from"], row["guard"], row["pull"]


def values_of(rows: list[Row], key: str, look: int = -1) -> Values:
    """A measure of each case, averaged over seeds."""
    return np.mean([row["looks"][look][key] for row in rows], axis=0)


def gain_of(rows: list[Row], start: Row, look: int = -1) -> tuple[float, float, float]:
    """How far Dice is above that of the start: 95 % interval over cases, and mean."""
    gain = values_of(rows, "dice", look) - np.array(start["looks"][-1]["dice"])
    chance = np.random.default_rng(0)
    drawn = chance.choice(gain, (_RESAMPLINGS, len(gain))).mean(axis=1)
    low, high = np.percentile(drawn, (2.5, 97.5))
    return float(low), float(gain.mean()), float(high)


def helps_after(rows: list[Row], start: Row | None) -> str:
    """The fewest corrected cases after which the interval of the gain is above 0."""
    if start is None:
        return "The model as it is was not measured yet."
    said = []
    for learn_from, what in (("result", "whole cases"), ("strokes", "strokes alone")):
        ours = [
            row
            for row in rows
            if row["n"] and row["learn_from"] == learn_from and row["guard"] == "pull"
        ]
        numbers = sorted({row["n"] for row in ours if row["pull"] == DEFAULT_PULL})
        found = [
            n
            for n in numbers
            if gain_of([r for r in ours if r["n"] == n and r["pull"] == DEFAULT_PULL], start)[0] > 0
        ]
        tried = ", ".join(map(str, numbers)) or "nothing yet"
        after = f"{found[0]} corrected" if found else "none of these numbers"
        said.append(f"{what}: {after} (tried: {tried})")
    return "Tuning helps, the interval above 0, after: " + "; ".join(said) + "."


def figure(rows: list[Row]) -> None:
    """Dice against corrected cases, and against minutes; a column for each data set."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    names = list(dict.fromkeys(row["domain"] for row in rows if row["n"]))
    drawn, panels = plt.subplots(2, len(names), figsize=(4.2 * len(names), 6.4), squeeze=False)
    for column, name in enumerate(names):
        ours = [row for row in rows if row["domain"] == name]
        start = [row for row in ours if row["n"] == 0]
        top, bottom = panels[0][column], panels[1][column]
        for learn_from, guard, label in (
            ("result", "pull", "whole cases, pull"),
            ("strokes", "pull", "strokes, pull"),
            ("result", "replay", "whole cases, replay"),
            ("result", "none", "whole cases, nothing holds"),
        ):
            same = [
                row
                for row in ours
                if row["n"]
                and (row["learn_from"], row["guard"]) == (learn_from, guard)
                and row["pull"] in (0.0, DEFAULT_PULL)
            ]
            if not same:
                continue
            numbers = sorted({row["n"] for row in same})
            of = {n: [row for row in same if row["n"] == n] for n in numbers}
            dice = [values_of(of[n], "dice").mean() for n in numbers]
            first = [values_of(start, "dice").mean()] if start else []
            (line,) = top.plot([0] * len(first) + numbers, first + dice, marker="o", label=label)
            last = of[numbers[-1]]
            looks = range(len(last[0]["looks"]))
            minutes = [np.mean([row["looks"][k]["cpu_minutes"] for row in last]) for k in looks]
            of_looks = [values_of(last, "dice", k).mean() for k in looks]
            bottom.plot(
                [0.0] * len(first) + minutes,
                first + of_looks,
                marker="o",
                color=line.get_color(),
                label=f"{label}, {numbers[-1]} cases",
            )
        top.set(title=name, xlabel="corrected cases", ylabel="Dice of others")
        bottom.set(xlabel="minutes of one core", ylabel="Dice of others")
        for axes in (top, bottom):
            axes.legend(fontsize=7)
    drawn.tight_layout()
    FIGURE.parent.mkdir(exist_ok=True)
    drawn.savefig(FIGURE, dpi=110)
    plt.close(drawn)
