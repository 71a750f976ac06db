"""How far a set of samples is from a set of raters: the generalised energy distance.

Kohl et al., *A Probabilistic U-Net for Segmentation of Ambiguous Images*, NeurIPS 2018; Szekely
and Rizzo, *Energy statistics*, 2013, for the distance. All functions but the last take matrices of
distances d between segmentations, see :meth:`PairwiseOverlap.distances`.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from napari_structseg.errors import InputError
from napari_structseg.evaluation.overlaps import Absent, FloatArray, pairwise_overlap

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


def generalised_energy_distance(
    samples: npt.ArrayLike,
    raters: npt.ArrayLike,
    *,
    n_classes: int | None = None,
    statistic: Statistic = "v",
    absent: Absent = "agree",
) -> float:
    """D^2 between two sets of segmentations, with d = 1 - mean IoU over the foreground classes.

    The same as `ged` (with ``statistic="u"``: `ged_u`) of ``structseg evaluate``.

    Parameters
    ----------
    samples
        Labels, ``(N, *spatial)``, integers from 0.
    raters
        Labels on the same voxels, ``(M, *spatial)``.
    n_classes
        Number of classes, background included; None: as many as there are labels.
    statistic
        See :func:`diversity`.
    absent
        What a class counts that neither of two segmentations contains.

    Raises
    ------
    InputError
        If the arrays are not labels of one shape, a set is empty, a label is not below
        `n_classes`, or u is asked for with fewer than two members.

    Examples
    --------
    >>> raters = np.array([[[0, 1, 1]], [[0, 0, 1]]])
    >>> generalised_energy_distance(raters, raters)
    0.0
    >>> generalised_energy_distance(raters[:1], raters)
    0.25
    """
    first, second = _labels(samples, "The samples"), _labels(raters, "The segmentations of raters")
    largest = max(int(first.max()), int(second.max()))
    classes = max(largest + 1, 2) if n_classes is None else n_classes
    if first.shape[1:] != second.shape[1:] or classes <= largest or classes < 2:
        raise InputError(
            f"Samples and raters were expected on the same voxels with labels below the number of "
            f"classes, but they are {first.shape} and {second.shape} with labels up to {largest} "
            f"for {classes} classes. Give arrays (N, *spatial) and (M, *spatial)."
        )
    if statistic == "u" and min(len(first), len(second)) < 2:
        raise InputError(
            f"The U-statistic needs two samples and two raters or more, but there are {len(first)} "
            f'and {len(second)}. Give more, or take statistic="v".'
        )
    pairs = [
        pairwise_overlap(one, other, classes).distances(absent)
        for one, other in ((first, second), (first, first), (second, second))
    ]
    return energy_distance(pairs[0], pairs[1], pairs[2], statistic)


def _labels(given: npt.ArrayLike, what: str) -> npt.NDArray[np.uint8]:
    array = np.asarray(given)
    if array.dtype.kind not in "iub" or array.ndim < 2 or not array.size:
        raise InputError(
            f"{what} must be integer labels (N, *spatial), but they are {array.dtype} of shape "
            f"{array.shape}. Several segmentations are stacked along the first axis."
        )
    if int(array.min()) < 0 or int(array.max()) > np.iinfo(np.uint8).max:
        raise InputError(
            f"{what} must have labels from 0 to 255, but they run from {array.min()} to "
            f"{array.max()}. Renumber them first."
        )
    return array.astype(np.uint8, copy=False)
