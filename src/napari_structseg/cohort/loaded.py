"""Models, and predictions of other programs, that are evaluated on one data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from napari_structseg.cohort.cases import Cohort
from napari_structseg.cohort.predictions import Predictions
from napari_structseg.cohort.settings import Evaluation
from napari_structseg.devices import resolve_device
from napari_structseg.errors import ConfigError, WeightsError
from napari_structseg.prediction.protocol import ImagePredictor
from napari_structseg.prediction.source import open_source
from napari_structseg.prediction.specs import Spec


@dataclass(frozen=True, slots=True)
class LoadedModel:
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


def load_models(evaluation: Evaluation, cohort: Cohort) -> list[LoadedModel]:
    """Open all models and predictions of an evaluation.

    Raises
    ------
    ConfigError, InputError, WeightsError, MemoryLimitError
        If one cannot be used for the data set, or comes twice.
    """
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
        models.append(LoadedModel(label, sha256, source.predictor))
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


def _given(evaluation: Evaluation, cohort: Cohort, device: torch.device) -> list[LoadedModel]:
    """Predictions of other programs, all of which are there and have the classes of the data."""
    folders = evaluation.predictions
    names = evaluation.names or tuple(path.resolve().name for path in folders)
    cases = [entry.name for entry in cohort.cases]
    models = []
    for folder, name in zip(folders, names, strict=True):
        given = Predictions(folder, name, cohort.class_names, device)
        for case in cases:
            check_classes(given.spec(case), cohort.class_names)
        models.append(LoadedModel(name, given.sha256(cases), given.predictor(cases[0]), given))
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
