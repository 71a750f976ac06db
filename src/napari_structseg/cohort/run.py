"""`structseg evaluate` without the terminal: models on a data set, rows and a summary."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from napari_structseg.cohort.cases import Cohort
from napari_structseg.cohort.computing import compute
from napari_structseg.cohort.draws import DrawSettings, check_samples
from napari_structseg.cohort.facts import CohortFacts, Report, read_facts
from napari_structseg.cohort.loaded import LoadedModel, load_models
from napari_structseg.cohort.rows import RowFile
from napari_structseg.cohort.settings import (
    Evaluation,
    check_compared,
    check_outputs,
    check_settings,
    command_of,
)
from napari_structseg.cohort.summary import (
    ModelAccumulator,
    accumulate,
    compare_models,
    summarise_model,
)
from napari_structseg.data.cases import ReadCase
from napari_structseg.devices import device_name
from napari_structseg.evaluation.bootstrap import N_RESAMPLES
from napari_structseg.evaluation.metrics import metric_of
from napari_structseg.io.atomic import atomic_path
from napari_structseg.workers.crew import Crew, hired, threads_for

_PACKAGES = ("napari-structseg", "torch", "numpy", "scipy")


def evaluate(
    evaluation: Evaluation,
    out: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    report: Report | None = None,
    crew: Crew | None = None,
) -> dict[str, Any]:
    """Evaluate models on a data set.

    Each case of each model is a row, on disk as soon as it is computed, in a file beside the
    summary. In memory are one case, and a few numbers for each patient and metric.

    Parameters
    ----------
    evaluation
        What, and how.
    out
        File for the summary, ``*.json``; the rows are in ``*.rows.jsonl`` beside it.
    resume
        Go on with the rows that are there.
    overwrite
        Replace an earlier evaluation.
    report
        Told about progress.
    crew
        Who computes; None: this process.

    Returns
    -------
    summary
        What was written.

    Raises
    ------
    ConfigError, InputError, WeightsError, MemoryLimitError
        If settings, data or models do not fit, before anything is computed.
    """
    tell = report or _tell_nobody
    check_settings(evaluation)
    rows_path = check_outputs(out, resume=resume, overwrite=overwrite)
    cohort = Cohort(evaluation.dataset, evaluation.selection)
    check_compared(evaluation, cohort)
    models = load_models(evaluation, cohort)

    def accept(case: ReadCase) -> None:
        for model in models:
            spec, drawing = model.predictor.spec, evaluation.drawing
            is_by_mrf = drawing.refined_by(spec) == "mean-field"
            model.of(case.name).check(case.image, refined=is_by_mrf)
            check_samples(case.image, spec, drawing)

    facts = read_facts(cohort, accept, tell)
    with hired(crew or Crew(), (crew and crew.workers) or 1) as client, threads_for(client):
        settings = _settings(evaluation, cohort, facts, models[0].predictor.device)
        if overwrite:
            # No summary may stand beside rows that are not its own.
            out.unlink(missing_ok=True)
        with RowFile(rows_path, settings, resume=resume) as rows:
            compute(evaluation, cohort, models, rows, tell, client=client)
            accumulators = accumulate(rows.in_order(), [model.sha256 for model in models])
    summary = {
        "format_version": 1,
        "command": command_of(evaluation, out),
        "versions": {name: version(name) for name in _PACKAGES},
        "data": {"name": evaluation.dataset.resolve().name, **facts.as_json()},
        "settings": settings,
        "metrics": _explained(accumulators[models[0].sha256]),
        "bootstrap": {"resamples": N_RESAMPLES, "level": 0.95, "unit": "patient"},
        "models": [
            _described(model, evaluation.drawing, accumulators[model.sha256]) for model in models
        ],
        "comparisons": compare_models(
            {model.label: accumulators[model.sha256] for model in models}, evaluation.compared
        ),
    }
    with atomic_path(out) as temporary:
        text = json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")
    return summary


def _settings(
    evaluation: Evaluation, cohort: Cohort, facts: CohortFacts, device: torch.device
) -> dict[str, Any]:
    """What every row depends on, and must agree where an evaluation goes on."""
    drawing, selection = evaluation.drawing, evaluation.selection
    return {
        "samples": drawing.n_samples,
        "seed": drawing.seed,
        "temperature": drawing.temperature,
        "iterations": drawing.iterations,
        "refine": drawing.refine,
        "counts": list(evaluation.counts),
        "absent": evaluation.absent,
        "tolerance": evaluation.tolerance,
        "unit": cohort.unit,
        "classes": list(cohort.class_names),
        "raters": list(selection.raters) or "all",
        "split": selection.split,
        "data": facts.sha256,
        # Other processors and versions round differently.
        "device": device_name(device),
        "threads": torch.get_num_threads() if device.type == "cpu" else None,
        **{f"version of {name}": version(name) for name in _PACKAGES},
        # Before, those of models with an MRF were of the model alone.
        "probabilities": "as the labels",
    }


def _explained(model: ModelAccumulator) -> dict[str, dict[str, str | None]]:
    """Which way each metric is better, and when it is undefined."""
    return {
        name: {"better": metric_of(name).better, "undefined_if": metric_of(name).undefined or None}
        for name in model.metrics
    }


def _described(
    model: LoadedModel, drawing: DrawSettings, counted: ModelAccumulator
) -> dict[str, Any]:
    spec = model.predictor.spec
    by, controls = drawing.refined_by(spec), drawing.controls_of("", spec)
    return {
        "label": model.label,
        "sha256": model.sha256,
        "kind": spec.kind,
        # Of a finite set: from as many samples on, they repeat.
        "members": spec.n_members or None,
        "steps": spec.steps,
        # What the labels are of; under an MRF entropy, ECE and Brier, too.
        "refined_by": by,
        "refined_by_mrf": by == "mean-field",
        "crf": controls.crf.model_dump() if controls.cuts else None,
        **summarise_model(counted),
    }


def _tell_nobody(what: str, done: int, total: int) -> None:
    """Report nothing."""
