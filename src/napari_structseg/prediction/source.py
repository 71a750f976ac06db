"""What a prediction's distribution comes from, with references for its recipe."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from napari_structseg.errors import ConfigError
from napari_structseg.image import Image
from napari_structseg.io.channels import read_channels
from napari_structseg.io.references import FileReference, ModelReference, refer_to
from napari_structseg.io.weights import find_model, load_weights, read_spec
from napari_structseg.prediction.intensity_windows import Range, with_window
from napari_structseg.prediction.other_prior import OtherPrior, Spec, open_prior
from napari_structseg.prediction.predictor import Predictor, prior_for
from napari_structseg.prediction.probabilities import ProbabilityMaps
from napari_structseg.prediction.region_of_interest import RegionOfInterest
from napari_structseg.prediction.slices import SlicePredictor
from napari_structseg.priors import MarkovPrior

FilePath = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Source:
    """A model or maps of class probabilities, and the prior of another model if one was named.

    Attributes
    ----------
    predictor
        Gives the distribution.
    model
        What it is; None for maps.
    probabilities
        References to the files of maps, by path; empty for a model.
    other_prior
        To use in place of the model's own; None: its own, if it has one.
    prior_source
        The model that it was trained with.
    """

    predictor: Predictor | SlicePredictor | ProbabilityMaps
    model: ModelReference | None
    probabilities: dict[str, FileReference]
    other_prior: OtherPrior | None
    prior_source: ModelReference | None

    @property
    def spec(self) -> Spec:
        """What gives the distribution, in words."""
        return self.predictor.spec

    @property
    def roi(self) -> RegionOfInterest | None:
        """The part of the image that the distribution is of; None: all of it."""
        return self.predictor.roi if isinstance(self.predictor, SlicePredictor) else None

    @property
    def iterations(self) -> int | None:
        """How many iterations the prior is used with; None: there is no prior."""
        if self.other_prior is not None:
            return self.other_prior.iterations
        return None if self.spec.prior is None else self.spec.prior.iterations

    def prior(self, image: Image) -> MarkovPrior | None:
        """The prior on the axes of an image's array; None: there is none."""
        if self.other_prior is not None:
            return self.other_prior.on(image)
        if not isinstance(self.predictor, Predictor):
            return None
        return prior_for(self.predictor.network, image)


def open_source(
    model: FilePath | None,
    probabilities: Sequence[FilePath],
    prior: FilePath | None,
    device: torch.device,
    *,
    roi: RegionOfInterest | None = None,
    window: Range | None = None,
) -> Source:
    """Load what was asked for.

    Parameters
    ----------
    model
        Name of a shipped model, or a .safetensors file.
    probabilities
        Instead: the file of class probabilities, or one file for each class.
    prior
        The model whose prior is used.
    device
        Where to compute.
    roi
        Slices of a volume that a 2-D model is applied to.
    window
        Intensities that the model sees as 0 and 1, in place of its own window.

    Raises
    ------
    ConfigError
        If there is neither a model nor probabilities, or both, or the prior does not fit; if
        slices or a window are of no use to what was asked for.
    InputError, MemoryLimitError, WeightsError
        If a file cannot be used.
    """
    if model is None and not probabilities:
        raise ConfigError(
            "No model was given. Name one with --model, for example --model brain-tissue, give "
            "class probabilities with --probabilities, or repeat an earlier prediction with "
            "--recipe."
        )
    if model is not None and probabilities:
        raise ConfigError(
            "Either a model or class probabilities were expected, but both came. Leave out "
            "--model or --probabilities; for the prior of a model alone there is --prior."
        )
    reference, maps_of = None, {}
    predictor: Predictor | SlicePredictor | ProbabilityMaps
    if model is not None:
        reference = _refer_to_model(model)
        predictor = open_predictor(os.fspath(model), device, roi, window)
    elif roi is not None or window is not None:
        raise ConfigError(
            "A model was expected for --slice and --window, but class probabilities came. Leave "
            "these options out."
        )
    else:
        maps_of = {os.fspath(path): refer_to(path) for path in probabilities}
        predictor = ProbabilityMaps(read_channels(probabilities), device=device)
    if prior is None:
        return Source(predictor, reference, maps_of, None, None)
    if isinstance(predictor, ProbabilityMaps):
        predictor.take_names(read_spec(find_model(os.fspath(prior))))
    other = open_prior(os.fspath(prior), predictor.spec, predictor.device)
    return Source(predictor, reference, maps_of, other, _refer_to_model(prior))


def open_predictor(
    model: str,
    device: torch.device,
    roi: RegionOfInterest | None = None,
    window: Range | None = None,
) -> Predictor | SlicePredictor:
    """Load a model to predict with.

    Parameters
    ----------
    model, device, roi, window
        As for :func:`open_source`.

    Raises
    ------
    ConfigError
        If the model has no use for slices or a window.
    WeightsError
        If the model cannot be used.
    """
    network, spec = load_weights(find_model(model), device)
    if window is not None:
        spec = with_window(spec, window)
    predictor = Predictor(network, spec)
    return predictor if roi is None else SlicePredictor(predictor, roi)


def _refer_to_model(model: FilePath) -> ModelReference:
    name = os.fspath(model)
    return ModelReference(model=name, **refer_to(find_model(name)).model_dump())
