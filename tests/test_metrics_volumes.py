"""Volumes of samples as a distribution: interval, coverage, width, CRPS; and the worst samples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_structseg.evaluation import (
    covered,
    crps,
    relative_width,
    volume_interval,
    worst_samples,
)
from napari_structseg.evaluation.volumes import voxel_volume

VOLUMES = st.floats(0, 50, allow_nan=False)


def integral(volumes: np.ndarray, truth: float) -> float:
    """The CRPS by its definition: the integral of (F - step)^2, exact between its corners."""
    corners = np.sort(np.append(volumes, truth))
    below = [(volumes <= corner).mean() - (corner >= truth) for corner in corners[:-1]]
    return float(np.square(below) @ np.diff(corners))


@given(hnp.arrays(float, st.integers(1, 9), elements=VOLUMES), VOLUMES)
def test_crps_is_the_integral_that_defines_it(volumes: np.ndarray, truth: float) -> None:
    found = crps(volumes, np.array([truth]))
    assert found == pytest.approx(integral(volumes, truth), abs=1e-9)


def test_crps_by_hand() -> None:
    # F is 0, 1/3, 2/3, 1 with steps at 1, 2 and 6. Truth 2: 1/9 from 1 to 2, and 1/9 from 2 to 6.
    np.testing.assert_allclose(crps(np.array([6.0, 1.0, 2.0]), np.array([2.0])), 5 / 9)
    # A single sample: the absolute error.
    np.testing.assert_allclose(crps(np.array([3.0]), np.array([5.0, 3.0])), [2, 0])


def test_crps_is_least_for_the_distribution_that_the_truth_is_drawn_from() -> None:
    rng = np.random.default_rng(0)
    truth, volumes = rng.normal(100, 10, 2000), rng.normal(100, 10, 200)
    scores = [crps(100 + scale * (volumes - 100), truth).mean() for scale in (0.4, 1.0, 2.5)]
    assert scores[1] < min(scores[0], scores[2])


def test_interval_coverage_and_width_by_hand() -> None:
    volumes = np.arange(101.0)[::-1]
    np.testing.assert_allclose(volume_interval(volumes), [5, 95])
    truth = np.array([4.9, 5.0, 50.0, 95.0, 95.1, 0.0])
    np.testing.assert_array_equal(covered(volumes, truth), [0, 1, 1, 1, 0, 0])
    np.testing.assert_allclose(
        relative_width(volumes, truth), [90 / 4.9, 18, 1.8, 90 / 95, 90 / 95.1, np.nan]
    )


@pytest.mark.parametrize(("n", "n_worst"), [(1, 1), (19, 1), (20, 1), (21, 2), (60, 3), (100, 5)])
def test_the_worst_samples_are_one_in_twenty(n: int, n_worst: int) -> None:
    dice = np.random.default_rng(n).permutation(np.arange(n) / n)
    found = worst_samples(np.stack([dice, dice[::-1] / 2], axis=1))
    wanted = np.mean(np.arange(n_worst) / n)
    np.testing.assert_allclose(found, [wanted, wanted / 2])


def test_what_a_voxel_counts() -> None:
    assert voxel_volume((2.0, 1.0, 0.5), "mm") == (pytest.approx(1e-3), "mL")
    assert voxel_volume((2.0, 0.25), "mm") == (0.5, "mm²")
    assert voxel_volume((1.0, 1.0, 1.0), "pixels") == (1.0, "voxels")
    assert voxel_volume((1.0, 1.0), "pixels") == (1.0, "pixels")
