"""The Dice coefficient of each class.

A class that neither segmentation contains has no Dice: it is NaN, and means leave it out. A class
that only one of them contains has Dice 0. This is the convention of Monteiro et al., *Stochastic
Segmentation Networks*, NeurIPS 2020, for its Dice scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Overlap:
    """Voxel counts from which the Dice of each class follows; addable, to pool several images.

    Attributes
    ----------
    common
        Voxels that have the class in both segmentations, ``(C,)`` int64.
    total
        Voxels that have it in the one plus voxels that have it in the other, ``(C,)`` int64.
    """

    common: npt.NDArray[np.int64]
    total: npt.NDArray[np.int64]

    def __add__(self, other: Overlap) -> Overlap:
        return Overlap(self.common + other.common, self.total + other.total)

    def dice(self) -> npt.NDArray[np.float64]:
        """Dice of each class, ``(C,)``; NaN where no voxel has the class."""
        dice = np.full(len(self.total), np.nan)
        np.divide(2 * self.common, self.total, out=dice, where=self.total > 0)
        return dice


def overlap(
    prediction: npt.NDArray[np.uint8], reference: npt.NDArray[np.uint8], n_classes: int
) -> Overlap:
    """Count what two segmentations have in common.

    Parameters
    ----------
    prediction, reference
        Labels of the same shape, all below `n_classes`.
    n_classes
        Number of classes C, background included.

    Raises
    ------
    ValueError
        If the shapes differ, or a label is not below `n_classes`.
    """
    if prediction.shape != reference.shape:
        raise ValueError(f"shapes differ: {prediction.shape} and {reference.shape}")
    if prediction.size and max(int(prediction.max()), int(reference.max())) >= n_classes:
        raise ValueError(f"labels must be below {n_classes}")
    pairs = reference.astype(np.int64).ravel() * n_classes + prediction.ravel()
    confusion = np.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)
    return Overlap(np.diagonal(confusion).copy(), confusion.sum(axis=0) + confusion.sum(axis=1))


def dice_per_class(
    prediction: npt.NDArray[np.uint8], reference: npt.NDArray[np.uint8], n_classes: int
) -> npt.NDArray[np.float64]:
    """Dice of each class between two segmentations.

    Parameters
    ----------
    prediction, reference
        Labels of the same shape, all below `n_classes`.
    n_classes
        Number of classes C, background included.

    Returns
    -------
    dice
        ``(C,)``: 2 |A and B| / (|A| + |B|); NaN for a class that neither contains, 0 for one
        that only one of them contains.

    Examples
    --------
    >>> dice_per_class(np.array([0, 1, 1, 0], np.uint8), np.array([0, 1, 0, 0], np.uint8), 3)
    array([0.8       , 0.66666667,        nan])
    """
    return overlap(prediction, reference, n_classes).dice()


def mean_dice(scores: Sequence[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    """Mean over images of each class's Dice, leaving out images without the class.

    Parameters
    ----------
    scores
        Dice of each class, ``(C,)``, one array for each image.

    Returns
    -------
    dice
        ``(C,)``; NaN for a class that no image contains.
    """
    stacked = np.stack(scores)
    defined = ~np.isnan(stacked)
    n_defined = defined.sum(axis=0)
    sums = np.where(defined, stacked, 0).sum(axis=0)
    mean = np.full(len(sums), np.nan)
    np.divide(sums, n_defined, out=mean, where=n_defined > 0)
    return mean
