"""`structseg evaluate` without the terminal: models on a data set, rows and a summary."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from napari_structseg.cohort.cases import Cohort
from napari_structseg.cohort.draws import DrawSettings, check_samples, draw_case
from napari_structseg.cohort.facts import CohortFacts, Report, read_facts
from napari_structseg.cohort.predictions import Predictions
from napari_structseg.cohort.rows import Row, RowFile, defined
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
from napari_structseg.devices import device_name, resolve_device
from napari_structseg.errors import ConfigError, WeightsError
from napari_structseg.evaluation.bootstrap import N_RESAMPLES
from napari_structseg.evaluation.metrics import metric_of
from napari_structseg.evaluation.scores import ScoreSettings, score_case
from napari_structseg.io.atomic import atomic_path
from napari_structseg.prediction.protocol import ImagePredictor
from napari_structseg.prediction.source import open_source
from napari_structseg.prediction.specs import Spec

_PACKAGES = ("napari-structseg", "torch", "numpy", "scipy")


@dataclass(frozen=True, slots=True)
class _Model:
    """A model that is loaded, or predictions that take its place.

    ``predictor`` is that of the first case where each case has its own.
    """

    label: str
    sha256: str
    predictor: ImagePredictor
    predictions: Predictions | None = None

    def of(self, case: str) -> ImagePredictor:
        """What gives the distribution of a case."""
        return self.predictor if self.predictions is None else self.predictions.predictor(case)


def evaluate(
    evaluation: Evaluation,
    out: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    report: Report | None = None,
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
    models = _load(evaluation, cohort)

    def accept(case: ReadCase) -> None:
        for model in models:
            spec, drawing = model.predictor.spec, evaluation.drawing
            is_by_mrf = drawing.refined_by(spec) == "mean-field"
            model.of(case.name).check(case.image, refined=is_by_mrf)
            check_samples(case.image, spec, drawing)

    facts = read_facts(cohort, accept, tell)
    settings = _settings(evaluation, cohort, facts, models[0].predictor.device)
    if overwrite:
        # No summary may stand beside rows that are not its own.
        out.unlink(missing_ok=True)
    with RowFile(rows_path, settings, resume=resume) as rows:
        _compute(evaluation, cohort, models, rows, tell)
        accumulators = accumulate(rows, [model.sha256 for model in models])
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


def _load(evaluation: Evaluation, cohort: Cohort) -> list[_Model]:
    device, class_names = resolve_device(evaluation.device), cohort.class_names
    sources = [open_source(name, device, precision="float32") for name in evaluation.models]
    hashes = [source.model.sha256 for source in sources if source.model is not None]
    if len(set(hashes)) < len(hashes):
        raise ConfigError("One model was given twice. Give each once.")
    names = Counter(source.spec.name for source in sources)
    models = []
    for source, sha256 in zip(sources, hashes, strict=True):
        spec = source.spec
        check_classes(spec, class_names)
        label = spec.name if names[spec.name] == 1 else f"{spec.name} ({sha256[:8]})"
        models.append(_Model(label, sha256, source.predictor))
    models += _given(evaluation, cohort, device)
    if len({model.label for model in models}) < len(models):
        raise ConfigError(
            "Two models or predictions have the same name. Tell predictions apart with --name."
        )
    drawing = evaluation.drawing
    # Refuses a model that lacks what is to refine its labels.
    by = {drawing.refined_by(model.predictor.spec) for model in models}
    if drawing.iterations is None:
        return models
    if not any(source.spec.prior is not None for source in sources):
        raise ConfigError(
            "--iterations needs a model with a prior, but no model has one. Leave it out: "
            "'structseg info' tells which have."
        )
    if drawing.iterations and "mean-field" not in by:
        raise ConfigError(
            f"--iterations is about mean field, but --refine {drawing.refine} leaves it out for "
            "all models. Leave it out, or choose --refine mean-field."
        )
    return models


def _given(evaluation: Evaluation, cohort: Cohort, device: torch.device) -> list[_Model]:
    """Predictions of other programs, all of which are there and have the classes of the data."""
    folders = evaluation.predictions
    names = evaluation.names or tuple(path.resolve().name for path in folders)
    cases = [entry.name for entry in cohort.cases]
    models = []
    for folder, name in zip(folders, names, strict=True):
        given = Predictions(folder, name, cohort.class_names, device)
        for case in cases:
            check_classes(given.spec(case), cohort.class_names)
        models.append(_Model(name, given.sha256(cases), given.predictor(cases[0]), given))
    if len({model.sha256 for model in models}) < len(models):
        raise ConfigError("The same predictions were given twice. Give each once.")
    return models


def check_classes(spec: Spec, class_names: Sequence[str]) -> None:
    """Raise WeightsError unless the classes of a model are those of a data set."""
    ours, theirs = ([one.casefold() for one in names] for names in (spec.class_names, class_names))
    if ours != theirs:
        raise WeightsError(
            f"The model {spec.name!r} has the {spec.n_classes} classes "
            f"{', '.join(spec.class_names)}, but the data set has {len(class_names)}: "
            f"{', '.join(class_names)}. Evaluate it on labels of its own classes, in the same "
            "order; dataset.json names them."
        )


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


def _compute(
    evaluation: Evaluation, cohort: Cohort, models: Sequence[_Model], rows: RowFile, tell: Report
) -> None:
    settings = ScoreSettings(
        cohort.class_names, evaluation.counts, evaluation.absent, evaluation.tolerance, cohort.unit
    )
    total = len(cohort) * len(models)
    done = 0
    for entry in cohort.cases:
        missing = [model for model in models if (model.sha256, entry.name) not in rows.done]
        done += len(models) - len(missing)
        if missing:
            case = cohort.read(entry)
        for model in missing:
            rows.append(_row(model, case, evaluation.drawing, settings))
            done += 1
            tell("Evaluating", done, total)
    tell("Evaluating", done, total)


def _row(model: _Model, case: ReadCase, drawing: DrawSettings, settings: ScoreSettings) -> Row:
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


def _explained(model: ModelAccumulator) -> dict[str, dict[str, str | None]]:
    """Which way each metric is better, and when it is undefined."""
    return {
        name: {"better": metric_of(name).better, "undefined_if": metric_of(name).undefined or None}
        for name in model.metrics
    }


def _described(model: _Model, drawing: DrawSettings, counted: ModelAccumulator) -> dict[str, Any]:
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
