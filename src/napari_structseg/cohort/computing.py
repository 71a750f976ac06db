"""The rows of an evaluation: computed here, or by the workers of a cluster.

Only the process that hands out writes rows, so that none is there twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from napari_structseg.cohort.cases import Cohort
from napari_structseg.cohort.draws import DrawSettings, draw_case
from napari_structseg.cohort.facts import Report
from napari_structseg.cohort.loaded import LoadedModel, load_models
from napari_structseg.cohort.rows import Row, RowFile, defined
from napari_structseg.cohort.settings import Evaluation
from napari_structseg.data.cases import ReadCase
from napari_structseg.errors import InputError, StructSegError
from napari_structseg.evaluation.scores import ScoreSettings, score_case
from napari_structseg.io.model_files import shipped_models
from napari_structseg.workers.cluster import Ended, spread

if TYPE_CHECKING:
    from distributed import Client


@dataclass(frozen=True, slots=True)
class Job:
    """One case, for a worker.

    Attributes
    ----------
    evaluation
        What, and how; with paths that every process understands.
    case
        Its name.
    models
        SHA-256 of the models whose rows are missing.
    threads
        Of the worker.
    """

    evaluation: Evaluation
    case: str
    models: tuple[str, ...]
    threads: int


@dataclass(frozen=True, slots=True)
class Opened:
    """A data set and its models, as a process keeps them."""

    evaluation: Evaluation
    cohort: Cohort
    models: dict[str, LoadedModel]

    @classmethod
    def of(cls, evaluation: Evaluation) -> Opened:
        """Open all of an evaluation."""
        cohort = Cohort(evaluation.dataset, evaluation.selection)
        models = {model.sha256: model for model in load_models(evaluation, cohort)}
        return cls(evaluation, cohort, models)


class _OpenedOnce:
    """What the last job was about: a process opens its models once for all cases."""

    def __init__(self) -> None:
        self._opened: Opened | None = None

    def __call__(self, evaluation: Evaluation) -> Opened:
        if self._opened is None or self._opened.evaluation != evaluation:
            self._opened = None
            self._opened = Opened.of(evaluation)
        return self._opened


_opened = _OpenedOnce()


def compute(
    evaluation: Evaluation,
    cohort: Cohort,
    models: Sequence[LoadedModel],
    rows: RowFile,
    tell: Report,
    *,
    client: Client | None = None,
) -> None:
    """Compute the rows that are missing, each on disk as soon as it is there.

    Parameters
    ----------
    evaluation, cohort, models
        What is evaluated.
    rows
        Where they go.
    tell
        Told about progress.
    client
        Of the workers; None: this process computes.

    Raises
    ------
    StructSegError
        If a case cannot be computed, or the workers are gone; what is done is kept.
    """
    missing = {
        entry.name: [one for one in models if (one.sha256, entry.name) not in rows.done]
        for entry in cohort.cases
    }
    total = len(cohort) * len(models)
    done = total - sum(map(len, missing.values()))
    tell("Evaluating", done, total)
    if client is None:
        settings = score_settings(evaluation, cohort)
        for entry in cohort.cases:
            if missing[entry.name]:
                case = cohort.read(entry)
            for model in missing[entry.name]:
                rows.append(row_of(model, case, evaluation.drawing, settings))
                done += 1
                tell("Evaluating", done, total)
        return
    elsewhere, threads = for_elsewhere(evaluation), torch.get_num_threads()
    jobs = [
        Job(elsewhere, case, tuple(one.sha256 for one in lacking), threads)
        for case, lacking in missing.items()
        if lacking
    ]
    for job, answer in spread(client, rows_of, jobs):
        if isinstance(answer, Ended):
            raise InputError(f"The case {job.case!r} cannot be evaluated. {answer.reason}")
        if isinstance(answer, str):
            raise InputError(answer)
        for row in answer:
            rows.append(row)
            done += 1
            tell("Evaluating", done, total)


def rows_of(job: Job) -> list[Row] | str:
    """The rows of a job, in a worker; a text, if something that a person can put right is wrong."""
    torch.set_num_threads(job.threads)
    try:
        opened = _opened(job.evaluation)
        changed = [sha256 for sha256 in job.models if sha256 not in opened.models]
        if changed:
            return "A model has changed since the evaluation began. Start it again."
        settings = score_settings(job.evaluation, opened.cohort)
        (entry,) = (one for one in opened.cohort.cases if one.name == job.case)
        case = opened.cohort.read(entry)
        return [
            row_of(opened.models[sha256], case, job.evaluation.drawing, settings)
            for sha256 in job.models
        ]
    except StructSegError as error:
        return str(error)


def for_elsewhere(evaluation: Evaluation) -> Evaluation:
    """The same evaluation with paths that do not depend on the folder one works in."""
    selection, shipped = evaluation.selection, shipped_models()
    return replace(
        evaluation,
        dataset=evaluation.dataset.absolute(),
        models=tuple(
            name if name in shipped else str(Path(name).expanduser().absolute())
            for name in evaluation.models
        ),
        predictions=tuple(path.absolute() for path in evaluation.predictions),
        selection=replace(selection, table=selection.table and selection.table.absolute()),
    )


def score_settings(evaluation: Evaluation, cohort: Cohort) -> ScoreSettings:
    """How segmentations are compared."""
    return ScoreSettings(
        cohort.class_names, evaluation.counts, evaluation.absent, evaluation.tolerance, cohort.unit
    )


def row_of(
    model: LoadedModel, case: ReadCase, drawing: DrawSettings, settings: ScoreSettings
) -> Row:
    """One model on one case."""
    drawn = draw_case(model.of(case.name), case.image, case.name, drawing)
    scores = score_case(drawn, case.raters, case.image.spacing, settings)
    counts = scores.reliability
    return Row(
        model=model.sha256,
        case=case.name,
        patient=case.patient,
        seed=drawing.controls(case.name, 0).seed,
        refined_by=drawing.refined_by(model.predictor.spec),
        scores={name: defined(values) for name, values in scores.values.items()},
        reliability=(
            counts.count.tolist(),
            counts.confidence.tolist(),
            counts.correct.tolist(),
        ),
    )
