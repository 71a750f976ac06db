"""Overlaps of every segmentation of one set with every one of another, as matrix products."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

LabelArray = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float64]

Absent = Literal["agree", "ignore"]
"""A class that neither of two segmentations contains: they agree on it, or it does not count."""

# Voxels whose masks are made at a time. Counts of a block are exact in float32 up to 2^24.
_BLOCK_VOXELS = 1 << 16


@dataclass(frozen=True, eq=False)
class PairwiseOverlap:
    """Voxel counts of each foreground class, for N segmentations against M.

    Attributes
    ----------
    common
        Voxels that have the class in both of a pair, ``(C - 1, N, M)`` int64.
    first, second
        Voxels that have it in each segmentation, ``(C - 1, N)`` and ``(C - 1, M)`` int64.
    """

    common: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    second: npt.NDArray[np.int64]

    def __getitem__(self, pairs: tuple[slice, slice]) -> PairwiseOverlap:
        """The pairs of some segmentations of either set."""
        rows, columns = pairs
        return PairwiseOverlap(
            self.common[:, rows, columns], self.first[:, rows], self.second[:, columns]
        )

    def iou(self) -> FloatArray:
        """Intersection over union, ``(C - 1, N, M)``; NaN where neither has the class."""
        return _ratio(self.common, self._sum() - self.common)

    def dice(self) -> FloatArray:
        """Dice, ``(C - 1, N, M)``; NaN where neither has the class."""
        return _ratio(2 * self.common, self._sum())

    def distances(self, absent: Absent = "agree") -> FloatArray:
        """Distances d = 1 - IoU, the mean IoU over the foreground classes, ``(N, M)``.

        Two empty segmentations have distance 0, an empty one and another that is not have 1
        (Kohl 2018, appendix; Monteiro 2020).

        Parameters
        ----------
        absent
            agree: a class that neither has counts as IoU 1, as on LIDC. ignore: it is left out
            of the mean, as Kohl 2018 has it on Cityscapes; where none is left, d is 0.
        """
        iou = self.iou()
        if absent == "agree":
            agreed: FloatArray = 1 - np.nan_to_num(iou, nan=1.0).mean(axis=0)
            return agreed
        present = ~np.isnan(iou)
        total = np.where(present, iou, 0).sum(axis=0)
        n_present = present.sum(axis=0)
        mean = np.ones_like(total)
        np.divide(total, n_present, out=mean, where=n_present > 0)
        distances: FloatArray = 1 - mean
        return distances

    def _sum(self) -> npt.NDArray[np.int64]:
        total: npt.NDArray[np.int64] = self.first[:, :, None] + self.second[:, None, :]
        return total


def pairwise_overlap(first: LabelArray, second: LabelArray, n_classes: int) -> PairwiseOverlap:
    """Count what every segmentation of one set has in common with every one of another.

    Masks are flattened and multiplied, block by block of voxels: one matrix product for each
    class. Voxels that are background everywhere take no part.

    Parameters
    ----------
    first, second
        Labels, ``(N, *spatial)`` and ``(M, *spatial)``, all below `n_classes`.
    n_classes
        Number of classes C, background (label 0) included.

    Raises
    ------
    ValueError
        If the shapes differ, a set is empty, there is no foreground class, or a label is not
        below `n_classes`.
    """
    if first.shape[1:] != second.shape[1:]:
        raise ValueError(f"shapes differ: {first.shape[1:]} and {second.shape[1:]}")
    if n_classes < 2 or not len(first) or not len(second):
        raise ValueError(
            f"needs segmentations in both sets and a foreground class, not {len(first)} and "
            f"{len(second)} with {n_classes} classes"
        )
    n_foreground = n_classes - 1
    common = np.zeros((n_foreground, len(first), len(second)), np.int64)
    sizes = [np.zeros((n_foreground, len(labels)), np.int64) for labels in (first, second)]
    for block in _foreground_blocks(first, second):
        if max(int(labels.max(initial=0)) for labels in block) >= n_classes:
            raise ValueError(f"labels must be below {n_classes}")
        for index in range(n_foreground):
            masks = [labels == index + 1 for labels in block]
            rows, columns = (mask.astype(np.float32) for mask in masks)
            common[index] += (rows @ columns.T).astype(np.int64)
            for size, mask in zip(sizes, masks, strict=True):
                size[index] += mask.sum(axis=1)
    return PairwiseOverlap(common, *sizes)


def _foreground_blocks(
    first: LabelArray, second: LabelArray
) -> Iterator[tuple[LabelArray, LabelArray]]:
    """Both sets by blocks of voxels, ``(N, voxels)``, without those that are background in all."""
    flat = [labels.reshape(len(labels), -1) for labels in (first, second)]
    for start in range(0, flat[0].shape[1], _BLOCK_VOXELS):
        rows, columns = (labels[:, start : start + _BLOCK_VOXELS] for labels in flat)
        used = rows.any(axis=0) | columns.any(axis=0)
        yield rows[:, used], columns[:, used]


def _ratio(numerator: npt.NDArray[np.int64], denominator: npt.NDArray[np.int64]) -> FloatArray:
    """A quotient of counts; NaN for 0 / 0."""
    result = np.full(denominator.shape, np.nan)
    np.divide(numerator, denominator, out=result, where=denominator > 0)
    return result
