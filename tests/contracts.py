"""What every distribution over logits has to fulfil: suites to inherit.

A kind of distribution subclasses :class:`LogitDistributionContract` and gives its own
``distribution`` fixture, together with ``covariance``: the dense oracle.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_structseg.controls import Controls
from napari_structseg.distributions import LogitDistribution, Noise, region_shape
from napari_structseg.inference.rendering import combine

N_MOMENT_SAMPLES = 4000


class LogitDistributionContract:
    """Inherit, and give the fixtures ``distribution`` and ``covariance``."""

    @pytest.fixture
    def distribution(self) -> LogitDistribution:
        raise NotImplementedError

    @pytest.fixture
    def covariance(self, distribution: LogitDistribution) -> Tensor:
        """Covariance of the flattened logits, class-major, ``(C*S, C*S)``, float64."""
        raise NotImplementedError

    def test_fulfils_the_protocol(self, distribution: LogitDistribution) -> None:
        assert isinstance(distribution, LogitDistribution)
        mean = distribution.mean()
        assert mean.shape == (distribution.n_classes, *distribution.spatial_shape)
        assert mean.dtype == torch.float32

    def test_deviation_is_frozen(self, distribution: LogitDistribution) -> None:
        first = distribution.deviation(Noise(3, 1))
        assert torch.equal(first, distribution.deviation(Noise(3, 1)))
        assert first.dtype == torch.float32
        if distribution.is_stochastic:
            assert not torch.equal(first, distribution.deviation(Noise(3, 2)))
            assert not torch.equal(first, distribution.deviation(Noise(4, 1)))
        else:
            assert not first.any()

    def test_any_region_is_that_region_of_the_whole(self, distribution: LogitDistribution) -> None:
        shape = distribution.spatial_shape
        options = [
            [slice(0, size), slice(size // 2, size // 2 + 1), slice(1, size), slice(0, size, 2)]
            for size in shape
        ]
        mean, deviation = distribution.mean(), distribution.deviation(Noise(1, 1))
        for region in itertools.product(*options):
            index = (slice(None), *region)
            part = distribution.deviation(Noise(1, 1), region)
            assert part.shape == (distribution.n_classes, *region_shape(shape, region))
            torch.testing.assert_close(part, deviation[index])
            assert torch.equal(distribution.mean(region), mean[index])

    def test_a_crop_keeps_the_noise_of_the_whole(self, distribution: LogitDistribution) -> None:
        region = tuple(slice(size // 3, size, 2) for size in distribution.spatial_shape)
        inner = tuple(slice(0, 1) for _ in region)
        index = (slice(None), *region)
        crop = distribution.crop(region)
        noise = Noise(9, 4)
        whole = distribution.deviation(noise)[index]
        assert torch.equal(crop.mean(), distribution.mean()[index])
        torch.testing.assert_close(crop.deviation(noise), whole)
        again = crop.crop(inner).deviation(noise)
        torch.testing.assert_close(again, whole[(slice(None), *inner)])

    def test_several_deviations_are_the_single_ones(self, distribution: LogitDistribution) -> None:
        noises = [Noise(2, sample) for sample in (1, 2, 5)]
        together = distribution.deviations(noises)
        for row, noise in zip(together, noises, strict=True):
            torch.testing.assert_close(row, distribution.deviation(noise))

    def test_moments_are_those_of_the_dense_oracle(
        self, distribution: LogitDistribution, covariance: Tensor
    ) -> None:
        noises = [Noise(11, sample) for sample in range(1, N_MOMENT_SAMPLES + 1)]
        samples = distribution.deviations(noises).flatten(1).double()
        scale = covariance.diagonal().max().item() or 1.0
        # Five standard errors of a mean, and of a product of two normals.
        tolerance = 5 / math.sqrt(N_MOMENT_SAMPLES)
        assert samples.mean(dim=0).abs().max() <= tolerance * math.sqrt(scale) + 1e-12
        empirical = samples.T @ samples / len(samples)
        assert (empirical - covariance).abs().max() <= tolerance * math.sqrt(2) * scale + 1e-12

    @pytest.mark.parametrize("temperature", [0.0, 0.7, 2.0])
    def test_scaled_covariance_is_s_sigma_s(
        self, distribution: LogitDistribution, covariance: Tensor, temperature: float
    ) -> None:
        n_classes = distribution.n_classes
        scales = tuple(np.linspace(-2, 3, n_classes).tolist())
        weights = Controls(temperature=temperature, class_scale=scales).weights(n_classes)
        mean, deviation = distribution.mean(), distribution.deviation(Noise(5, 1))
        shown = combine(mean, deviation, weights) - mean
        n_voxels = math.prod(distribution.spatial_shape)
        s = torch.tensor(weights, dtype=torch.float64).repeat_interleave(n_voxels)
        expected = s * deviation.flatten().double()
        torch.testing.assert_close(shown.flatten().double(), expected, atol=2e-6, rtol=1e-5)
        scaled = s[:, None] * covariance * s[None]
        eigenvalues = torch.linalg.eigvalsh(scaled)
        assert eigenvalues.min() >= -1e-9 * max(1.0, eigenvalues.max().item())
