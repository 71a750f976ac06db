"""What every distribution over logits has to fulfil: suites to inherit.

A kind of distribution subclasses :class:`LogitDistributionContract` and gives its own
``distribution`` fixture, together with ``moments``: the dense oracle. A normal subclasses
:class:`NormalContract` and gives its ``covariance``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_structseg.controls import Controls
from napari_structseg.distributions import (
    LogitDistribution,
    Noise,
    SampledDistribution,
    Spread,
    region_shape,
)
from napari_structseg.render.rendering import combine

N_MOMENT_SAMPLES = 1500
FEW = [Noise(2, sample) for sample in (1, 2, 5)]


@dataclass(frozen=True)
class Moments:
    """Moments of the flattened offset under some controls, class-major, float64.

    Attributes
    ----------
    first
        ``(C*S,)``.
    second
        Means of products, ``(C*S, C*S)``.
    spread
        Standard deviations of these products, or more.
    """

    first: Tensor
    second: Tensor
    spread: Tensor

    @classmethod
    def of(cls, offsets: Tensor, probability: Tensor) -> Moments:
        """Moments of offsets ``(N, C*S)`` with these probabilities ``(N,)``."""
        first = probability @ offsets
        second = offsets.T @ (probability[:, None] * offsets)
        squares = offsets.square()
        fourth = squares.T @ (probability[:, None] * squares)
        return cls(first, second, (fourth - second.square()).clamp(min=0).sqrt())


MomentsOf = Callable[[Controls], Moments]


class LogitDistributionContract:
    """Inherit, and give the fixtures ``distribution`` and ``moments``.

    Attributes
    ----------
    mean_is_exact
        Whether any region of the mean is that of the whole to the last bit. Say False where it is
        decoded with matrix products, which round as the number of voxels wants.
    """

    mean_is_exact = True

    @pytest.fixture
    def distribution(self) -> LogitDistribution:
        raise NotImplementedError

    @pytest.fixture
    def moments(self, distribution: LogitDistribution) -> MomentsOf:
        """Moments of the offset, scaled as the controls say."""
        raise NotImplementedError

    def test_fulfils_the_protocol(self, distribution: LogitDistribution) -> None:
        assert isinstance(distribution, LogitDistribution)
        mean = distribution.mean()
        assert mean.shape == (distribution.n_classes, *distribution.spatial_shape)
        assert mean.dtype == torch.float32

    def test_offset_is_frozen(self, distribution: LogitDistribution) -> None:
        first = distribution.offset(Noise(3, 1))
        assert torch.equal(first, distribution.offset(Noise(3, 1)))
        assert first.dtype == torch.float32
        if distribution.is_stochastic:
            assert not torch.equal(first, distribution.offset(Noise(3, 2)))
            assert not torch.equal(first, distribution.offset(Noise(4, 1)))
        else:
            assert not first.any()

    def test_any_region_is_that_region_of_the_whole(self, distribution: LogitDistribution) -> None:
        shape = distribution.spatial_shape
        options = [
            [slice(0, size), slice(size // 2, size // 2 + 1), slice(1, size), slice(0, size, 2)]
            for size in shape
        ]
        mean, offset = distribution.mean(), distribution.offset(Noise(1, 1))
        for region in itertools.product(*options):
            index = (slice(None), *region)
            part = distribution.offset(Noise(1, 1), region)
            assert part.shape == (distribution.n_classes, *region_shape(shape, region))
            torch.testing.assert_close(part, offset[index])
            self._assert_same_mean(distribution.mean(region), mean[index])

    def test_a_crop_keeps_the_noise_of_the_whole(self, distribution: LogitDistribution) -> None:
        region = tuple(slice(size // 3, size, 2) for size in distribution.spatial_shape)
        inner = tuple(slice(0, 1) for _ in region)
        index = (slice(None), *region)
        crop = distribution.crop(region)
        noise = Noise(9, 4)
        whole = distribution.offset(noise)[index]
        self._assert_same_mean(crop.mean(), distribution.mean()[index])
        torch.testing.assert_close(crop.offset(noise), whole)
        again = crop.crop(inner).offset(noise)
        torch.testing.assert_close(again, whole[(slice(None), *inner)])

    def _assert_same_mean(self, part: Tensor, expected: Tensor) -> None:
        if self.mean_is_exact:
            assert torch.equal(part, expected)
        else:
            torch.testing.assert_close(part, expected)

    def test_a_crop_is_calibrated_as_the_whole(self, distribution: LogitDistribution) -> None:
        if not isinstance(distribution, SampledDistribution):
            pytest.skip("it does not draw from itself")
        before = distribution.calibrated
        distribution.calibrated = Spread(1.5, (0.5,) * distribution.n_classes)
        crop = distribution.crop(tuple(slice(0, 1) for _ in distribution.spatial_shape))
        assert isinstance(crop, SampledDistribution)
        assert crop.calibrated == distribution.calibrated
        distribution.calibrated = before

    def test_several_offsets_are_the_single_ones(self, distribution: LogitDistribution) -> None:
        together = distribution.offsets(FEW)
        for row, noise in zip(together, FEW, strict=True):
            torch.testing.assert_close(row, distribution.offset(noise))

    def test_no_offsets_are_an_empty_stack(self, distribution: LogitDistribution) -> None:
        empty = distribution.offsets([])
        assert empty.shape == (0, distribution.n_classes, *distribution.spatial_shape)

    def test_a_crop_is_of_the_same_kind(self, distribution: LogitDistribution) -> None:
        crop = distribution.crop(tuple(slice(0, 1) for _ in distribution.spatial_shape))
        assert isinstance(crop, LogitDistribution)
        assert crop.spatial_shape == (1,) * len(distribution.spatial_shape)
        assert crop.n_classes == distribution.n_classes
        assert crop.is_stochastic == distribution.is_stochastic
        assert crop.device == distribution.device == crop.mean().device

    def test_a_offset_belongs_to_who_asked_for_it(self, distribution: LogitDistribution) -> None:
        mean, offset = distribution.mean().clone(), distribution.offset(Noise(1, 1))
        expected = offset.clone()
        offset.fill_(torch.nan)
        assert torch.equal(distribution.offset(Noise(1, 1)), expected)
        assert torch.equal(distribution.mean(), mean)

    def test_no_other_random_numbers_are_used(self, distribution: LogitDistribution) -> None:
        before = torch.random.get_rng_state()
        distribution.offsets(FEW)
        assert torch.equal(torch.random.get_rng_state(), before)

    def test_scales_act_on_the_offset_alone(self, distribution: LogitDistribution) -> None:
        mean, offset = distribution.mean(), distribution.offset(FEW[0])
        weights = tuple(np.linspace(-2, 3, distribution.n_classes).tolist())
        for label, weight in enumerate(weights):
            shown = combine(mean, offset, weights)[label] - mean[label]
            torch.testing.assert_close(shown, weight * offset[label], atol=2e-6, rtol=1e-5)
        assert torch.equal(combine(mean, offset, (0.0,) * len(weights)), mean)

    def test_moments_are_those_of_the_dense_oracle(
        self, distribution: LogitDistribution, moments: MomentsOf
    ) -> None:
        scales = tuple(np.linspace(-2, 3, distribution.n_classes).tolist())
        for controls in (Controls(), Controls(temperature=0.7, class_scale=scales)):
            noises = [
                controls.tempered(Noise(11, sample), distribution)
                for sample in range(1, N_MOMENT_SAMPLES + 1)
            ]
            samples = distribution.offsets(noises).flatten(1).double()
            scaled = samples * per_voxel(controls, distribution)
            expected = moments(controls)
            # Six standard errors. 1e-6: parameters are float32.
            tolerance = 6 / math.sqrt(N_MOMENT_SAMPLES)
            offsets = expected.second.diagonal().sqrt()
            error = (scaled.mean(dim=0) - expected.first).abs()
            assert (error <= tolerance * offsets + 1e-6).all()
            error = (scaled.T @ scaled / len(scaled) - expected.second).abs()
            assert (error <= tolerance * expected.spread + 1e-6).all()


class NormalContract(LogitDistributionContract):
    """Inherit, and give the fixtures ``distribution`` and ``covariance``."""

    @pytest.fixture
    def covariance(self, distribution: LogitDistribution) -> Tensor:
        """Covariance of the flattened logits, class-major, ``(C*S, C*S)``, float64."""
        raise NotImplementedError

    @pytest.fixture
    def moments(self, distribution: LogitDistribution, covariance: Tensor) -> MomentsOf:
        def of(controls: Controls) -> Moments:
            # Scales S make of the covariance Sigma S Sigma S; correlation at most doubles the
            # variance of a product.
            s = per_voxel(controls, distribution)
            second = s[:, None] * covariance * s
            offsets = second.diagonal().sqrt()
            spread = math.sqrt(2) * offsets[:, None] * offsets
            return Moments(torch.zeros_like(offsets), second, spread)

        return of

    def test_temperature_may_multiply_noise_or_offset(
        self, distribution: LogitDistribution
    ) -> None:
        offset = distribution.offset(Noise(4, 2))
        torch.testing.assert_close(distribution.offset(Noise(4, 2, scale=1.7)), 1.7 * offset)


def per_voxel(controls: Controls, distribution: LogitDistribution) -> Tensor:
    """What each entry of the flattened offset is multiplied with, ``(C*S,)``, float64."""
    s = torch.tensor(controls.weights_of(distribution), dtype=torch.float64)
    s = s.repeat_interleave(math.prod(distribution.spatial_shape))
    return s.to(distribution.device)
