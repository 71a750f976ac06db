"""What a model says about an image, as labels and probabilities on the image's grid."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_structseg.controls import MEAN, Controls
from napari_structseg.distributions import LogitDistribution, Spread, slabs
from napari_structseg.errors import ConfigError
from napari_structseg.evaluation.scores import Drawn
from napari_structseg.image import Image
from napari_structseg.memory import check_memory
from napari_structseg.prediction.protocol import ImagePredictor
from napari_structseg.prediction.specs import Spec
from napari_structseg.priors import MarkovPrior
from napari_structseg.priors.contrast import CRFSpec, offsets_of
from napari_structseg.refine.graph_cut.labels import CutLabels
from napari_structseg.refine.graph_cut.memory import check_cut_memory
from napari_structseg.refine.refinement import Refinement
from napari_structseg.render.rendering import SLAB_VOXELS, argmax_labels, combine
from napari_structseg.render.summaries import noises_of

Refined = Literal["none", "mean-field", "cut"]
"""What made the labels: the model alone, mean field with its MRF, or the graph cut of a CRF."""
Refine = Literal["model", "none", "mean-field", "cut"]
"""The same as a choice; ``model``: as each model says."""

# For each voxel: what calibration needs beside labels and probabilities.
_SCORING_BYTES = 64


@dataclass(frozen=True, slots=True)
class DrawSettings:
    """How samples are drawn.

    Attributes
    ----------
    n_samples
        How many of each case, at least 1.
    seed
        From which the seed of each case follows.
    temperature
        How far samples stray from the mean; None: as each model was calibrated, else 1.
    iterations
        Iterations of mean field of models that have an MRF; None: each model's own number.
    batch
        Samples that are drawn at a time.
    refine
        What makes the labels. As a model says: the cut of the CRF that was learned with it, else
        mean field with its MRF, else none. A cut has the model's own weights or, where none were
        learned, those that everything starts with.
    """

    n_samples: int
    seed: int = 7
    temperature: float | None = None
    iterations: int | None = None
    batch: int = 16
    refine: Refine = "model"

    def refined_by(self, spec: Spec) -> Refined:
        """What makes the labels of a model.

        Raises
        ------
        ConfigError
            If it is to be mean field, and the model has no MRF.
        """
        if self.refine == "mean-field" and spec.prior is None:
            raise ConfigError(
                f"--refine mean-field needs models with an MRF, but {spec.name!r} has none. Leave "
                "the model out, or choose --refine model, cut or none."
            )
        if self.refine == "cut" or (self.refine == "model" and spec.crf is not None):
            return "cut"
        if self.refine == "none" or spec.prior is None:
            return "none"
        return "mean-field" if self.controls("", spec.prior.iterations).refines else "none"

    def controls_of(self, case: str, spec: Spec) -> Controls:
        """Controls of a case for a model, see :meth:`controls`."""
        by = self.refined_by(spec)
        own_iterations = spec.prior.iterations if spec.prior and by == "mean-field" else 0
        controls = self.controls(case, own_iterations, spec.calibrated)
        if by != "cut":
            return controls
        return controls.model_copy(update={"coupling": "crf", "crf": spec.crf or CRFSpec()})

    def controls(
        self, case: str, own_iterations: int, calibrated: Spread | None = None
    ) -> Controls:
        """Controls of a case, with a seed of its own.

        One seed for all would give every case of one shape the same noise, and the mean over
        cases an error that does not shrink with their number.

        Parameters
        ----------
        case
            Its name.
        own_iterations
            Of the model's MRF; 0 without one.
        calibrated
            Where the model's temperature and class scales start; None: at 1.
        """
        start = calibrated or Spread(1.0, ())
        digest = hashlib.sha256(f"{self.seed}/{case}".encode()).digest()
        iterations = own_iterations if self.iterations is None else self.iterations
        return Controls(
            seed=int.from_bytes(digest[:4], "little") >> 1,
            temperature=start.temperature if self.temperature is None else self.temperature,
            class_scale=start.class_scale,
            iterations=iterations if own_iterations else 0,
        )


def draw_case(predictor: ImagePredictor, image: Image, case: str, settings: DrawSettings) -> Drawn:
    """Run a model on an image and draw its samples.

    Where an MRF refines the labels, the probabilities are refined, too: the mean over the samples
    of what mean field ends with. Else they are the mean of the samples' softmax: a graph cut, of
    which mean and samples each have their own, gives no probabilities.

    Parameters
    ----------
    predictor
        The model.
    image
        On its own grid.
    case
        Its name, from which its seed follows.
    settings
        How samples are drawn.

    Raises
    ------
    InputError, MemoryLimitError
        If the model cannot take the image, or its samples do not fit into memory.
    """
    spec = predictor.spec
    controls = settings.controls_of(case, spec)
    check_samples(image, spec, settings)
    distribution = predictor.predict(image)
    with torch.inference_mode():
        labels, probability = _draw(distribution, controls, settings)
        prior = predictor.prior(image)
        if prior is not None and controls.refines:
            _refine(distribution, prior, controls, labels, probability)
        if controls.cuts:
            cut = CutLabels(distribution, image)
            for number, one in enumerate(labels):
                one[...] = cut.render_volume(controls.model_copy(update={"sample": number}))
    return Drawn(labels, settings.n_samples, probability)


def check_samples(image: Image, spec: Spec, settings: DrawSettings) -> None:
    """Refuse samples that would not fit into memory, or whose graph cuts would not.

    Raises
    ------
    MemoryLimitError
        Before anything is allocated.
    """
    n_classes, n_samples, shape = spec.n_classes, settings.n_samples, image.spatial_shape
    per_voxel = n_samples + 1 + 4 * n_classes + _SCORING_BYTES
    check_memory(math.prod(shape) * per_voxel, f"Keeping {n_samples} samples of {image.name!r}")
    controls = settings.controls_of("", spec)
    if controls.cuts:
        n_offsets = len(offsets_of(len(shape), controls.crf.neighbours))
        check_cut_memory(n_classes, shape, n_offsets)


def _draw(
    distribution: LogitDistribution, controls: Controls, settings: DrawSettings
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """Labels of the mean and of the samples, and the mean of the samples' probabilities."""
    shape, is_stochastic = distribution.spatial_shape, distribution.is_stochastic
    n_drawn = settings.n_samples if is_stochastic else 1
    labels = np.empty((1 + n_drawn, *shape), np.uint8)
    probability = np.empty((distribution.n_classes, *shape), np.float32)
    for region in slabs(shape, SLAB_VOXELS):
        index = (slice(None), *region)
        part = distribution.crop(region)
        logits = part.mean()
        labels[index] = argmax_labels(logits, None, ()).cpu().numpy()
        if is_stochastic:
            total = _draw_region(part, logits, controls, settings, labels[index][1:])
        else:
            total = logits.softmax(dim=0)
        probability[index] = total.cpu().numpy()
    return labels, probability


