"""Metrics of a set of samples against a set of raters."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_structseg.evaluation import (
    best_of_samples,
    better_than_mean,
    diversity,
    energy_distance,
    matched_iou,
    mode_frequencies,
    pairwise_overlap,
    rater_frequency_error,
    total_variation,
)

PROBABILITIES = np.array([8, 7, 6, 5, 4]) / 17


def masks(rng, n: int, size: int = 8) -> np.ndarray:
    """Discs of random radius, now and then none."""
    axis = np.arange(size) - size / 2
    radius = rng.uniform(0, size / 2, n) * (rng.random(n) < 0.8)
    squares = axis[:, None] ** 2 + axis**2
    return (squares[None] < radius[:, None, None] ** 2).astype(np.uint8)


def distance(first: np.ndarray, second: np.ndarray) -> float:
    union = (first | second).sum()
    return 1 - (first & second).sum() / union if union else 0.0


def matrix(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return pairwise_overlap(first, second, 2).distances()


def energy(samples: np.ndarray, raters: np.ndarray, statistic: str = "v") -> float:
    within = matrix(samples, samples), matrix(raters, raters)
    return energy_distance(matrix(samples, raters), *within, statistic)


@given(st.integers(0, 2**16), st.integers(2, 5), st.integers(2, 4))
def test_energy_distance_is_that_of_a_double_loop(seed: int, n: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    samples, raters = masks(rng, n), masks(rng, m)
    across = np.mean([distance(s, y) for s in samples for y in raters])
    for statistic, pairs in (("v", itertools.product), ("u", lambda a, _: _different(a))):
        within = [
            np.mean([distance(a, b) for a, b in pairs(members, members)])
            for members in (samples, raters)
        ]
        wanted = 2 * across - sum(within)
        assert energy(samples, raters, statistic) == pytest.approx(wanted, abs=1e-12)
    assert energy(samples, raters) > -1e-12


def _different(members: np.ndarray):
    return itertools.permutations(members, 2)


def test_equal_sets_have_energy_distance_0() -> None:
    raters = masks(np.random.default_rng(0), 4)
    assert energy(raters, raters) == pytest.approx(0, abs=1e-15)
    repeated = np.tile(raters, (25, 1, 1))
    assert energy(repeated, raters) == pytest.approx(0, abs=1e-12)


def test_empty_sets() -> None:
    empty, drawn = np.zeros((4, 5, 5), np.uint8), np.ones((4, 5, 5), np.uint8)
    assert energy(empty, empty) == 0
    assert energy(empty, drawn) == 2
    assert energy(np.concatenate([empty, drawn]), drawn) == pytest.approx(2 * 0.5 - 0.5)


@pytest.mark.parametrize("n", [2, 5, 16])
def test_statistics_differ_by_the_diversity_over_n(n: int) -> None:
    within = matrix(*[masks(np.random.default_rng(n), n)] * 2)
    unbiased = diversity(within, "u")
    assert unbiased - diversity(within) == pytest.approx(unbiased / n)


def test_a_perfect_model_keeps_a_floor_of_its_diversity_over_n() -> None:
    rng = np.random.default_rng(3)
    raters = masks(rng, 400)
    n = 8
    found = [energy(masks(rng, n), raters) for _ in range(300)]
    floor = diversity(matrix(raters, raters), "u") / n
    assert np.mean(found) == pytest.approx(floor, rel=0.15)


def test_the_unbiased_statistic_needs_two_members() -> None:
    with pytest.raises(ValueError, match="at least two"):
        diversity(np.zeros((1, 1)), "u")


@pytest.mark.parametrize("shape", [(3, 4), (4, 3)])
def test_matrices_that_do_not_fit_are_refused(shape) -> None:
    with pytest.raises(ValueError, match="square"):
        diversity(np.zeros(shape))
    with pytest.raises(ValueError, match="do not fit 4 samples and 4 raters"):
        energy_distance(np.zeros(shape), np.zeros((4, 4)), np.zeros((4, 4)))


@pytest.mark.parametrize(("n", "m"), [(1, 3), (2, 3), (3, 2), (4, 4), (6, 2)])
def test_matching_is_the_best_of_all_pairings(n: int, m: int) -> None:
    rng = np.random.default_rng(10 * n + m)
    distances = rng.random((n, m))
    size = math.lcm(n, m)
    rows, columns = np.repeat(np.arange(n), size // n), np.repeat(np.arange(m), size // m)
    best = min(
        np.mean([distances[rows[i], columns[j]] for i, j in enumerate(order)])
        for order in itertools.permutations(range(size))
    )
    assert matched_iou(distances) == pytest.approx(1 - best)


def test_matching_of_equal_sets_is_1_in_any_order() -> None:
    raters = masks(np.random.default_rng(5), 4)
    assert matched_iou(matrix(raters[::-1].repeat(2, axis=0), raters)) == pytest.approx(1)


def test_matching_of_two_empty_sets_is_1() -> None:
    empty = np.zeros((4, 3, 3), np.uint8)
    assert matched_iou(matrix(empty, empty)) == 1


@given(hnp.arrays(float, (7, 3), elements=st.sampled_from([0.0, 0.25, 0.5])))
def test_ties_are_split(distances) -> None:
    counts = np.zeros(3)
    for row in distances:
        nearest = np.flatnonzero(row == row.min())
        counts[nearest] += 1 / len(nearest)
    np.testing.assert_allclose(mode_frequencies(distances), counts / 7)


def switched_scene(switches: np.ndarray) -> np.ndarray:
    """Five strips, classes 1 to 5, each switched to 6 to 10 or not (Kohl 2018, section 4.2)."""
    strips = np.arange(1, 6) + 5 * switches
    return np.repeat(strips, 2).astype(np.uint8)[None]


def test_frequencies_of_the_32_modes_of_switched_classes_are_found() -> None:
    switches = np.array(list(itertools.product((0, 1), repeat=5)))
    modes = np.stack([switched_scene(one) for one in switches])
    truth = np.prod(np.where(switches, PROBABILITIES, 1 - PROBABILITIES), axis=1)
    assert (truth.max(), truth.min()) == pytest.approx((0.10877, 0.00473), abs=1e-5)
    rng = np.random.default_rng(0)
    drawn = rng.choice(32, 20_000, p=truth)
    distances = pairwise_overlap(modes, modes, 11).distances("ignore")[drawn]
    found = mode_frequencies(distances)
    np.testing.assert_allclose(found, np.bincount(drawn, minlength=32) / len(drawn))
    assert total_variation(found, truth) < 0.02


def test_an_absent_class_does_not_favour_the_mode_without_its_switch() -> None:
    switches = np.array(list(itertools.product((0, 1), repeat=5)))
    modes = np.stack([switched_scene(one) for one in switches])
    # The last strip does not exist in this image.
    modes[..., -2:] = 0
    distances = pairwise_overlap(modes, modes, 11).distances("ignore")
    np.testing.assert_allclose(mode_frequencies(distances), np.full(32, 1 / 32))


def test_frequencies_of_raters_who_agree_count_once() -> None:
    small, large = np.zeros((2, 6, 6), np.uint8)
    small[2:4, 2:4] = large[1:5, 1:5] = 1
    raters = np.stack([small, small, small, large])
    fair = np.stack([small] * 6 + [large] * 2)
    within = matrix(raters, raters)
    assert rater_frequency_error(matrix(fair, raters), within) == pytest.approx(0)
    only_small = np.stack([small] * 8)
    assert rater_frequency_error(matrix(only_small, raters), within) == pytest.approx(0.25)


def test_samples_beside_the_mean() -> None:
    dice = np.array([[0.2, 0.9], [0.5, 0.1], [0.8, 0.6], [0.4, 0.6]])
    np.testing.assert_array_equal(best_of_samples(dice), [0.8, 0.9])
    np.testing.assert_array_equal(better_than_mean(dice, np.array([0.4, 0.6])), [0.5, 0.25])
