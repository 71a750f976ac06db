"""Slices of a 2-D model as a distribution over a volume."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from napari_structseg.controls import Controls
from napari_structseg.distributions import (
    Combination,
    FiniteSet,
    LatentDecoder,
    LatentNormal,
    LogitDistribution,
    LowRankNormal,
    Noise,
    PointLogits,
    SliceStack,
)
from napari_structseg.testing.distributions import (
    LogitDistributionContract,
    Moments,
    MomentsOf,
    per_voxel,
)

PLANE = (4, 3)


def decoder(seed: int) -> LatentDecoder:
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    # What decodes is the model's; features and prior are the slice's.
    own = torch.Generator().manual_seed(0)

    def shared(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=own)

    combination = Combination(shared(5, 2), shared(5, 5), shared(5), shared(3, 5), shared(3))
    return LatentDecoder(drawn(5, *PLANE), combination, LatentNormal(drawn(2), drawn(2).exp()))


def normal(seed: int) -> LowRankNormal:
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn((2, *PLANE), generator=generator)
    factor = torch.randn((2, 2, *PLANE), generator=generator)
    return LowRankNormal(mean, factor, torch.rand((2, *PLANE), generator=generator) + 0.1)


class TestMembers(LogitDistributionContract):
    MEMBERS = torch.randn((3, 3, 2, *PLANE), generator=torch.Generator().manual_seed(5))

    @pytest.fixture
    def distribution(self) -> LogitDistribution:
        return SliceStack([FiniteSet(one.log_softmax(dim=1)) for one in self.MEMBERS], 0)

    @pytest.fixture
    def moments(self, distribution: LogitDistribution) -> MomentsOf:
        def of(controls: Controls) -> Moments:
            # A sample is the same member in every slice.
            every = distribution.offsets([Noise(0, sample) for sample in (1, 2, 3)])
            every = every.flatten(1).double() * per_voxel(controls, distribution)
            return Moments.of(every, torch.full((3,), 1 / 3, dtype=torch.float64))

        return of


class TestPoints(LogitDistributionContract):
    @pytest.fixture
    def distribution(self) -> LogitDistribution:
        means = torch.randn((3, 2, *PLANE), generator=torch.Generator().manual_seed(6))
        return SliceStack([PointLogits(mean) for mean in means], 1)

    @pytest.fixture
    def moments(self, distribution: LogitDistribution) -> MomentsOf:
        def of(controls: Controls) -> Moments:
            zeros = torch.zeros((1, distribution.mean().numel()), dtype=torch.float64)
            return Moments.of(zeros, torch.ones(1, dtype=torch.float64))

        return of


@pytest.mark.parametrize(("axis", "make"), [*itertools.product((0, 1, 2), (decoder, normal))])
def test_every_slice_is_its_own_distribution_with_the_same_noise(axis: int, make) -> None:
    slices = [make(seed) for seed in range(3)]
    stack = SliceStack(slices, axis)
    assert stack.spatial_shape[axis] == 3
    for index, one in enumerate(slices):
        region = tuple(
            slice(index, index + 1) if other == axis else slice(None) for other in range(3)
        )
        assert torch.equal(stack.mean(region).squeeze(1 + axis), one.mean())
        drawn = stack.offset(Noise(3, 2), region).squeeze(1 + axis)
        torch.testing.assert_close(drawn, one.offset(Noise(3, 2)))


def test_a_position_is_in_standard_deviations_of_every_slices_own_prior() -> None:
    slices = [decoder(seed) for seed in range(2)]
    noise = Noise(1, 1, position=(1.5, -0.5))
    drawn = SliceStack(slices, 0).offset(noise)
    for part, one in zip(drawn.unbind(1), slices, strict=True):
        z = one.latent_mean + one.latent_sigma * torch.tensor([1.5, -0.5])
        torch.testing.assert_close(part, one.decode(z) - one.mean())


def test_directions_are_those_of_all_slices_together() -> None:
    same = SliceStack([decoder(1), decoder(1)], 0).directions()
    for found, expected in zip(same, decoder(1).directions(), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    _, strength = SliceStack([decoder(1), decoder(2)], 0).directions()
    power = [decoder(seed).directions()[1].square().sum() for seed in (1, 2)]
    np.testing.assert_allclose(strength.square().sum(), sum(power) / 2, rtol=1e-4)
    with pytest.raises(TypeError, match="no latent space"):
        SliceStack([normal(1)], 0).directions()


@pytest.mark.parametrize("slices", [[], [decoder(1), normal(1)]])
def test_slices_that_do_not_go_together(slices: list) -> None:
    with pytest.raises(ValueError, match="same size and classes"):
        SliceStack(slices, 0)
