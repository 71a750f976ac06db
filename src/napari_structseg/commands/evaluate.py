"""`structseg evaluate`: how good models are on a data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from rich.table import Table

# More do not fit into 80 columns.
_MOST_WITH_INTERVALS = 2
_REFINED = {"none": "", "mean-field": "\nwith MRF", "cut": "\nwith CRF"}

Several = Parameter(negative="", consume_multiple=True)
Flag = Parameter(negative="")


def evaluate(
    dataset: Path,
    /,
    *,
    samples: int,
    json: Path,
    model: Annotated[list[str] | None, Several] = None,
    predictions: Annotated[list[Path] | None, Several] = None,
    name: Annotated[list[str] | None, Several] = None,
    counts: Annotated[list[int] | None, Several] = None,
    seed: int = 7,
    temperature: float | None = None,
    iterations: int | None = None,
    refine: Literal["model", "none", "mean-field", "cut"] = "model",
    split: str | None = None,
    table: Path | None = None,
    patient_separator: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    rater: Annotated[list[str] | None, Several, Parameter(name=["--rater", "--reader"])] = None,
    mixed_raters: Annotated[
        bool, Flag, Parameter(name=["--mixed-raters", "--mixed-readers"])
    ] = False,
    limit: int | None = None,
    absent: Literal["agree", "ignore"] = "agree",
    tolerance: float = 1.0,
    compare: Annotated[list[str] | None, Several] = None,
    batch: int = 16,
    device: str = "auto",
    workers: int | None = None,
    scheduler: str | None = None,
    resume: Annotated[bool, Flag] = False,
    overwrite: Annotated[bool, Flag] = False,
) -> None:
    """Evaluate models on a data set with one or several raters.

    Everything is read and checked before the first case is computed. Every case of every model
    is a row in *.rows.jsonl beside the summary; Ctrl-C keeps the rows that are there.

    Parameters
    ----------
    dataset
        Folder of a data set, as structseg train reads it.
    model
        Names of models that come with the program, or .safetensors files.
    predictions
        Folders of predictions that other programs made, to be scored beside the models: a file
        CASE.npz (nnU-Net) or CASE.nii.gz (labels or probabilities) for each case, or one folder of
        such files for each fold or sample.
    name
        What to call these, one for each folder; their folders' names if not given.
    samples
        Samples of each case.
    json
        File for the summary, *.json.
    counts
        Numbers of samples for which the energy distance is given besides all of them.
    seed
        From which the seed of each case follows.
    temperature
        How far samples stray from the mean, from 0 to 3; as each model was calibrated, else 1, if
        not given.
    iterations
        Iterations of mean field, from 0 to 50; the model's own number if not given.
    refine
        What makes the labels of mean and samples: model, as each model says: the graph cut of the
        CRF that was learned with it, else mean field with its MRF; none, the model alone;
        mean-field; or cut, with the weights that were learned, else those of predict --cut.
    split
        Only cases of this split of the table or the data set.
    table
        CSV file with the columns case, patient and split; patient or split may be missing.
    patient_separator
        The patient is what comes before this in a case's name.
    rater
        Only these raters, by name.
    mixed_raters
        Accept cases with different numbers of raters.
    limit
        At most so many cases, spread evenly over them in order of name.
    absent
        A class that neither of two segmentations has: agree counts as an IoU of 1, ignore leaves
        it out.
    tolerance
        Of the surface Dice, in mm.
    compare
        Metrics by which models are compared; ged and dice if not given.
    batch
        Samples that are drawn at a time.
    device
        auto (a GPU if there is one), cpu, cuda:0, ...
    workers
        Processes on this computer that compute cases; 1 if not given.
    scheduler
        Address of a scheduler of dask.distributed, or the file that it wrote, whose workers
        compute cases.
    resume
        Continue an evaluation that was interrupted, or add a model to it.
    overwrite
        Replace an earlier evaluation.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from napari_structseg.cohort.cases import Selection
    from napari_structseg.cohort.draws import DrawSettings
    from napari_structseg.cohort.run import evaluate as run
    from napari_structseg.cohort.settings import COMPARED, Evaluation
    from napari_structseg.workers.crew import Crew

    evaluation = Evaluation(
        dataset,
        tuple(model or ()),
        DrawSettings(samples, seed, temperature, iterations, batch, refine),
        Selection(table, split, patient_separator, tuple(rater or ()), mixed_raters, limit),
        tuple(counts or ()),
        absent,
        tolerance,
        tuple(compare or COMPARED),
        device,
        tuple(predictions or ()),
        tuple(name or ()),
    )
    crew = Crew(workers, scheduler)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console) as bars:
        tasks = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done)

        try:
            summary = run(
                evaluation, json, resume=resume, overwrite=overwrite, report=report, crew=crew
            )
        except KeyboardInterrupt as interrupt:
            raise KeyboardInterrupt(
                "Stopped. The rows that were computed are kept; continue with the same command "
                "and --resume."
            ) from interrupt
    console.print(_said_of_data(summary["data"]), markup=False)
    Console(highlight=False).print(_table(summary))
    for one in summary["comparisons"]:
        console.print(_said_of_pair(one), markup=False)
    for one in summary["models"]:
        if one["members"] is not None and one["members"] < samples:
            console.print(
                f"{one['label']} is a set of {one['members']}: {samples} samples of it repeat "
                "these.",
                markup=False,
            )
    console.print(f"All metrics, with what was left out of each, are in {json}", markup=False)


def _said_of_data(data: dict[str, Any]) -> str:
    said = f"{data['cases']} cases of {data['patients']} patients"
    if data["empty_masks"]:
        said += (
            f"; {data['empty_masks']} masks of raters are empty, and nobody marked anything in "
            f"{data['cases_that_nobody_marked']} cases"
        )
    return said


def _said_of_pair(comparison: dict[str, Any]) -> str:
    said = "{metric} of {first} less that of {second}: ".format(**comparison)
    if comparison["difference"] is None or comparison["low"] is None:
        return f"{said}undefined, on {comparison['patients']} patients"
    return said + (
        "{difference:+.3f} ({low:+.3f} to {high:+.3f}), p = {p_bonferroni:.2g} corrected for "
        "{tests} tests, {patients} patients".format(**comparison)
    )


def _table(summary: dict[str, Any]) -> Table:
    from rich.table import Table

    models = summary["models"]
    with_interval = len(models) <= _MOST_WITH_INTERVALS
    table = Table()
    table.add_column("metric", no_wrap=True)
    for model in models:
        table.add_column(f"{model['label']}{_REFINED[model['refined_by']]}", justify="right")
    table.caption = "mean (95 % interval over patients)" if with_interval else "mean"
    for name in summary["metrics"]:
        # Single classes are in the file.
        if ":" not in name:
            cells = (_cell(model["metrics"][name], with_interval) for model in models)
            table.add_row(name, *cells)
    return table


def _cell(metric: dict[str, Any], with_interval: bool) -> str:
    if metric["mean"] is None:
        return "undefined"
    # Of numbers too large to be added up an end of the interval is undefined, too.
    if metric["low"] is None or metric["high"] is None or not with_interval:
        return f"{metric['mean']:.3f}"
    return f"{metric['mean']:.3f} ({metric['low']:.3f}–{metric['high']:.3f})"
