"""Whether samples offer something better than the mean.

Monteiro 2020, Figure 5. Raters who drew nothing of a class are left out: beside them only an
empty prediction could be right.
"""

from __future__ import annotations

from napari_structseg.evaluation.overlaps import FloatArray


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
