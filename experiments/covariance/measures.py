"""What the samples of a network are worth: volumes beside the mean's, Dice, energy distance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from napari_structseg.controls import MEAN, Controls
from napari_structseg.data.cases import ReadCase
from napari_structseg.evaluation.dice import dice_per_class
from napari_structseg.evaluation.energy import energy_distance
from napari_structseg.evaluation.overlaps import pairwise_overlap
from napari_structseg.models import ModelSpec, SegmentationNetwork
from napari_structseg.training.validation import open_labeller

# A sample runs away where a class has more than so many times the mean's volume, or less than
# its inverse.
FACTOR = 2
INTERVAL = 5, 95
WORST = 0.05


def measured(
    network: SegmentationNetwork, spec: ModelSpec, cases: Sequence[ReadCase], n_samples: int
) -> dict[str, Any]:
    """Measures over all cases; see ``report.COLUMNS`` for what each is.

    Parameters
    ----------
    network
        In evaluation mode.
    spec
        Of it.
    cases
        On their own grids, each of one rater.
    n_samples
        Samples of each case.
    """
    rows = []
    for seed, case in enumerate(cases):
        labels = open_labeller(network, spec, case.image)
        mean = labels(Controls(seed=seed))
        numbers = range(MEAN + 1, MEAN + 1 + n_samples)
        samples = np.stack([labels(Controls(seed=seed, sample=number)) for number in numbers])
        rows.append(of_case(mean, samples, case.raters[0], spec.n_classes))
    runaway = np.array([row["runaway"] for row in rows])
    return {
        "runaway": runaway.mean(axis=(0, 1)).round(5).tolist(),
        "runaway_samples": int(runaway.any(axis=2).sum()),
        "samples": int(runaway.shape[0] * runaway.shape[1]),
        "largest": round(max(row["largest"] for row in rows), 2),
        **{
            name: round(float(np.mean([row[name] for row in rows])), 4)
            for name in ("dice", "sample_dice", "worst_dice", "ged", "covered", "width")
        },
    }


def of_case(
    mean: np.ndarray, samples: np.ndarray, truth: np.ndarray, n_classes: int
) -> dict[str, Any]:
    """Measures of one case; volumes are of each class but the background.

    Parameters
    ----------
    mean, truth
        Labels, ``(*spatial)``.
    samples
        Labels, ``(N, *spatial)``.
    n_classes
        Number of classes, background included.
    """

    def volumes(labels: np.ndarray) -> np.ndarray:
        return np.bincount(labels.ravel(), minlength=n_classes)[1:]

    def dice(labels: np.ndarray) -> float:
        return float(np.nanmean(dice_per_class(labels, truth, n_classes)[1:]))

    of_mean, of_samples = volumes(mean), np.array([volumes(sample) for sample in samples])
    every_dice = np.sort([dice(sample) for sample in samples])
    low, high = np.percentile(of_samples, INTERVAL, axis=0)
    across = pairwise_overlap(samples, truth[None], n_classes).distances()
    within = pairwise_overlap(samples, samples, n_classes).distances()
    # A class that the mean lacks is counted as if it had one voxel of it.
    present = np.maximum(of_mean, 1)
    return {
        "runaway": (of_samples > FACTOR * of_mean) | (of_samples * FACTOR < of_mean),
        "largest": float((of_samples / present).max()),
        "dice": dice(mean),
        "sample_dice": float(every_dice.mean()),
        "worst_dice": float(every_dice[: max(1, round(WORST * len(samples)))].mean()),
        "ged": energy_distance(across, within, np.zeros((1, 1))),
        "covered": float(((low <= volumes(truth)) & (volumes(truth) <= high)).mean()),
        "width": float(((high - low) / present).mean()),
    }
