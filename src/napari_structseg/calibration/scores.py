"""The proper scores that a calibration may minimise; the lower the better.

A score is proper if its mean is least for the distribution that the raters' labels are drawn from
(Gneiting and Raftery, *Strictly Proper Scoring Rules, Prediction, and Estimation*, 2007).

likelihood
    Negative logarithm of the marginal probability of each rater's label, the mean over voxels and
    raters, in nats. The probability is the mean of the softmax over the samples. It is taken
    voxel by voxel: the Monte Carlo likelihood of a whole image, as in the loss of an SSN, is that
    of the one best sample where there are millions of voxels, and says nothing about the others.
crps
    Continuous ranked probability score of the volume of each class over the samples, as a share
    of the mean volume that the raters gave it; the mean over the foreground classes.
ged
    Generalised energy distance between samples and raters, d = 1 - mean IoU, V-statistic.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch

from napari_structseg.calibration.points import CasePoints
from napari_structseg.distributions import Spread
from napari_structseg.evaluation.energy import energy_distance
from napari_structseg.evaluation.overlaps import pairwise_overlap
from napari_structseg.evaluation.volumes import crps
from napari_structseg.models.calibration_spec import ScoreName


def likelihood(cases: Sequence[CasePoints], spread: Spread) -> float:
    """Mean negative log probability of the raters' labels where samples differ, in nats."""
    total, count = 0.0, 0
    for case in cases:
        where = torch.from_numpy(case.uncertain)
        labels = torch.from_numpy(case.raters[:, case.uncertain].astype(np.int64))
        # log of the mean over samples of p(label), without leaving the logarithm.
        sums = torch.full(labels.shape, -math.inf)
        with torch.inference_mode():
            for logits in case.logits(spread):
                told = logits.cpu()[:, where].log_softmax(dim=0)
                sums = torch.logaddexp(sums, told.gather(0, labels))
        total -= float(sums.double().sum()) - math.log(case.n_samples) * sums.numel()
        count += sums.numel()
    return total / count


def relative_crps(cases: Sequence[CasePoints], spread: Spread) -> float:
    """CRPS of volumes, as a share of the raters' mean volume of each class."""
    n_classes = cases[0].n_classes
    scores, volumes = np.zeros(n_classes), np.zeros(n_classes)
    for case in cases:
        drawn, truth = (
            np.stack([np.bincount(one, minlength=n_classes) for one in labels]) * case.point_volume
            for labels in (case.labels(spread), case.raters)
        )
        # Each case counts once, however many raters it has.
        scores += [crps(*pair).mean() for pair in zip(drawn.T, truth.T, strict=True)]
        volumes += truth.mean(axis=0)
    marked = volumes[1:] > 0
    return float((scores[1:][marked] / volumes[1:][marked]).mean())


def distance(cases: Sequence[CasePoints], spread: Spread) -> float:
    """Generalised energy distance, the mean over cases."""
    return float(np.mean([_distance_of(case, spread) for case in cases]))


def _distance_of(case: CasePoints, spread: Spread) -> float:
    samples, raters = case.labels(spread), case.raters
    across, within, between = (
        pairwise_overlap(first, second, case.n_classes).distances()
        for first, second in ((samples, raters), (samples, samples), (raters, raters))
    )
    return energy_distance(across, within, between)


Score = Callable[[Sequence[CasePoints], Spread], float]

SCORES: dict[ScoreName, Score] = {
    "likelihood": likelihood,
    "crps": relative_crps,
    "ged": distance,
}
