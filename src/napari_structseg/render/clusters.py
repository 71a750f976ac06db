"""Clusters of things of which only the distances are known: k-medoids and the silhouette."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.intp]

# More than anyone keeps apart.
MAX_CLUSTERS = 6
# Kaufman and Rousseeuw 1990, Table 4: up to here no substantial structure has been found.
LEAST_SILHOUETTE = 0.25
# More clusters must be better by more than this: samples that are equal by chance should not
# become a cluster of their own.
WORTH_ONE_MORE = 0.05
# What sums of distances may differ by that are equal.
_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Clusters:
    """A partition, each cluster around the one of its members that is nearest to all of it.

    Attributes
    ----------
    medoids
        One index for each cluster, the largest cluster first.
    assignment
        Cluster of each of N, ``(N,)``.
    silhouette
        Average silhouette width, -1 to 1; None with one cluster.
    """

    medoids: tuple[int, ...]
    assignment: IndexArray
    silhouette: float | None

    def members(self, cluster: int) -> IndexArray:
        """Indices in a cluster, ascending."""
        return np.flatnonzero(self.assignment == cluster)


def find_clusters(distances: FloatArray, n_clusters: int | None = None) -> Clusters:
    """Cluster by distance.

    Parameters
    ----------
    distances
        Symmetric, zero on the diagonal, ``(N, N)``.
    n_clusters
        How many; there are never more than there are different things. None: the least number
        whose average silhouette is within :data:`WORTH_ONE_MORE` of the largest of 2 to
        :data:`MAX_CLUSTERS` clusters, or one cluster if that is not above
        :data:`LEAST_SILHOUETTE`.

    Raises
    ------
    ValueError
        If the distances are not a square matrix, or fewer than one cluster is wanted.
    """
    if distances.ndim != 2 or distances.shape[0] != distances.shape[1] or not len(distances):
        raise ValueError(f"distances must be a square matrix, not {distances.shape}")
    if n_clusters is not None and n_clusters < 1:
        raise ValueError(f"there must be at least one cluster, not {n_clusters}")
    n_different = _count_different(distances)
    if n_clusters is not None:
        return _partition(distances, min(n_clusters, n_different))
    # With as many clusters as things each is its own, and its silhouette says nothing.
    most = min(MAX_CLUSTERS, n_different, len(distances) - 1)
    several = [_partition(distances, number) for number in range(2, most + 1)]
    best = max((one.silhouette or 0.0 for one in several), default=0.0)
    if best <= LEAST_SILHOUETTE:
        return _partition(distances, 1)
    return next(one for one in several if (one.silhouette or 0.0) >= best - WORTH_ONE_MORE)


def k_medoids(distances: FloatArray, n_clusters: int) -> list[int]:
    """Indices such that the distances of all to the nearest of them have a small sum.

    Partitioning around medoids (Kaufman and Rousseeuw, *Finding Groups in Data*, 1990,
    chapter 2): medoids are added one by one, each the best, then exchanged one by one as long as
    that lowers the sum. The result depends on the distances alone.

    Parameters
    ----------
    distances
        ``(N, N)``.
    n_clusters
        From 1 to N.
    """
    medoids = [int(distances.sum(axis=1).argmin())]
    while len(medoids) < n_clusters:
        nearest = distances[:, medoids].min(axis=1)
        sums = np.minimum(nearest, distances).sum(axis=1)
        sums[medoids] = np.inf
        medoids.append(int(sums.argmin()))
    total = distances[:, medoids].min(axis=1).sum()
    while True:
        sums = _sums_after_exchange(distances, medoids)
        leaving, entering = divmod(int(sums.argmin()), len(distances))
        if sums[leaving, entering] >= total - _ROUNDING:
            return medoids
        total = sums[leaving, entering]
        medoids[leaving] = entering


def silhouettes(distances: FloatArray, assignment: IndexArray) -> FloatArray:
    """How much nearer each is to its own cluster than to the next one, ``(N,)``.

    s = (b - a) / max(a, b), where a is the average distance to the others in its cluster and b
    that to the nearest other cluster; 0 for one that is alone (Rousseeuw 1987).

    Parameters
    ----------
    distances
        ``(N, N)``.
    assignment
        Cluster of each, from 0, none of them empty, at least two, ``(N,)``.
    """
    is_member = np.eye(int(assignment.max()) + 1)[assignment]
    sizes = is_member.sum(axis=0)
    sums = distances @ is_member
    own = np.arange(len(distances)), assignment
    inside = sums[own] / np.maximum(sizes[assignment] - 1, 1)
    averages = sums / sizes
    averages[own] = np.inf
    outside = averages.min(axis=1)
    larger = np.maximum(inside, outside)
    widths: FloatArray = np.divide(
        outside - inside, larger, out=np.zeros_like(larger), where=larger > 0
    )
    widths[sizes[assignment] == 1] = 0
    return widths


def _sums_after_exchange(distances: FloatArray, medoids: list[int]) -> FloatArray:
    """Sum of the distances to the nearest medoid with one replaced: (k, N), by which, by what."""
    to_medoids = distances[:, medoids]
    sums = np.empty((len(medoids), len(distances)))
    for leaving in range(len(medoids)):
        others = np.delete(to_medoids, leaving, axis=1).min(axis=1, initial=np.inf)
        sums[leaving] = np.minimum(others[:, np.newaxis], distances).sum(axis=0)
    return sums


def _partition(distances: FloatArray, n_clusters: int) -> Clusters:
    medoids = k_medoids(distances, n_clusters)
    nearest = distances[:, medoids].argmin(axis=1)
    sizes = np.bincount(nearest, minlength=n_clusters)
    order = sorted(range(n_clusters), key=lambda cluster: (-sizes[cluster], medoids[cluster]))
    assignment = np.argsort(order)[nearest]
    width = None if n_clusters == 1 else float(silhouettes(distances, assignment).mean())
    return Clusters(tuple(medoids[cluster] for cluster in order), assignment, width)


def _count_different(distances: FloatArray) -> int:
    """How many are not at distance 0 from one before them."""
    return int((np.tril(distances <= 0, -1).sum(axis=1) == 0).sum())
