"""`napari_structseg.evaluate`: measuring models on a data set from Python, in one call."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from napari_structseg.cohort.cases import Selection
from napari_structseg.cohort.draws import DrawSettings, Refine
from napari_structseg.cohort.facts import Report
from napari_structseg.cohort.run import evaluate as run
from napari_structseg.cohort.settings import COMPARED, Evaluation
from napari_structseg.devices import AUTO
from napari_structseg.evaluation.overlaps import Absent
from napari_structseg.results.request import FilePath, files
from napari_structseg.workers.crew import Crew


def evaluate(
    dataset: FilePath,
    models: FilePath | Sequence[FilePath],
    out: FilePath,
    *,
    samples: int,
    seed: int = 7,
    temperature: float | None = None,
    iterations: int | None = None,
    refine: Refine = "model",
    counts: Sequence[int] = (),
    split: str | None = None,
    table: FilePath | None = None,
    patient_separator: str | None = None,
    raters: Sequence[str] = (),
    mixed_raters: bool = False,
    limit: int | None = None,
    absent: Absent = "agree",
    tolerance: float = 1.0,
    compare: Sequence[str] = COMPARED,
    batch: int = 16,
    device: str = AUTO,
    workers: int | None = None,
    scheduler: str | None = None,
    predictions: Mapping[str, FilePath] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    report: Report | None = None,
) -> dict[str, Any]:
    """Measure models on a data set, as ``structseg evaluate`` does.

    Parameters
    ----------
    dataset
        Folder of a data set as ``structseg train`` reads it.
    models
        Names of shipped models, or files; one or several, or none beside `predictions`.
    out
        File for the summary, ``*.json``; rows go to ``*.rows.jsonl`` beside it.
    samples, seed, temperature, iterations, batch
        How samples are drawn; temperature None: as each model was calibrated, else 1; iterations
        None: each model's own number.
    refine
        What makes the labels: ``none``, ``mean-field``, ``cut``, or ``model``: as each model says.
    counts
        Numbers of samples for which the energy distance is given besides all of them.
    split, table, patient_separator, raters, mixed_raters, limit
        Which cases and raters, see docs/evaluation.md.
    absent, tolerance, compare
        What a class in neither counts, mm of the surface Dice, metrics to compare models by.
    device
        ``auto``, ``cpu``, ``cuda:0``, ...
    predictions
        Folders of predictions that other programs made, by the name that each has in the table.
    workers, scheduler
        Processes on this computer that compute cases, 1 if None; or the address of a scheduler of
        dask.distributed. A script that asks for several needs ``if __name__ == "__main__":``.
    resume, overwrite
        Go on with the rows that are there, or replace them.
    report
        Told what is being done, and how much of it is.

    Returns
    -------
    summary
        What was written: ``summary["models"][0]["metrics"]["ged"]["mean"]``, for example.

    Raises
    ------
    ConfigError, InputError, WeightsError, MemoryLimitError
        If settings, data or models do not fit, before anything is computed.

    Examples
    --------
    >>> summary = evaluate("LIDC", "lung-nodule", "r.json", samples=100)  # doctest: +SKIP
    """
    evaluation = Evaluation(
        Path(dataset),
        tuple(os.fspath(model) for model in files(models)),
        DrawSettings(samples, seed, temperature, iterations, batch, refine),
        Selection(
            table=None if table is None else Path(table),
            split=split,
            patient_separator=patient_separator,
            raters=tuple(raters),
            mixed_raters=mixed_raters,
            limit=limit,
        ),
        tuple(counts),
        absent,
        tolerance,
        tuple(compare),
        device,
        tuple(Path(folder) for folder in (predictions or {}).values()),
        tuple(predictions or ()),
    )
    return run(
        evaluation,
        Path(out),
        resume=resume,
        overwrite=overwrite,
        report=report,
        crew=Crew(workers, scheduler),
    )