def _draw_region(
    part: LogitDistribution,
    mean: Tensor,
    controls: Controls,
    settings: DrawSettings,
    labels: npt.NDArray[np.uint8],
) -> Tensor:
    """Fill in the labels of each sample, ``(N, *region)``; gives their mean probability."""
    weights = controls.weights_of(part)
    noises = [controls.tempered(one, part) for one in noises_of(controls.seed, len(labels))]
    total = torch.zeros_like(mean)
    for start in range(0, len(noises), settings.batch):
        offsets = part.offsets(noises[start : start + settings.batch])
        for row, offset in zip(labels[start:], offsets, strict=False):
            row[...] = argmax_labels(mean, offset, weights).cpu().numpy()
            total += combine(mean, offset, weights).softmax(dim=0)
    return total / len(noises)


def _refine(
    distribution: LogitDistribution,
    prior: MarkovPrior,
    controls: Controls,
    labels: npt.NDArray[np.uint8],
    probability: npt.NDArray[np.float32],
) -> None:
    """Replace labels of the mean and of the samples, and probabilities, by those of mean field."""
    refinement = Refinement(distribution, prior)
    labels[...] = refinement.render_volume(controls)
    if not distribution.is_stochastic:
        probability[...] = refinement.probabilities(controls)
        return
    probability[...] = 0
    for number in range(MEAN + 1, len(labels)):
        shown = controls.model_copy(update={"sample": number})
        labels[number] = refinement.render_volume(shown)
        probability += refinement.probabilities(shown)
    probability /= len(labels) - 1
