"""Scores of a network in training, on cases it does not train on.

What is scored is what a user will get: the predictor of `structseg predict`, on the image's own
voxel grid, with the MRF where the model has one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from napari_structseg.controls import MEAN, Controls
from napari_structseg.data.cases import UNREVIEWED, ReadCase
from napari_structseg.evaluation.dice import Overlap, mean_dice, overlap
from napari_structseg.evaluation.energy import energy_distance
from napari_structseg.evaluation.overlaps import pairwise_overlap
from napari_structseg.image import Image
from napari_structseg.models import ModelSpec, SegmentationNetwork
from napari_structseg.prediction.predictor import Predictor, prior_for
from napari_structseg.priors.contrast import CRFSpec
from napari_structseg.refine.graph_cut.labels import CutLabels
from napari_structseg.refine.refinement import Refinement
from napari_structseg.render.rendering import Renderer

Array = npt.NDArray[np.float32]
LabelArray = npt.NDArray[np.uint8]
Labeller = Callable[[Controls], LabelArray]

# A sample is runaway where a class has more than so many times the volume of the mean, or less
# than its inverse.
_RUNAWAY_FACTOR = 2


@dataclass(frozen=True, slots=True)
class Validation:
    """What a network reaches on the validation cases.

    Attributes
    ----------
    dice
        Class name to Dice of the labels of the mean, without the background and without classes
        whose Dice is not defined.
    sample_dice
        The same, the average over samples; empty where no samples were drawn.
    ged
        Generalised energy distance of samples and raters, the mean over cases; None without
        samples. With a single rater it is the energy score of the samples: it falls with their
        distance to the rater and with their diversity, so that the raters' own distribution
        scores best.
    runaway
        Class name to the share of the samples, over all cases, in which the class has more than
        twice or less than half of its volume in the mean; without classes that have none.
    """

    dice: dict[str, float]
    sample_dice: dict[str, float] = field(default_factory=dict)
    ged: float | None = None
    runaway: dict[str, float] = field(default_factory=dict)


class Validator(Protocol):
    """Scores a network in evaluation mode."""

    def __call__(
        self, network: SegmentationNetwork, n_samples: int, crf: CRFSpec | None = None, /
    ) -> Validation:
        """With so many samples, 0: the mean alone; and a CRF that was learned for it, if any."""
        ...


def open_labeller(
    network: SegmentationNetwork,
    spec: ModelSpec,
    image: Image,
    cancelled: Callable[[], bool] | None = None,
) -> Labeller:
    """Run a network on an image as prediction does.

    Parameters
    ----------
    network
        In evaluation mode.
    spec
        Its specification.
    image
        On its own grid.
    cancelled
        Asked now and then whether to stop; it may wait.

    Returns
    -------
    callable
        Labels of the whole image, ``(*spatial)`` uint8, for a seed and a sample number; after
        the iterations of the MRF that are in use, or of least energy under the CRF.

    Raises
    ------
    InputError, MemoryLimitError
        If the model cannot take the image.
    Cancelled
        When ``cancelled`` said so.
    """
    iterations = 0 if spec.prior is None else spec.prior.iterations
    update: dict[str, object] = {"iterations": iterations}
    shown: Refinement | Renderer | CutLabels
    with torch.inference_mode():
        distribution = Predictor(network, spec).predict(image, cancelled=cancelled)
        prior = prior_for(network, image) if iterations else None
        if spec.crf is not None:
            update |= {"coupling": "crf", "crf": spec.crf}
            shown = CutLabels(distribution, image)
        else:
            shown = Renderer(distribution) if prior is None else Refinement(distribution, prior)

    def labels(controls: Controls) -> LabelArray:
        with torch.inference_mode():
            return shown.render_volume(controls.model_copy(update=update))

    return labels


def validate_on_cases(
    cases: Iterable[ReadCase],
    spec: ModelSpec,
    *,
    pooled: bool = False,
    cancelled: Callable[[], bool] | None = None,
) -> Validator:
    """Scores of each class but the background, over cases and their raters.

    Voxels with the label ``UNREVIEWED`` do not count; for the energy distance, those that any rater
    of the case has not reviewed.

    Parameters
    ----------
    cases
        Held-out cases, on their own grids; they are gone through at each validation.
    spec
        Of the network.
    pooled
        Dice of the voxels of all cases together, for patches; otherwise the mean over cases.
    cancelled
        As for :func:`open_labeller`.
    """

    def validate(
        network: SegmentationNetwork, n_samples: int, crf: CRFSpec | None = None, /
    ) -> Validation:
        model = spec if crf is None else spec.model_copy(update={"crf": crf})
        n_drawn = 0 if not spec.head.is_stochastic else n_samples
        of_mean, of_samples = [], []
        distances, runaway = [], []
        for seed, case in enumerate(cases):
            labels = open_labeller(network, model, case.image, cancelled)
            mean = labels(Controls(seed=seed))
            of_mean += _overlaps(mean, case, spec)
            if not n_drawn:
                continue
            samples = np.stack(list(_samples(labels, seed, n_drawn)))
            for sample in samples:
                of_samples += _overlaps(sample, case, spec)
                runaway.append(_runaway(sample, mean, spec.n_classes))
            counted = (case.raters != UNREVIEWED).all(axis=0)
            distances.append(
                _energy_distance(samples[:, counted], case.raters[:, counted], spec.n_classes)
            )
        dice = _named(_dice(of_mean, pooled=pooled), spec)
        if not distances:
            return Validation(dice)
        return Validation(
            dice,
            sample_dice=_named(_dice(of_samples, pooled=pooled), spec),
            ged=float(np.mean(distances)),
            runaway={k: v for k, v in _named(np.mean(runaway, axis=0), spec).items() if v},
        )

    return validate


def validate_on_patches(patches: Sequence[tuple[Array, LabelArray]], spec: ModelSpec) -> Validator:
    """Scores of each class but the background, Dice pooled over the voxels of fixed patches.

    Parameters
    ----------
    patches
        Images ``(C, *patch)``, on the grid of the network, and their labels. They are normalised
        as any image is.
    spec
        Of the network.
    """
    cases = [
        ReadCase(
            name=f"patch {number}",
            patient="",
            image=Image.from_array(
                image, channel_axis=0, channels=spec.channels, spacing=spec.spacing
            ),
            raters=labels[None],
        )
        for number, (image, labels) in enumerate(patches, start=1)
    ]
    return validate_on_cases(cases, spec, pooled=True)


def _overlaps(labels: LabelArray, case: ReadCase, spec: ModelSpec) -> list[Overlap]:
    counted = [rater != UNREVIEWED for rater in case.raters]
    return [
        overlap(labels[where], rater[where], spec.n_classes)
        for where, rater in zip(counted, case.raters, strict=True)
    ]


def _dice(counts: Sequence[Overlap], *, pooled: bool) -> npt.NDArray[np.float64]:
    return reduce(add, counts).dice() if pooled else mean_dice([one.dice() for one in counts])


def _samples(labels: Labeller, seed: int, n_samples: int) -> Iterator[LabelArray]:
    """The first samples of a series: the same noise at every validation."""
    for number in range(MEAN + 1, MEAN + 1 + n_samples):
        yield labels(Controls(seed=seed, sample=number))


def _energy_distance(samples: LabelArray, raters: LabelArray, n_classes: int) -> float:
    across = pairwise_overlap(samples, raters, n_classes).distances()
    within = pairwise_overlap(samples, samples, n_classes).distances()
    reading = pairwise_overlap(raters, raters, n_classes).distances()
    return energy_distance(across, within, reading)


def _runaway(sample: LabelArray, mean: LabelArray, n_classes: int) -> npt.NDArray[np.bool_]:
    """Which classes of a sample have far more or far fewer voxels than in the mean, ``(C,)``."""
    ours, theirs = (np.bincount(one.ravel(), minlength=n_classes) for one in (sample, mean))
    odd: npt.NDArray[np.bool_] = (ours > _RUNAWAY_FACTOR * theirs) | (
        ours * _RUNAWAY_FACTOR < theirs
    )
    return odd


def _named(values: npt.NDArray[np.float64], spec: ModelSpec) -> dict[str, float]:
    """Values of classes without the background, and without classes that have none."""
    named = list(zip(spec.class_names, values, strict=True))
    return {name: float(value) for name, value in named[1:] if not np.isnan(value)}
