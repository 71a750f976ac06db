"""`structseg calibrate`: the spread of a model's samples, fitted to labelled cases."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from rich.table import Table

    from napari_structseg.models import CalibrationSpec, ModelSpec

Several = Parameter(negative="", consume_multiple=True)
Flag = Parameter(negative="")


def calibrate(
    dataset: Path,
    /,
    *,
    model: str,
    out: Path,
    score: Literal["likelihood", "crps", "ged"] = "likelihood",
    samples: int = 20,
    seed: int = 7,
    temperature_only: Annotated[bool, Flag] = False,
    only: Literal["spread", "domain"] | None = None,
    split: str | None = None,
    table: Path | None = None,
    rater: Annotated[list[str] | None, Several] = None,
    mixed_raters: Annotated[bool, Flag] = False,
    limit: int | None = None,
    device: str = "auto",
    overwrite: Annotated[bool, Flag] = False,
) -> None:
    """Fit a model to labelled cases: how far its samples stray, and what images it serves.

    A copy of the model is written that starts with the temperature and the class scales found, in
    the dock, in structseg predict and in structseg evaluate, and that says of an image unlike
    these that it is outside what the model was made for. Use cases that it was not trained on.
    Ctrl-C writes nothing.

    Parameters
    ----------
    dataset
        Folder of a data set, as structseg train reads it.
    model
        Name of a model that comes with the program, or a .safetensors file.
    out
        File for the calibrated model, *.safetensors.
    score
        What is minimised: likelihood of the labels of voxels, crps of the volumes of classes, or
        ged, the generalised energy distance between samples and raters.
    samples
        Samples of each case.
    seed
        From which the seed of each case follows.
    temperature_only
        Leave the scales of the classes at 1.
    only
        Fit how far samples stray alone (spread), or what images the model serves alone (domain);
        both if not given.
    split
        Only cases of this split of the table or the data set.
    table
        CSV file with the columns case and split.
    rater
        Only these raters, by name.
    mixed_raters
        Accept cases with different numbers of raters.
    limit
        At most so many cases, spread evenly over them in order of name.
    device
        auto (a GPU if there is one), cpu, cuda:0, ...
    overwrite
        Replace a file that is there.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from napari_structseg.calibration.run import run
    from napari_structseg.calibration.settings import Calibration
    from napari_structseg.cohort.cases import Selection

    wanted = Calibration(
        dataset,
        model,
        out,
        score,
        samples,
        seed,
        not temperature_only,
        only,
        Selection(table, split, None, tuple(rater or ()), mixed_raters, limit),
        device,
    )
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console) as bars:
        tasks = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        try:
            found = run(wanted, overwrite=overwrite, report=report)
        except KeyboardInterrupt as interrupt:
            raise type(interrupt)("Stopped. Nothing was written.") from interrupt
    if found.calibration is not None and only != "domain":
        Console(highlight=False).print(_table(found.calibration))
    console.print("\n".join(_said(found, out, only)), markup=False)


def _table(found: CalibrationSpec) -> Table:
    """Every score before and after."""
    from rich.table import Table

    table = Table()
    table.add_column("score")
    table.add_column("all at 1", justify="right")
    table.add_column("calibrated", justify="right")
    for name, before in found.before.items():
        told = f"{name} (minimised)" if name == found.score else name
        table.add_row(told, f"{before:.4f}", f"{found.after[name]:.4f}")
    table.caption = "lower is better; on the cases of the fit"
    return table


def _said(spec: ModelSpec, out: Path, only: str | None) -> Iterator[str]:
    found, domain = spec.calibration, spec.domain
    if found is not None and only != "domain":
        scales = zip(spec.class_names, found.class_scale, strict=True)
        listed = ", ".join(f"{name} {scale:.2f}" for name, scale in scales)
        yield f"Temperature {found.temperature:.2f}; class scales: {listed}."
    if only != "spread":
        yield (
            "There are too few cases to say what images the model serves."
            if domain is None
            else f"What images it serves: {len(domain.statistics)} statistics of {domain.cases} "
            "cases."
        )
    yield f"Calibrated model: {out}"
    yield (
        "Next, on other cases: structseg evaluate DATASET --samples 100 --json results.json "
        f"--model {shlex.quote(str(out))}"
    )
