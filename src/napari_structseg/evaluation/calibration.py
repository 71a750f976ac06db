"""Whether probabilities of single voxels are right: Brier score and expected calibration error.

Guo et al., *On Calibration of Modern Neural Networks*, ICML 2017, for the error and its bins;
Brier, *Verification of forecasts expressed in terms of probability*, 1950. With several raters,
each voxel of each rater is one observation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_structseg.evaluation.overlaps import FloatArray, LabelArray

N_BINS = 15


@dataclass(frozen=True, eq=False)
class Reliability:
    """Observations by confidence, the probability of the most probable class; addable.

    Attributes
    ----------
    count
        Observations in each of the equal bins of (0, 1], ``(N_BINS,)``.
    confidence
        Sum of their confidences, ``(N_BINS,)``.
    correct
        How many of them were of the most probable class, ``(N_BINS,)``.
    """

    count: FloatArray
    confidence: FloatArray
    correct: FloatArray

    def __add__(self, other: Reliability) -> Reliability:
        return Reliability(
            self.count + other.count,
            self.confidence + other.confidence,
            self.correct + other.correct,
        )

    def error(self) -> float:
        """Expected calibration error: mean of |accuracy - confidence|, bins by their count."""
        return float(np.abs(self.correct - self.confidence).sum() / self.count.sum())


def reliability(probability: npt.NDArray[np.float32], raters: LabelArray) -> Reliability:
    """Count observations by confidence.

    Parameters
    ----------
    probability
        Of each class, ``(C, *spatial)``.
    raters
        Labels of each rater, ``(M, *spatial)``.

    Raises
    ------
    ValueError
        If the spatial shapes differ.
    """
    _check(probability, raters)
    winner = probability.argmax(axis=0).ravel()
    confidence = probability.max(axis=0).ravel().astype(np.float64)
    # A bin holds its upper end, as Guo 2017 has it.
    index = np.clip(np.ceil(confidence * N_BINS).astype(np.int64) - 1, 0, N_BINS - 1)
    hits = (raters.reshape(len(raters), -1) == winner).sum(axis=0)

    def by_bin(weights: FloatArray | None = None) -> FloatArray:
        return np.bincount(index, weights, N_BINS).astype(np.float64)

    n_raters = len(raters)
    return Reliability(
        n_raters * by_bin(), n_raters * by_bin(confidence), by_bin(hits.astype(np.float64))
    )


def brier_score(probability: npt.NDArray[np.float32], raters: LabelArray) -> float:
    """Mean over voxels and raters of sum_c (p_c - [y = c])^2, from 0 to 2.

    Parameters
    ----------
    probability
        Of each class, ``(C, *spatial)``.
    raters
        Labels of each rater, ``(M, *spatial)``, all below C.

    Raises
    ------
    ValueError
        If the spatial shapes differ.
    """
    _check(probability, raters)
    # sum_c (p_c - [y = c])^2 = sum_c p_c^2 + 1 - 2 p_y
    n_voxels = raters[0].size
    squares = sum(float(np.square(one, dtype=np.float64).sum()) for one in probability)
    chosen = [
        np.take_along_axis(probability, rater[None].astype(np.intp), axis=0).sum(dtype=np.float64)
        for rater in raters
    ]
    return float((squares - 2 * np.mean(chosen)) / n_voxels + 1)


def _check(probability: npt.NDArray[np.float32], raters: LabelArray) -> None:
    if probability.shape[1:] != raters.shape[1:]:
        raise ValueError(f"shapes differ: {probability.shape[1:]} and {raters.shape[1:]}")
