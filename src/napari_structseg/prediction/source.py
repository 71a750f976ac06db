"""What a prediction's distribution comes from, with references for its recipe.

Written once: the dock, the command line, Python and the evaluation open their sources here.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from napari_structseg.distributions import Region
from napari_structseg.errors import ConfigError
from napari_structseg.image import Image
from napari_structseg.io.channels import read_channels
from napari_structseg.io.checks import file_stem
from napari_structseg.io.model_files import find_model
from napari_structseg.io.other_programs.members import find_members
from napari_structseg.io.references import FileReference, ModelReference, refer_to
from napari_structseg.io.tensors import holds_tensors
from napari_structseg.io.weights import load_weights, read_spec, refer_to_model
from napari_structseg.prediction.augmented import PASSES, Augmentation, AugmentedPredictor
from napari_structseg.prediction.given import GivenMembers, MembersAs
from napari_structseg.prediction.intensity_windows import Range, with_window
from napari_structseg.prediction.other_prior import OtherPrior, open_prior
from napari_structseg.prediction.precision import Precision
from napari_structseg.prediction.predictor import Predictor
from napari_structseg.prediction.probabilities import ProbabilityMaps
from napari_structseg.prediction.protocol import ImagePredictor
from napari_structseg.prediction.region_of_interest import RegionOfInterest
from napari_structseg.prediction.slices import SlicePredictor
from napari_structseg.prediction.specs import Spec
from napari_structseg.prediction.tensors import GivenTensors
from napari_structseg.priors import MarkovPrior

FilePath = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Source:
    """A model, maps of class probabilities, or several of them; the prior of another model, too.

    Attributes
    ----------
    predictor
        Gives the distribution.
    path
        The model's file, or the first one of the maps or members.
    model
        What it is; None for maps and members.
    probabilities
        References to the files of maps, by path; empty for a model.
    other_prior
        To use in place of the model's own; None: its own, if it has one.
    prior_source
        The model that it was trained with.
    roi
        The slices that a 2-D model is applied to; None: whole images.
    members
        References to the files of members that other programs made, by path.
    """

    predictor: ImagePredictor
    path: Path
    model: ModelReference | None
    probabilities: dict[str, FileReference]
    other_prior: OtherPrior | None = None
    prior_source: ModelReference | None = None
    roi: RegionOfInterest | None = None
    members: dict[str, FileReference] = field(default_factory=dict)

    @property
    def spec(self) -> Spec:
        """What gives the distribution, in words."""
        return self.predictor.spec

    def region(self, image: Image) -> Region | None:
        """The part of an image that the distribution is of; None: all of it."""
        return self.predictor.region(image)

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
        return self.predictor.prior(image)


def open_source(
    model: FilePath | None,
    device: torch.device,
    *,
    probabilities: Sequence[FilePath] = (),
    members: Sequence[FilePath] = (),
    members_as: MembersAs = "members",
    case: str = "",
    augment: Sequence[Augmentation] = (),
    passes: int = PASSES,
    prior: FilePath | None = None,
    roi: RegionOfInterest | None = None,
    window: Range | None = None,
    precision: Precision = "auto",
) -> Source:
    """Load what was asked for.

    Parameters
    ----------
    model
        Name of a shipped model, a file of weights or of a program's settings, or a file of mean,
        factor and diagonal; None with `probabilities` or `members`.
    device
        Where to compute.
    probabilities
        Instead: the file of class probabilities, or one file for each class.
    members
        Instead: predictions that other programs made, one file or folder for each, see
        :func:`napari_structseg.io.other_programs.members.find_members`.
    members_as
        Whether members, or passes of test-time augmentation, are shown as they are, or a normal
        is fitted to their logits.
    case
        What the image is called, to be found in folders of members; a file name will do.
    augment
        For a deterministic model: what the image is changed by in test-time augmentation.
    passes
        How many times the model is then applied.
    prior
        Another model, whose prior is used in place of the model's own.
    roi
        Slices of a volume that a 2-D model is applied to.
    window
        Intensities that the model sees as 0 and 1, in place of its own window.
    precision
        What a network computes in, see :class:`Predictor`.

    Raises
    ------
    ConfigError
        If there is not exactly one of model, probabilities and members, or the prior does not fit;
        if what was asked for does not take slices or an intensity window.
    InputError, MemoryLimitError, WeightsError
        If a file cannot be used.

    Examples
    --------
    >>> source = open_source("brain-tissue", torch.device("cpu"))
    >>> source.spec.class_names
    ('background', 'CSF', 'grey matter', 'white matter')
    """
    if model is None and not probabilities and not members:
        raise ConfigError(
            "No model was given. Name one with --model, for example --model brain-tissue, give "
            "class probabilities with --probabilities, predictions of other programs with "
            "--members, or repeat an earlier prediction with --recipe."
        )
    if members and (probabilities or model is not None):
        raise ConfigError(
            "Either predictions of other programs or something else was expected, but --members "
            f"and {'--probabilities' if probabilities else '--model'} came. Leave one out; for "
            "the prior of a model alone there is --prior."
        )
    if model is not None and probabilities:
        raise ConfigError(
            "Either a model or class probabilities were expected, but both came. Leave out "
            "--model or --probabilities; for the prior of a model alone there is --prior."
        )
    if augment and (model is None or roi is not None):
        raise ConfigError(
            "A model on whole images was expected for --augment, but "
            f"{'there is no model' if model is None else '--slice came'}. Leave one of them out."
        )
    if model is not None:
        source = _of_model(model, device, roi, window, precision)
        if augment and isinstance(source.predictor, Predictor):
            changed = AugmentedPredictor(source.predictor, augment, passes, members_as)
            source = replace(source, predictor=changed)
    elif roi is not None or window is not None:
        raise ConfigError(
            "A model was expected for --slice and --window, but class probabilities came. Leave "
            "these options out."
        )
    elif members:
        source = _of_members(members, members_as, case, prior, device)
    else:
        source = _of_maps(probabilities, prior, device)
    if prior is None:
        return source
    other = open_prior(os.fspath(prior), source.spec, device)
    return replace(source, other_prior=other, prior_source=_refer_to_model(prior))


def _of_model(
    model: FilePath,
    device: torch.device,
    roi: RegionOfInterest | None,
    window: Range | None,
    precision: Precision,
) -> Source:
    name = os.fspath(model)
    path = find_model(name)
    if holds_tensors(path):
        if roi is not None or window is not None:
            raise ConfigError(
                f"{path.name} holds the distribution of one image: leave out --slice and --window."
            )
        return Source(GivenTensors(path, device), path, _refer_to_model(name), {})
    network, spec = load_weights(path, device)
    if window is not None:
        spec = with_window(spec, window)
    whole = Predictor(network, spec, precision=precision)
    predictor = whole if roi is None else SlicePredictor(whole, roi)
    return Source(predictor, path, _refer_to_model(name), {}, roi=roi)


def _of_maps(paths: Sequence[FilePath], prior: FilePath | None, device: torch.device) -> Source:
    references = {os.fspath(path): refer_to(path) for path in paths}
    maps = ProbabilityMaps(read_channels(paths), device=device)
    if prior is not None:
        maps.take_names(read_spec(find_model(os.fspath(prior))))
    return Source(maps, Path(paths[0]), None, references)


def _of_members(
    paths: Sequence[FilePath],
    members_as: MembersAs,
    case: str,
    prior: FilePath | None,
    device: torch.device,
) -> Source:
    found = find_members([Path(path) for path in paths], file_stem(case))
    given = GivenMembers(found, members_as, device)
    if prior is not None:
        given.take_names(read_spec(find_model(os.fspath(prior))))
    references = {os.fspath(path): refer_to(path) for one in found for path in one.files}
    return Source(given, found[0].files[0], None, {}, members=references)


def _refer_to_model(model: FilePath) -> ModelReference:
    name = os.fspath(model)
    return ModelReference(model=name, **refer_to_model(find_model(name)).model_dump())
