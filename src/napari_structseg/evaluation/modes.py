"""How often samples come out as each of some known modes.

Kohl 2018, Figure 5: a sample counts for the mode nearest to it. Where a class is absent, modes
that differ only in it are equally near; the sample is then shared among them, since giving it to
the first would favour that one.
"""

from __future__ import annotations

import numpy as np

from napari_structseg.evaluation.overlaps import FloatArray

# Equal distances may differ by the rounding of a mean over classes.
_TIE = 1e-9


def mode_frequencies(distances: FloatArray) -> FloatArray:
    """Fraction of the samples that belong to each mode.

    Parameters
    ----------
    distances
        Of N samples to K modes, ``(N, K)``.

    Returns
    -------
    frequencies
        ``(K,)``; they sum to 1.

    Examples
    --------
    >>> mode_frequencies(np.array([[0.0, 1.0], [0.5, 0.5]]))
    array([0.75, 0.25])
    """
    nearest = distances <= distances.min(axis=1, keepdims=True) + _TIE
    frequencies: FloatArray = (nearest / nearest.sum(axis=1, keepdims=True)).mean(axis=0)
    return frequencies


def total_variation(first: FloatArray, second: FloatArray) -> float:
    """Half the sum of absolute differences of two distributions over modes, from 0 to 1."""
    return float(np.abs(first - second).sum() / 2)


def rater_frequency_error(across: FloatArray, raters: FloatArray) -> float:
    """Total variation between what samples come out as and what raters drew.

    The modes are the raters' segmentations, each as frequent as there are raters who drew it.
    Equal ones share their samples, so that they count as one mode.

    Parameters
    ----------
    across
        Distances of N samples to M raters, ``(N, M)``.
    raters
        Distances of the raters to one another, ``(M, M)``.
    """
    return total_variation(mode_frequencies(across), mode_frequencies(raters))
