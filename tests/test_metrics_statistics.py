"""Confidence intervals by patient, and paired tests."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from napari_structseg.evaluation.bootstrap import interval, resampled_means, resampled_sums
from napari_structseg.evaluation.paired import bonferroni, paired_test


def by_patient(values: np.ndarray) -> np.ndarray:
    """Sum and number of values of each patient; ``(patients, cases)``."""
    return np.stack([values.sum(axis=1), np.full(len(values), values.shape[1])], axis=1)


def test_interval_of_independent_patients_is_that_of_theory() -> None:
    values = np.random.default_rng(0).normal(5, 2, (400, 1))
    found = interval(resampled_means(by_patient(values)), 400)
    error = values.std() / 20
    assert found.standard_error == pytest.approx(error, rel=0.05)
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)


def test_cases_of_a_patient_are_not_counted_as_independent() -> None:
    of_patients = np.random.default_rng(1).normal(0, 1, (50, 1))
    alike = np.repeat(of_patients, 8, axis=1)
    once = interval(resampled_means(by_patient(of_patients)), 50)
    eight_times = interval(resampled_means(by_patient(alike)), 50)
    assert eight_times == once
    as_if_independent = interval(resampled_means(by_patient(alike.reshape(-1, 1))), 400)
    assert as_if_independent.standard_error < once.standard_error / 2


def test_patients_without_a_value_may_be_drawn_alone() -> None:
    sums = np.array([[0.0, 0], [0, 0], [3, 1]])
    means = resampled_means(sums)
    assert np.isnan(means).any()
    assert np.all(means[~np.isnan(means)] == 3)
    assert interval(means, 3).low == 3


def test_one_patient_gives_no_interval() -> None:
    found = interval(resampled_means(np.array([[4.0, 2]])), 1)
    assert np.isnan([found.low, found.high, found.standard_error]).all()


def test_every_patient_is_drawn_as_often_and_alike_each_time() -> None:
    patients = np.eye(7)
    sums = resampled_sums(patients)
    np.testing.assert_array_equal(sums.sum(axis=1), 7)
    np.testing.assert_allclose(sums.mean(axis=0), 1, atol=0.1)
    np.testing.assert_array_equal(resampled_sums(patients), sums)


def test_paired_test_is_that_of_all_signs() -> None:
    rng = np.random.default_rng(2)
    first = rng.normal(0.3, 1, 8)
    ranks = 1 + np.argsort(np.argsort(np.abs(first)))
    signs = np.array(list(itertools.product((0, 1), repeat=8)))
    sums = signs @ ranks
    observed = ranks[first > 0].sum()
    below, above = (sums <= observed).mean(), (sums >= observed).mean()
    found = paired_test(first, np.zeros(8))
    assert (found.n_pairs, found.n_different) == (8, 8)
    assert found.p == pytest.approx(min(1, 2 * min(below, above)))


def test_patients_without_a_pair_are_left_out() -> None:
    found = paired_test(np.array([1.0, np.nan, 3.0]), np.array([1.0, 2.0, np.nan]))
    assert (found.n_pairs, found.n_different, found.p) == (1, 0, 1.0)


def test_pairs_of_other_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="equal lengths"):
        paired_test(np.zeros(3), np.zeros(1))


def test_bonferroni_never_exceeds_1() -> None:
    assert bonferroni(0.01, 4) == 0.04
    assert bonferroni(0.4, 4) == 1
