"""How good the best, the average and the worst samples are beside the mean.

The best after Monteiro 2020, Figure 5. Raters who drew nothing of a class are left out: beside
them only an empty prediction could be right.
"""

from __future__ import annotations

import math

import numpy as np

from napari_structseg.evaluation.overlaps import FloatArray

# Share of the samples that the worst ones are, at least one of them.
WORST = 0.05


def best_of_samples(dice: FloatArray) -> FloatArray:
    """Dice of the sample nearest to each rater.

    Parameters
    ----------
    dice
        Of N samples with M raters, ``(N, M)``.

    Returns
    -------
    best
        ``(M,)``.
    """
    best: FloatArray = dice.max(axis=0)
    return best


def better_than_mean(dice: FloatArray, of_mean: FloatArray) -> FloatArray:
    """Fraction of the samples whose Dice with each rater exceeds that of the mean.

    Parameters
    ----------
    dice
        Of N samples with M raters, ``(N, M)``.
    of_mean
        Dice of the prediction of the mean with each rater, ``(M,)``.

    Returns
    -------
    fraction
        ``(M,)``.
    """
    fraction: FloatArray = (dice > of_mean).mean(axis=0)
    return fraction


def worst_samples(dice: FloatArray) -> FloatArray:
    """Mean Dice of the worst 5 % of the samples, at least one, with each rater.

    Parameters
    ----------
    dice
        Of N samples with M raters, ``(N, M)``.

    Returns
    -------
    worst
        ``(M,)``.

    Examples
    --------
    >>> worst_samples(np.array([[0.9, 0.2], [0.3, 0.8]]))
    array([0.3, 0.2])
    """
    # Without the guard 0.05 * 60 would be a little more than 3.
    n_worst = max(1, math.ceil(round(WORST * len(dice), 9)))
    worst: FloatArray = np.sort(dice, axis=0)[:n_worst].mean(axis=0)
    return worst
