"""Every metric of one model on one case."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_structseg.evaluation.calibration import Reliability, brier_score, reliability
from napari_structseg.evaluation.energy import diversity, energy_distance
from napari_structseg.evaluation.matching import matched_iou
from napari_structseg.evaluation.modes import rater_frequency_error
from napari_structseg.evaluation.overlaps import (
    Absent,
    FloatArray,
    LabelArray,
    PairwiseOverlap,
    pairwise_overlap,
)
from napari_structseg.evaluation.samples import best_of_samples, better_than_mean, worst_samples
from napari_structseg.evaluation.surfaces import surface_distances
from napari_structseg.evaluation.volumes import covered, crps, relative_width, voxel_volume

Values = dict[str, list[float]]


@dataclass(frozen=True, eq=False)
class Drawn:
    """What one model says about one image.

    Attributes
    ----------
    labels
        Those of the mean, then those of the samples, ``(1 + N, *spatial)``; a single sample where
        all are alike.
    n_samples
        N; for a deterministic model, how many samples its single one stands for.
    probability
        Marginal probability of each class, ``(C, *spatial)``.
    """

    labels: LabelArray
    n_samples: int
    probability: npt.NDArray[np.float32]

    @property
    def mean(self) -> LabelArray:
        """Labels of the mean, ``(*spatial)``."""
        mean: LabelArray = self.labels[0]
        return mean

    @property
    def samples(self) -> LabelArray:
        """Labels of the samples, ``(N, *spatial)``, or of the one that stands for all."""
        return self.labels[1:]


@dataclass(frozen=True, slots=True)
class ScoreSettings:
    """What the metrics of a case depend on, apart from its segmentations.

    Attributes
    ----------
    class_names
        Names of the labels, background first.
    counts
        Numbers of samples for which the energy distance is computed besides all of them.
    absent
        What a class counts that neither of two segmentations contains.
    tolerance
        Of the surface Dice, in the unit of the spacing.
    unit
        Of the spacing: mm, or pixels where the data does not say how large they are.
    """

    class_names: tuple[str, ...]
    counts: tuple[int, ...] = ()
    absent: Absent = "agree"
    tolerance: float = 1.0
    unit: str = "mm"


@dataclass(frozen=True, eq=False)
class CaseScores:
    """The metrics of one model on one case.

    Attributes
    ----------
    values
        By metric: one value, or one for each foreground class and rater; NaN where undefined.
    reliability
        Observations by confidence, to be pooled over cases.
    """

    values: Values
    reliability: Reliability


def score_case(
    drawn: Drawn, raters: LabelArray, spacing: Sequence[float], settings: ScoreSettings
) -> CaseScores:
    """Compare a model with the raters of a case.

    Parameters
    ----------
    drawn
        What the model says.
    raters
        Labels of each rater, ``(M, *spatial)``.
    spacing
        Distance between voxel centres along each axis.
    settings
        What else the metrics depend on.

    Raises
    ------
    ValueError
        If shapes do not fit together, labels exceed the classes, or more samples are asked for
        than there are.
    """
    if max(settings.counts, default=0) > drawn.n_samples:
        raise ValueError(f"counts {settings.counts} need more than {drawn.n_samples} samples")
    n_classes = len(settings.class_names)
    across = pairwise_overlap(drawn.labels, raters, n_classes)
    by_confidence = reliability(drawn.probability, raters)
    values = {
        **_of_sets(drawn, raters, across, settings),
        **_of_masks(across, settings.class_names),
        **_of_volumes(across, voxel_volume(spacing, settings.unit)[0], settings.class_names),
        **_of_mean_probability(drawn.probability, raters, settings.class_names),
        **_of_surfaces(drawn.mean, raters, spacing, settings),
        "brier": [brier_score(drawn.probability, raters)],
        "ece": [by_confidence.error()],
    }
    return CaseScores(values, by_confidence)


def _of_sets(
    drawn: Drawn, raters: LabelArray, overlap: PairwiseOverlap, settings: ScoreSettings
) -> Values:
    """What compares the samples, as a set, with the raters."""
    n_classes, n_samples = len(settings.class_names), drawn.n_samples
    # A single one may stand for all.
    index = np.minimum(np.arange(n_samples), len(drawn.samples) - 1)
    across = overlap[slice(1, None), slice(None)].distances(settings.absent)[index]
    within = pairwise_overlap(drawn.samples, drawn.samples, n_classes)
    samples = within.distances(settings.absent)[np.ix_(index, index)]
    reading = pairwise_overlap(raters, raters, n_classes).distances(settings.absent)
    unbiased = np.nan
    if n_samples > 1 and len(raters) > 1:
        unbiased = energy_distance(across, samples, reading, "u")
    return {
        "ged": [energy_distance(across, samples, reading)],
        "ged_u": [unbiased],
        "sample_diversity": [diversity(samples)],
        "rater_diversity": [diversity(reading)],
        "matched_iou": [matched_iou(across)],
        "rater_frequency_error": [rater_frequency_error(across, reading)],
        **{
            f"ged_{n}": [energy_distance(across[:n], samples[:n, :n], reading)]
            for n in settings.counts
        },
    }


def _of_masks(across: PairwiseOverlap, class_names: Sequence[str]) -> Values:
    """What compares single segmentations, class by class and rater by rater."""
    dice, of_samples = across.dice()[:, 0], across.dice()[:, 1:]
    marked = across.second > 0
    best = np.stack([best_of_samples(one) for one in of_samples])
    better = np.stack([better_than_mean(*pair) for pair in zip(of_samples, dice, strict=True)])
    worst = np.stack([worst_samples(one) for one in of_samples])
    arrays = {
        "dice": dice,
        "dice_marked": np.where(marked, dice, np.nan),
        "iou": across.iou()[:, 0],
        "best_dice": np.where(marked, best, np.nan),
        "better_than_mean": np.where(marked, better, np.nan),
        "sample_dice": np.where(marked, of_samples.mean(axis=1), np.nan),
        "worst_dice": np.where(marked, worst, np.nan),
    }
    return dict(_named(arrays, class_names))


def _of_volumes(across: PairwiseOverlap, per_voxel: float, class_names: Sequence[str]) -> Values:
    """How the volumes of the samples, as a distribution, fit that of each rater."""
    of_samples, truth = across.first[:, 1:] * per_voxel, across.second * per_voxel
    functions = {
        "volume_coverage": covered,
        "volume_width": relative_width,
        "volume_crps": crps,
    }
    arrays = {
        name: np.stack([function(*pair) for pair in zip(of_samples, truth, strict=True)])
        for name, function in functions.items()
    }
    return dict(_named(arrays, class_names))


def _of_mean_probability(
    probability: npt.NDArray[np.float32], raters: LabelArray, class_names: Sequence[str]
) -> Values:
    """Dice of the class with the largest mean probability over the samples.

    Monteiro 2020 compares the Probabilistic U-Net and other baselines by it, and Stochastic
    Segmentation Networks by the argmax of the mean logits.
    """
    labels = probability.argmax(axis=0).astype(np.uint8)[None]
    overlap = pairwise_overlap(labels, raters, len(class_names))
    dice = overlap.dice()[:, 0]
    arrays = {
        "dice_of_mean_probability": dice,
        "dice_marked_of_mean_probability": np.where(overlap.second > 0, dice, np.nan),
    }
    return dict(_named(arrays, class_names))


def _of_surfaces(
    mean: LabelArray, raters: LabelArray, spacing: Sequence[float], settings: ScoreSettings
) -> Values:
    """How far the surface of the mean is from each rater's."""
    shape = (len(settings.class_names) - 1, len(raters))
    arrays = {name: np.empty(shape) for name in ("hd95", "assd", "nsd")}
    for index in np.ndindex(shape):
        label, rater = index[0] + 1, raters[index[1]]
        found = surface_distances(mean == label, rater == label, spacing)
        arrays["hd95"][index] = found.hd95()
        arrays["assd"][index] = found.assd()
        arrays["nsd"][index] = found.nsd(settings.tolerance)
    return dict(_named(arrays, settings.class_names))


def _named(
    arrays: dict[str, FloatArray], class_names: Sequence[str]
) -> Iterator[tuple[str, list[float]]]:
    """All foreground classes together and, where there are several, each on its own."""
    for metric, by_class in arrays.items():
        yield metric, by_class.ravel().tolist()
        if len(by_class) > 1:
            for name, values in zip(class_names[1:], by_class, strict=True):
                yield f"{metric}: {name}", values.tolist()
