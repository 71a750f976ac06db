"""Finite sets: the contract, the mean, and how often each member comes."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from napari_structseg.controls import Controls
from napari_structseg.distributions import FiniteSet, LogitDistribution, Noise
from napari_structseg.testing.distributions import (
    LogitDistributionContract,
    Moments,
    MomentsOf,
    per_voxel,
)

SHAPE, N_CLASSES, N_MEMBERS = (3, 2, 4), 3, 4


def log_probabilities(n_members: int = N_MEMBERS, shape: tuple[int, ...] = SHAPE) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    logits = 2 * torch.randn((n_members, N_CLASSES, *shape), generator=generator)
    return logits.log_softmax(dim=1)


def moments_of(members: Tensor, distribution: LogitDistribution) -> MomentsOf:
    """By enumeration: every member is as probable as the others."""
    members = members.double()
    mean = members.exp().mean(dim=0).log()
    probability = torch.full((len(members),), 1 / len(members), dtype=torch.float64)

    def of(controls: Controls) -> Moments:
        offsets = (members - mean).flatten(1) * per_voxel(controls, distribution)
        return Moments.of(offsets, probability)

    return of


class TestFiniteSet(LogitDistributionContract):
    @pytest.fixture
    def distribution(self) -> LogitDistribution:
        return FiniteSet(log_probabilities())

    @pytest.fixture
    def moments(self, distribution: LogitDistribution) -> MomentsOf:
        return moments_of(log_probabilities(), distribution)


class TestTwoDimensions(LogitDistributionContract):
    @pytest.fixture
    def distribution(self) -> LogitDistribution:
        return FiniteSet(log_probabilities(shape=(4, 5)))

    @pytest.fixture
    def moments(self, distribution: LogitDistribution) -> MomentsOf:
        return moments_of(log_probabilities(shape=(4, 5)), distribution)


class TestHalfPrecisionStorage(LogitDistributionContract):
    @pytest.fixture
    def distribution(self) -> LogitDistribution:
        return FiniteSet(log_probabilities().half())

    @pytest.fixture
    def moments(self, distribution: LogitDistribution) -> MomentsOf:
        # What is stored is not quite normalised; the mean is that of normalised members.
        stored = log_probabilities().half().double()
        mean = stored.log_softmax(dim=1).exp().mean(dim=0).log()
        probability = torch.full((N_MEMBERS,), 1 / N_MEMBERS, dtype=torch.float64)

        def of(controls: Controls) -> Moments:
            offsets = (stored - mean).flatten(1) * per_voxel(controls, distribution)
            return Moments.of(offsets, probability)

        return of


class TestCrop(LogitDistributionContract):
    REGION = (slice(1, 3), slice(0, 2), slice(0, 4, 2))

    @pytest.fixture
    def distribution(self) -> LogitDistribution:
        return FiniteSet(log_probabilities()).crop(self.REGION)

    @pytest.fixture
    def moments(self, distribution: LogitDistribution) -> MomentsOf:
        return moments_of(
            log_probabilities()[(slice(None), slice(None), *self.REGION)], distribution
        )


@given(st.integers(1, 12), st.integers(0, 2**31 - 1), st.integers(0, 100))
def test_every_run_of_samples_shows_every_member_once(m: int, seed: int, block: int) -> None:
    drawn = [Noise(seed, block * m + k).member(m) for k in range(1, m + 1)]
    assert sorted(drawn) == list(range(m))


def test_order_of_members_is_as_good_as_random() -> None:
    # Each of 6 orders of 3 members, in 1200 runs: 200 expected, and 80 more are 6 offsets.
    orders = Counter(
        tuple(Noise(seed, 3 * block + k).member(3) for k in (1, 2, 3))
        for seed in range(40)
        for block in range(30)
    )
    assert len(orders) == 6
    assert all(abs(count - 200) < 80 for count in orders.values())


def test_mean_is_the_logarithm_of_the_mean_probability() -> None:
    members = log_probabilities()
    mean = FiniteSet(members).mean()
    torch.testing.assert_close(mean.exp(), members.exp().mean(dim=0))


def test_mean_plus_offset_is_the_member() -> None:
    members = log_probabilities()
    distribution = FiniteSet(members)
    for sample in (1, 2, 3, 4, 9):
        noise = Noise(3, sample)
        logits = distribution.mean() + distribution.offset(noise)
        torch.testing.assert_close(logits, members[noise.member(N_MEMBERS)])


def test_one_member_is_a_point() -> None:
    distribution = FiniteSet(log_probabilities(1))
    assert not distribution.is_stochastic
    assert distribution.offset(Noise(1, 1)).abs().max() < 1e-6


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one member"):
        FiniteSet(torch.zeros((0, 2, 3, 3)))
    with pytest.raises(ValueError, match=r"must be \(M, C, \*spatial\)"):
        FiniteSet(log_probabilities(), torch.zeros((2, *SHAPE)))
