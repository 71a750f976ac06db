"""Modes of samples: known ones are recovered, and every step against its definition."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import silhouette_samples

from napari_structseg.render.clusters import (
    LEAST_SILHOUETTE,
    MAX_CLUSTERS,
    find_clusters,
    k_medoids,
    silhouettes,
)
from napari_structseg.render.hypotheses import NOTHING, Mode, find_hypotheses, mode_names


def distances_of(points: np.ndarray) -> np.ndarray:
    return np.linalg.norm(points[:, None] - points[None], axis=-1)


def sum_to_nearest(distances: np.ndarray, medoids) -> float:
    return float(distances[:, list(medoids)].min(axis=1).sum())


points = st.integers(0, 2**32 - 1).map(
    lambda seed: np.random.default_rng(seed).integers(0, 12, (9, 2)).astype(float)
)


@given(points, st.integers(2, 4))
def test_k_medoids_against_enumeration(points, n_clusters) -> None:
    distances = distances_of(points)
    medoids = k_medoids(distances, n_clusters)
    assert len(set(medoids)) == n_clusters
    found = sum_to_nearest(distances, medoids)
    sums = [
        sum_to_nearest(distances, chosen)
        for chosen in itertools.combinations(range(len(points)), n_clusters)
    ]
    # The best of all is not promised; that no exchange of one medoid is better is.
    assert min(sums) - 1e-9 <= found
    for leaving, entering in itertools.product(range(n_clusters), range(len(points))):
        exchanged = [*medoids[:leaving], entering, *medoids[leaving + 1 :]]
        assert sum_to_nearest(distances, exchanged) >= found - 1e-6


@pytest.mark.parametrize("seed", range(10))
def test_k_medoids_finds_the_best_where_clusters_are_apart(seed) -> None:
    rng = np.random.default_rng(seed)
    distances = distances_of(np.concatenate([rng.normal(10 * c, 1, (4, 2)) for c in range(3)]))
    best = min(itertools.combinations(range(12), 3), key=lambda one: sum_to_nearest(distances, one))
    assert sorted(k_medoids(distances, 3)) == list(best)


@given(points, st.integers(2, 4), st.integers(0, 2**32 - 1))
def test_silhouettes_against_scikit_learn(points, n_clusters, seed) -> None:
    distances = distances_of(points)
    drawn = np.random.default_rng(seed).integers(0, n_clusters, len(points) - n_clusters)
    assignment = np.concatenate([np.arange(n_clusters), drawn])
    expected = silhouette_samples(distances, assignment, metric="precomputed")
    assert np.allclose(silhouettes(distances, assignment), expected)


@pytest.mark.parametrize("number", range(2, MAX_CLUSTERS + 1))
def test_the_number_of_clusters_is_found(number) -> None:
    rng = np.random.default_rng(number)
    sizes = np.arange(3, 3 + number)
    true = rng.permutation(np.repeat(np.arange(number), sizes))
    angle = 2 * np.pi * true / number
    centres = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    clusters = find_clusters(distances_of(centres + rng.normal(0, 0.03, centres.shape)))
    assert len(clusters.medoids) == number
    assert clusters.silhouette > LEAST_SILHOUETTE
    assert [len(clusters.members(one)) for one in range(number)] == sorted(sizes, reverse=True)
    for cluster in range(number):
        members = clusters.members(cluster)
        assert len(set(true[members])) == 1
        assert clusters.medoids[cluster] in members


def test_things_that_differ_gradually_are_one_cluster() -> None:
    # All equally far from each other.
    clusters = find_clusters(1 - np.eye(20))
    assert len(clusters.medoids) == 1
    assert clusters.silhouette is None


def test_equal_things_are_one_cluster_however_many_are_wanted() -> None:
    for wanted in (None, 1, 4):
        clusters = find_clusters(np.zeros((5, 5)), wanted)
        assert clusters.medoids == (0,)
        assert not clusters.assignment.any()


def test_no_more_clusters_than_different_things() -> None:
    distances = distances_of(np.array([[0.0], [0], [1], [1], [5]]))
    clusters = find_clusters(distances, 6)
    assert sorted(len(clusters.members(cluster)) for cluster in range(3)) == [1, 2, 2]


@pytest.mark.parametrize("n", [1, 2])
def test_very_few_things(n) -> None:
    assert len(find_clusters(1 - np.eye(n)).medoids) == 1


@pytest.mark.parametrize(
    ("distances", "wanted"), [(np.zeros((0, 0)), None), (np.zeros((2, 3)), 1), (np.eye(2), 0)]
)
def test_what_cannot_be_clustered(distances, wanted) -> None:
    with pytest.raises(ValueError, match="must be"):
        find_clusters(distances, wanted)


def test_modes_and_their_frequencies() -> None:
    # Disks of radius 0, small and large around one centre, with a little jitter.
    rng = np.random.default_rng(5)
    kinds = rng.permutation(np.repeat([0, 1, 2], [37, 18, 5]))
    areas = np.where(kinds == 0, 0, np.where(kinds == 1, 20, 100) + rng.integers(0, 4, 60))
    smaller = np.minimum(areas[:, None], areas[None])
    larger = np.maximum(areas[:, None], areas[None])
    distances = 1 - np.divide(smaller, larger, out=np.ones((60, 60)), where=larger > 0)
    found = find_hypotheses(distances, areas[:, None] / 1000.0)
    assert [mode.name for mode in found.modes] == [NOTHING, "Small", "Large"]
    assert [mode.frequency for mode in found.modes] == [37 / 60, 18 / 60, 5 / 60]
    for kind, mode in enumerate(found.modes):
        assert sorted(mode.samples) == [int(n) + 1 for n in np.flatnonzero(kinds == kind)]
        inside = distances[np.ix_(*[np.array(mode.samples) - 1] * 2)]
        assert inside[0].sum() == inside.sum(axis=1).min()
        assert (np.diff(inside[0]) >= 0).all()
        assert np.array_equal(mode.volumes_ml[:, 0] * 1000, areas[np.array(mode.samples) - 1])
    assert sorted(found.order) == list(range(1, 61))
    assert found.order[: len(found.modes[0].samples)] == found.modes[0].samples
    assert found.exact

    four = find_hypotheses(distances, areas[:, None] / 1000.0, 4)
    assert len(four.modes) == 4


def test_the_interval_of_a_frequency() -> None:
    volumes = np.zeros((8, 1))
    mode = Mode("Small", tuple(range(1, 9)), 10, volumes)
    # Table of Wilson's interval for 8 of 10.
    assert mode.frequency_interval() == pytest.approx((0.4902, 0.9433), abs=1e-4)
    every = Mode("Small", tuple(range(1, 9)), 8, volumes)
    assert every.frequency_interval() == (pytest.approx(0.6756, abs=1e-4), 1.0)


@pytest.mark.parametrize(
    ("volumes", "names"),
    [
        ([[0, 0, 1]], [NOTHING]),
        ([[3, 4]], ["Mode 1"]),
        ([[3, 4], [0, 0]], ["Something", NOTHING]),
        ([[9, 8], [3, 4]], ["Large", "Small"]),
        ([[9, 8], [0], [3, 4], [20]], ["Medium", NOTHING, "Small", "Large"]),
        ([[1], [2], [3], [4]], ["Smallest", "Small", "Large", "Largest"]),
        ([[3, 9, 5], [4, 6, 7], [0]], ["Mode 1", "Mode 2", NOTHING]),
        ([[6], [5], [4], [3], [2], [1]], [f"Mode {number}" for number in range(1, 7)]),
    ],
)
def test_names(volumes, names) -> None:
    assert mode_names([np.array(one, float) for one in volumes]) == names
