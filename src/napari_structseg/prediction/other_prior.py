"""The prior of one model on what another model, or a probability map, gives."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch

from napari_structseg.errors import ConfigError
from napari_structseg.image import Image
from napari_structseg.io.model_files import find_model
from napari_structseg.io.weights import load_weights, read_spec
from napari_structseg.models import ModelSpec, SegmentationNetwork
from napari_structseg.prediction.predictor import prior_for
from napari_structseg.prediction.specs import Spec, are_alike
from napari_structseg.priors import MarkovPrior

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OtherPrior:
    """A prior that was trained with another model.

    Attributes
    ----------
    model
        That model, as it was asked for: a name or a file.
    spec
        That model's specification.
    """

    model: str
    spec: ModelSpec
    _network: SegmentationNetwork

    @property
    def iterations(self) -> int:
        """How many iterations of mean field it is used with."""
        if self.spec.prior is None:
            raise AssertionError("a model without a prior has been refused")
        return self.spec.prior.iterations

    def on(self, image: Image) -> MarkovPrior:
        """The prior on the axes of an image's array, see :func:`prior_for`."""
        prior = prior_for(self._network, image)
        if prior is None:
            raise AssertionError("a model without a prior has been refused")
        return prior


@dataclass(frozen=True, slots=True)
class WantedPrior:
    """A prior that was chosen before there is anything to refine.

    Attributes
    ----------
    model
        The model that it was trained with: a name or a file.
    chosen_for
        What gave the distribution that it was chosen for; None: whatever comes.
    """

    model: str
    chosen_for: Spec | None = None

    def open(self, refined: Spec, device: torch.device) -> OtherPrior | None:
        """Read it, see :func:`open_prior`; None: it was chosen for something else."""
        if self.chosen_for is not None and not are_alike(self.chosen_for, refined):
            return None
        return open_prior(self.model, refined, device)


def open_prior(name: str, refined: Spec, device: torch.device) -> OtherPrior:
    """The prior of a model, to refine what another one gives.

    Classes go by their order. Where their names differ, a warning says so.

    Parameters
    ----------
    name
        Name of a shipped model, or a .safetensors file.
    refined
        What gives the distribution that it is to refine.
    device
        Where that distribution lives.

    Raises
    ------
    ConfigError
        If the model has no prior, or one for other classes or dimensions.
    WeightsError
        If the model cannot be used.
    """
    path = find_model(name)
    # What does not fit is refused by its description alone.
    check_fits(read_spec(path), refined)
    network, spec = load_weights(path, device)
    theirs, ours = spec.class_names, refined.class_names
    are_same = [one.casefold() for one in theirs] == [one.casefold() for one in ours]
    # Maps have no names of their own.
    if not are_same and isinstance(refined, ModelSpec):
        logger.warning(
            "The classes of the prior of %r are %s, but those of %r are %s: their order is taken "
            "as it is.",
            spec.name,
            ", ".join(theirs),
            refined.name,
            ", ".join(ours),
        )
    return OtherPrior(name, spec, network)


def check_fits(spec: ModelSpec, refined: Spec) -> None:
    """Raise ConfigError unless a model has a prior for the classes and dimensions of another."""
    advice = "'structseg info MODEL' tells what a model has."
    if spec.prior is None:
        raise ConfigError(
            f"A model with a prior was expected, but {spec.name!r} has none. Choose another one: "
            f"{advice}"
        )
    if (spec.n_classes, spec.dimensions) != (refined.n_classes, refined.dimensions):
        raise ConfigError(
            f"A prior for {refined.n_classes} classes in {refined.dimensions}-D was expected, for "
            f"{refined.name!r}, but that of {spec.name!r} is for {spec.n_classes} classes in "
            f"{spec.dimensions}-D. Choose another one: {advice}"
        )
