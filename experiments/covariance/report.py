"""The page of the covariance experiment, from its results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import mean
from typing import Any

from napari_structseg.io.atomic import atomic_path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "experiments-covariance.md"
MARKS = ("<!-- tables: experiments/covariance/run.py -->", "<!-- end of tables -->")

Run = dict[str, Any]
# Heading, value of a run, and how it is written.
COLUMNS: tuple[tuple[str, Callable[[Run], float], str], ...] = (
    ("Runaway", lambda run: 100 * run["runaway_samples"] / run["samples"], "{:.2f} %"),
    ("Largest", lambda run: run["largest"], "{:.1f}"),
    ("Dice of mean", lambda run: run["dice"], "{:.3f}"),
    ("of samples", lambda run: run["sample_dice"], "{:.3f}"),
    ("of worst 5 %", lambda run: run["worst_dice"], "{:.3f}"),
    ("GED", lambda run: run["ged"], "{:.3f}"),
    ("Covered", lambda run: 100 * run["covered"], "{:.0f} %"),
    ("Width", lambda run: 100 * run["width"], "{:.0f} %"),
)


def write_page(results: dict[str, dict[str, Any]]) -> None:
    """Replace the tables of the page.

    Parameters
    ----------
    results
        By the name of the configuration.
    """
    lines: list[str] = []
    for name, of_config in results.items():
        lines += [f"**{name}.toml**", "", *table(of_config), "", how_it_was_made(of_config), ""]
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    text = "\n".join([MARKS[0], *lines[:-1], MARKS[1]])
    with atomic_path(PAGE) as temporary:
        temporary.write_text(before + text + after, encoding="utf-8")


def table(results: dict[str, Any]) -> Iterator[str]:
    """A row for each variant: the mean over its seeds, and the lowest and the highest."""
    yield "| Variant | Seeds | " + " | ".join(name for name, _, _ in COLUMNS) + " |"
    yield "|---" * (len(COLUMNS) + 2) + "|"
    for variant in dict.fromkeys(run["variant"] for run in results["runs"]):
        runs = [run for run in results["runs"] if run["variant"] == variant]
        cells = [variant, ", ".join(str(run["seed"]) for run in runs)]
        for _, value, form in COLUMNS:
            values = [value(run) for run in runs]
            cell = form.format(mean(values))
            if len(runs) > 1:
                low, high = (
                    form.format(end).removesuffix(" %") for end in (min(values), max(values))
                )
                cell += f" ({low} to {high})"
            cells.append(cell)
        yield "| " + " | ".join(cells) + " |"


def how_it_was_made(results: dict[str, Any]) -> str:
    """Command, machine and time."""
    config, runs = results["config"], results["runs"]
    seconds = sum(run["cpu_seconds"] for run in runs)
    threads = "1 thread" if results["threads"] == 1 else f"{results['threads']} threads"
    return (
        f"`{results['command']}` on a machine with {results['machine']} ({results['device']}), "
        f"{threads}, torch {results['torch']}: {config['training']['steps']} steps, "
        f"{config['training_cases']} cases to train on, {config['test_cases']} to test on with "
        f"{config['test_samples']} samples of each. Training took {seconds:.0f} s of CPU time for "
        f"{len(runs)} runs."
    )
