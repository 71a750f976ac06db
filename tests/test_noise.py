"""Noise is a pure function, and looks like independent normal numbers."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from napari_structseg.distributions import Noise, region_shape
from napari_structseg.distributions.noise import mix_signed, mix_unsigned

SHAPE = (24, 30, 40)
GOLDEN_VOXELS = [1.08981, 0.24931, -0.30274, 1.31652]
GOLDEN_FACTORS = [-0.17852, 0.50297, -1.50798]
GOLDEN_FAR_VOXELS = [0.34073, -0.90145, 1.28465]
GOLDEN_CHECKSUM = -758.434


def correlation(first: torch.Tensor, second: torch.Tensor) -> float:
    return float((first.double() * second.double()).mean())


@given(
    starts=st.tuples(*[st.integers(0, size - 1) for size in SHAPE]),
    lengths=st.tuples(*[st.integers(1, 9)] * 3),
    steps=st.tuples(*[st.integers(1, 4)] * 3),
)
def test_a_region_has_the_numbers_of_the_whole(
    starts: tuple[int, ...], lengths: tuple[int, ...], steps: tuple[int, ...]
) -> None:
    region = tuple(
        slice(start, min(start + length, size), step)
        for start, length, step, size in zip(starts, lengths, steps, SHAPE, strict=True)
    )
    noise = Noise(7, 3)
    part = noise.voxels(2, SHAPE, region)
    assert part.shape == (2, *region_shape(SHAPE, region))
    assert torch.equal(part, noise.voxels(2, SHAPE)[(slice(None), *region)])


def test_numbers_are_normal() -> None:
    values = Noise(1, 1).voxels(3, SHAPE).flatten().numpy()
    assert stats.kstest(values, "norm").pvalue > 1e-3
    n = len(values)
    assert abs(values.mean()) < 5 / np.sqrt(n)
    assert abs(values.var() - 1) < 5 * np.sqrt(2 / n)
    assert abs((values.astype(np.float64) ** 4).mean() - 3) < 5 * np.sqrt(96 / n)
    assert np.isfinite(values).all()


@pytest.mark.parametrize("other", [Noise(1, 2), Noise(2, 1), Noise(2**31 - 1, 1)])
def test_samples_and_seeds_are_uncorrelated(other: Noise) -> None:
    first = Noise(1, 1).voxels(2, SHAPE)
    second = other.voxels(2, SHAPE)
    assert abs(correlation(first, second)) < 5 / np.sqrt(first.numel())


def test_classes_and_neighbours_are_uncorrelated() -> None:
    values = Noise(4, 1).voxels(3, SHAPE)
    limit = 5 / np.sqrt(values[0].numel())
    assert abs(correlation(values[0], values[1])) < limit
    assert abs(correlation(values[1], values[2])) < limit
    for axis in (1, 2, 3):
        size = values.shape[axis]
        near = values.narrow(axis, 0, size - 1), values.narrow(axis, 1, size - 1)
        assert abs(correlation(*near)) < limit


LAGS = [2**power for power in range(14)]


def test_voxels_at_powers_of_two_are_independent() -> None:
    """Rows of a hash can repeat themselves: 32 apart here, or one row or slice of the image."""
    n_voxels, n_cells = 1 << 19, 16
    for sample in range(1, 9):
        values = Noise(0, sample).voxels(1, (n_voxels,)).flatten().double()
        cell = (torch.special.ndtr(values) * n_cells).long().clamp(max=n_cells - 1)
        for lag in LAGS:
            pairs = torch.bincount(cell[:-lag] * n_cells + cell[lag:], minlength=n_cells**2)
            expected = (n_voxels - lag) / n_cells**2
            freedom = n_cells**2 - 1
            chi = float(((pairs - expected) ** 2 / expected).sum())
            # With two rounds of mixing, one of these is above 12, and nine are above 4.4.
            assert (chi - freedom) / math.sqrt(2 * freedom) < 4.5, (sample, lag)
            correlation_at_lag = correlation(values[:-lag], values[lag:])
            assert abs(correlation_at_lag) < 5 / math.sqrt(n_voxels), (sample, lag)


def test_factors_are_normal_over_samples_and_apart_from_voxels() -> None:
    factors = torch.stack([Noise(3, sample).factors(8) for sample in range(1, 2001)])
    assert stats.kstest(factors.flatten().numpy(), "norm").pvalue > 1e-3
    covariance = factors.T @ factors / len(factors)
    assert (covariance - torch.eye(8)).abs().max() < 5 * np.sqrt(2 / len(factors))
    assert not torch.equal(Noise(3, 1).factors(8), Noise(3, 1).voxels(1, (1, 8)).flatten())


def splitmix64(value: int) -> int:
    value = (value + 0x9E3779B97F4A7C15) % 2**64
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    value = (value ^ value >> 27) * 0x94D049BB133111EB % 2**64
    return value ^ value >> 31


def reference(noise: Noise, stream: int, counter: int) -> float:
    """One number of a stream by its definition, with integers of any size."""
    key = 0
    for part in (noise.seed, noise.sample, stream):
        key = splitmix64(key ^ part)
    bits = (counter + key) % 2**32
    bits = (bits ^ bits >> 17) * 0xED5AD4BB % 2**32 ^ key >> 32
    bits = (bits ^ bits >> 11) * 0xAC4C1B51 % 2**32
    bits = (bits ^ bits >> 15) * 0x31848BAB % 2**32
    bits ^= bits >> 14
    signed = bits - 2**32 if bits >= 2**31 else bits
    return NormalDist().inv_cdf(((signed + 0.5) / 2**31 + 1) / 2)


def test_reference_mixes_as_published() -> None:
    # The first numbers of the author's own splitmix64.c, started at 0.
    assert splitmix64(0) == 0xE220A8397B1DCDAF
    assert splitmix64(0x9E3779B97F4A7C15) == 0x6E789E6AA1B965F4


@given(
    noise=st.builds(Noise, st.integers(0, 2**31 - 1), st.integers(1, 2**31 - 1)),
    shape=st.tuples(*[st.integers(1, 3000)] * 3),
    label=st.integers(0, 3),
    data=st.data(),
)
def test_numbers_are_what_their_definition_says(
    noise: Noise, shape: tuple[int, ...], label: int, data: st.DataObject
) -> None:
    voxel = [data.draw(st.integers(0, size - 1)) for size in shape]
    region = tuple(slice(position, position + 1) for position in voxel)
    counter = label * math.prod(shape) + int(np.ravel_multi_index(voxel, shape))
    number = noise.voxels(label + 1, shape, region)[label].item()
    assert number == pytest.approx(reference(noise, 0, counter), rel=2e-3, abs=1e-5)
    factors = noise.factors(12).tolist()
    expected = [reference(noise, 1, index) for index in range(12)]
    assert factors == pytest.approx(expected, rel=2e-3, abs=1e-5)


def test_tails_end_where_float32_does() -> None:
    values = torch.cat([Noise(1, s).voxels(4, (500_000,)).flatten() for s in (1, 2, 3)])
    assert 4.8 < values.abs().max() < 5.3
    # Squares of different samples are independent too, not only the numbers.
    squares = [Noise(6, s).voxels(1, (100_000,)).double() ** 2 - 1 for s in (1, 2)]
    assert abs(float((squares[0] * squares[1]).mean())) < 5 * 2 / math.sqrt(100_000)


def test_other_devices_mix_as_the_cpu_does() -> None:
    counters = torch.arange(-(2**31), 2**31, 40_013).to(torch.int32)
    for first, second in ((0, 0), (-5, 2**31 - 1), (2**31 - 1, -(2**31)), (77, -3)):
        ours = mix_unsigned(counters.numpy(), first, second)
        theirs = mix_signed(counters, first, second)
        assert np.array_equal(ours, theirs.numpy())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")
def test_a_gpu_draws_the_same_numbers() -> None:
    ours, theirs = (Noise(7, 1).voxels(2, SHAPE, device=device) for device in ("cpu", "cuda"))
    torch.testing.assert_close(theirs.cpu(), ours)


def test_the_numbers_never_change_between_versions() -> None:
    # Recipes that were saved rest on this. Five digits: logarithms may round differently elsewhere.
    values = Noise(7, 1).voxels(2, (2, 2, 2)).flatten()[:4]
    assert values.tolist() == pytest.approx(GOLDEN_VOXELS, abs=1e-5)
    assert Noise(7, 1).factors(3).tolist() == pytest.approx(GOLDEN_FACTORS, abs=1e-5)
    far = (slice(77, 78), slice(100, 101), slice(50, 53))
    values = Noise(2**31 - 1, 12).voxels(3, (155, 240, 240), far)[2].flatten()
    assert values.tolist() == pytest.approx(GOLDEN_FAR_VOXELS, abs=1e-5)
    # A checksum of 360,000 numbers, each with a weight of its own.
    many = Noise(20, 3).voxels(3, (40, 50, 60)).double().flatten()
    ramp = torch.linspace(-1, 1, many.numel(), dtype=torch.float64)
    assert float((many * ramp).sum()) == pytest.approx(GOLDEN_CHECKSUM, abs=0.01)
