"""How far a set of samples is from a set of raters: the generalised energy distance.

Kohl et al., *A Probabilistic U-Net for Segmentation of Ambiguous Images*, NeurIPS 2018; Szekely
and Rizzo, *Energy statistics*, 2013, for the distance. All functions take matrices of distances d
between segmentations, see :meth:`PairwiseOverlap.distances`.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from napari_structseg.evaluation.overlaps import FloatArray

Statistic = Literal["v", "u"]
"""v: pairs of a segmentation with itself count, as in the papers; u: they do not (unbiased)."""


def diversity(distances: FloatArray, statistic: Statistic = "v") -> float:
    """E[d(s, s')]: the mean distance within a set.

    Parameters
    ----------
    distances
        Of a set to itself, ``(N, N)``.
    statistic
        v: over all N^2 pairs; too small by a factor (N - 1) / N. u: over the pairs of different
        members.

    Raises
    ------
    ValueError
        If the matrix is not square, or if u is asked for with fewer than two members.
    """
    n, n_columns = distances.shape
    if n != n_columns:
        raise ValueError(f"distances within a set must be square, not {distances.shape}")
    if statistic == "v":
        return float(distances.mean())
    if n < 2:
        raise ValueError("the U-statistic needs at least two members")
    return float((distances.sum() - np.trace(distances)) / (n * (n - 1)))


def energy_distance(
    across: FloatArray, samples: FloatArray, raters: FloatArray, statistic: Statistic = "v"
) -> float:
    """D^2 = 2 E[d(s, y)] - E[d(s, s')] - E[d(y, y')].

    With the V-statistic, and absent classes agreeing, it is not below 0, and it is 0 for equal
    sets; but a perfect model, whose N samples are drawn as the raters are, keeps a floor of
    about their diversity / N. The U-statistic is without that bias, and may be negative.

    Parameters
    ----------
    across
        Distances of N samples to M raters, ``(N, M)``.
    samples, raters
        Distances within the sets, ``(N, N)`` and ``(M, M)``.
    statistic
        See :func:`diversity`.

    Raises
    ------
    ValueError
        If the shapes do not fit together, or as :func:`diversity`.
    """
    if across.shape != (len(samples), len(raters)):
        raise ValueError(
            f"distances {across.shape} do not fit {len(samples)} samples and {len(raters)} raters"
        )
    within = diversity(samples, statistic) + diversity(raters, statistic)
    return 2 * float(across.mean()) - within
