"""Patches of corrections, mixed with those of the data that the model was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from napari_structseg.data.cases import PreparedCase, ReadCase, prepare
from napari_structseg.errors import ConfigError
from napari_structseg.models import ModelSpec
from napari_structseg.prediction.intensity_windows import fitting_window, value_range
from napari_structseg.training.config import TrainConfig
from napari_structseg.training.input.batches import Patch, PatchSource
from napari_structseg.training.sources import Run, build_run


class Mixed:
    """Patches of two sources, each chosen by chance.

    Parameters
    ----------
    own, other
        The sources.
    share
        Of patches from the other one.
    """

    def __init__(self, own: PatchSource, other: PatchSource, share: float) -> None:
        self._own, self._other, self._share = own, other, share

    def patch(self, rng: np.random.Generator) -> Patch:
        """As :meth:`PatchSource.patch`."""
        chosen = self._other if rng.random() < self._share else self._own
        return chosen.patch(rng)


def prepared(cases: Sequence[ReadCase], spec: ModelSpec) -> list[PreparedCase]:
    """Cases as the network sees them, each with the intensity window that it fits.

    Raises
    ------
    InputError, MemoryLimitError
        If a case cannot be normalised, or does not fit into memory.
    """
    found = []
    for case in cases:
        intensity = spec.intensity
        if intensity.depends_on_values:
            intensity = fitting_window(
                intensity, value_range(case.image), case.name, case.image.data
            )
        found.append(prepare(case, intensity=intensity, spacing=spec.spacing))
    return found


def replay_run(config: TrainConfig, spec: ModelSpec, dataset: Path) -> Run:
    """What the model was trained on, made into patches as it was then.

    Parameters
    ----------
    config
        Of the fine-tuning.
    spec
        The model's.
    dataset
        The folder that was trained on.

    Raises
    ------
    ConfigError
        If the data set has other channels or classes than the model.
    InputError, MemoryLimitError
        If it cannot be used.
    """
    recipe = spec.training.recipe
    kept = ("source", "several_protocols", "foreground", "rater", "validation_cases", "fold")
    recorded = {name: recipe[name] for name in kept if name in recipe}
    fields = config.model_dump() | {"prior": None} | recorded
    if recorded.get("source") == "brain-label-maps":
        # There patches are made, and not changed afterwards.
        fields["augmentation"] = {}
    try:
        as_then = TrainConfig.model_validate(fields)
    except ValidationError as error:
        raise ConfigError(
            f"What {spec.name!r} was trained with cannot be used by this version "
            f"({error.errors()[0]['msg']}), so nothing can be replayed. Leave the data set out."
        ) from error
    run = build_run(as_then, dataset)
    for what, ours, theirs in (
        ("classes", spec.class_names, run[0].class_names),
        ("number of channels", len(spec.channels), len(run[0].channels)),
    ):
        if ours != theirs:
            raise ConfigError(
                f"{dataset} cannot be replayed: its {what} is {theirs}, but the model "
                f"{spec.name!r} has {ours}. Name the data set that the model was trained on."
            )
    return run
