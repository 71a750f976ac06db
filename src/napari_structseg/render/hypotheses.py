"""Hypotheses: the few different segmentations that the samples of a distribution amount to."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_structseg.render.clusters import FloatArray, find_clusters

NOTHING = "Nothing"
_BY_SIZE = {
    1: ("Something",),
    2: ("Small", "Large"),
    3: ("Small", "Medium", "Large"),
    4: ("Smallest", "Small", "Large", "Largest"),
    5: ("Smallest", "Small", "Medium", "Large", "Largest"),
}
_QUARTILES = (25, 75)
# Of the normal distribution, for an interval of 95 %.
_Z = 1.959964


@dataclass(frozen=True, slots=True, eq=False)
class Mode:
    """Samples that are much alike.

    Attributes
    ----------
    name
        After its size among the modes, or a number.
    samples
        Numbers of its samples, from the representative, which is the medoid, outwards.
    of
        How many samples there are in all modes.
    volumes_ml
        Volume of each foreground class in each sample, ``(len(samples), C - 1)``.
    """

    name: str
    samples: tuple[int, ...]
    of: int
    volumes_ml: FloatArray

    @property
    def representative(self) -> int:
        """The sample that is nearest to all others of the mode."""
        return self.samples[0]

    @property
    def frequency(self) -> float:
        """Fraction of all samples."""
        return len(self.samples) / self.of

    def frequency_interval(self) -> tuple[float, float]:
        """Confidence interval of 95 % of the frequency (Wilson 1927)."""
        p, n = self.frequency, self.of
        centre = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
        half = _Z / (1 + _Z**2 / n) * math.sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2))
        return max(centre - half, 0.0), min(centre + half, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class Hypotheses:
    """The modes of a distribution, as its first samples show them.

    Attributes
    ----------
    modes
        The most frequent first.
    distances
        d = 1 - IoU of samples 1 to N, ``(N, N)``.
    silhouette
        Average silhouette width of the modes; None where there is one.
    exact
        Whether every voxel was compared, or those of a lattice.
    """

    modes: tuple[Mode, ...]
    distances: FloatArray
    silhouette: float | None
    exact: bool

    @property
    def order(self) -> tuple[int, ...]:
        """Numbers of the samples, mode by mode."""
        return tuple(sample for mode in self.modes for sample in mode.samples)


def find_hypotheses(
    distances: FloatArray,
    volumes_ml: FloatArray,
    n_modes: int | None = None,
    *,
    exact: bool = True,
) -> Hypotheses:
    """Group samples into modes and name them.

    Parameters
    ----------
    distances
        d = 1 - IoU of samples 1 to N, averaged over the foreground classes, ``(N, N)``.
    volumes_ml
        Volume of each foreground class in each sample, ``(N, C - 1)``.
    n_modes
        How many; None: see :func:`~napari_structseg.render.clusters.find_clusters`.
    exact
        Whether every voxel was compared.
    """
    clusters = find_clusters(distances, n_modes)
    groups = []
    for cluster, medoid in enumerate(clusters.medoids):
        members = clusters.members(cluster)
        # The medoid before samples that are exactly like it.
        groups.append(members[np.lexsort((members, members != medoid, distances[medoid, members]))])
    names = mode_names([volumes_ml[group].sum(axis=1) for group in groups])
    modes = tuple(
        Mode(name, tuple(int(index) + 1 for index in group), len(distances), volumes_ml[group])
        for name, group in zip(names, groups, strict=True)
    )
    return Hypotheses(modes, distances, clusters.silhouette, exact)


def mode_names(volumes_ml: Sequence[npt.NDArray[np.floating]]) -> list[str]:
    """Name modes after the size of their foreground, where that tells them apart.

    A mode of which most samples are empty is nothing. The others are named by size if the
    middle halves of their volumes do not overlap, else numbered in the order given.

    Parameters
    ----------
    volumes_ml
        Volume of the foreground in each sample of each mode.
    """
    medians = [float(np.median(volumes)) for volumes in volumes_ml]
    something = [index for index, median in enumerate(medians) if median > 0]
    by_size = sorted(something, key=lambda index: medians[index])
    quartiles = [np.percentile(volumes_ml[index], _QUARTILES) for index in by_size]
    is_told_apart = all(smaller[1] < larger[0] for smaller, larger in itertools.pairwise(quartiles))
    is_only_one = len(volumes_ml) == 1
    names = [NOTHING] * len(volumes_ml)
    sizes = _BY_SIZE.get(len(by_size), ())
    if is_told_apart and sizes and not is_only_one:
        for index, name in zip(by_size, sizes, strict=True):
            names[index] = name
    else:
        for number, index in enumerate(something, start=1):
            names[index] = f"Mode {number}"
    return names
