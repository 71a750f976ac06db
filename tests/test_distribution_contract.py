"""Each kind of distribution against the contract, with a dense Gaussian as oracle."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import LowRankMultivariateNormal

from contracts import LogitDistributionContract
from napari_structseg.distributions import LogitDistribution, LowRankNormal, Noise, PointLogits

SHAPE = (3, 2, 4)
N_CLASSES, RANK = 3, 2


def parameters(rank: int = RANK, shape: tuple[int, ...] = SHAPE) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(17)
    mean = torch.randn((N_CLASSES, *shape), generator=generator)
    factor = torch.randn((rank, N_CLASSES, *shape), generator=generator)
    diagonal = torch.rand((N_CLASSES, *shape), generator=generator) + 0.1
    return mean, factor, diagonal


def dense(factor: Tensor, diagonal: Tensor) -> Tensor:
    p = factor.flatten(1).double()
    return p.T @ p + torch.diag(diagonal.flatten().double())


class TestPoint(LogitDistributionContract):
    @pytest.fixture
    def distribution(self) -> LogitDistribution:
        return PointLogits(parameters()[0])

    @pytest.fixture
    def covariance(self, distribution: LogitDistribution) -> Tensor:
        size = N_CLASSES * 24
        return torch.zeros((size, size), dtype=torch.float64)


class TestLowRank(LogitDistributionContract):
    @pytest.fixture
    def distribution(self) -> LogitDistribution:
        return LowRankNormal(*parameters())

    @pytest.fixture
    def covariance(self, distribution: LogitDistribution) -> Tensor:
        return dense(*parameters()[1:])

    def test_covariance_is_that_of_torch(self, covariance: Tensor) -> None:
        mean, factor, diagonal = (part.double() for part in parameters())
        peer = LowRankMultivariateNormal(
            mean.flatten(), factor.flatten(1).T.contiguous(), diagonal.flatten()
        )
        torch.testing.assert_close(peer.covariance_matrix, covariance)

    def test_deviation_is_linear_in_the_noise(self) -> None:
        mean, factor, diagonal = parameters()
        noise = Noise(3, 7)
        eps = noise.voxels(N_CLASSES, SHAPE)
        expected = torch.einsum("r,rczyx->czyx", noise.factors(RANK), factor)
        expected = expected + diagonal.sqrt() * eps
        deviation = LowRankNormal(mean, factor, diagonal).deviation(noise)
        torch.testing.assert_close(deviation, expected)


class TestDiagonalOnly(LogitDistributionContract):
    @pytest.fixture
    def distribution(self) -> LogitDistribution:
        return LowRankNormal(*parameters(rank=0))

    @pytest.fixture
    def covariance(self, distribution: LogitDistribution) -> Tensor:
        return torch.diag(parameters(rank=0)[2].flatten().double())


class TestTwoDimensions(LogitDistributionContract):
    @pytest.fixture
    def distribution(self) -> LogitDistribution:
        return LowRankNormal(*parameters(shape=(4, 5)))

    @pytest.fixture
    def covariance(self, distribution: LogitDistribution) -> Tensor:
        return dense(*parameters(shape=(4, 5))[1:])


class TestHalfPrecisionStorage(LogitDistributionContract):
    @pytest.fixture
    def distribution(self) -> LogitDistribution:
        mean, factor, diagonal = (part.half() for part in parameters())
        return LowRankNormal(mean, factor, diagonal)

    @pytest.fixture
    def covariance(self, distribution: LogitDistribution) -> Tensor:
        _, factor, diagonal = (part.half() for part in parameters())
        return dense(factor, diagonal)


class TestCrop(LogitDistributionContract):
    REGION = (slice(1, 3), slice(0, 2), slice(0, 4, 2))

    @pytest.fixture
    def distribution(self) -> LogitDistribution:
        return LowRankNormal(*parameters()).crop(self.REGION)

    @pytest.fixture
    def covariance(self, distribution: LogitDistribution) -> Tensor:
        _, factor, diagonal = parameters()
        return dense(
            factor[(slice(None), slice(None), *self.REGION)], diagonal[(slice(None), *self.REGION)]
        )


def test_shapes_that_do_not_fit_are_refused() -> None:
    mean, factor, diagonal = parameters()
    with pytest.raises(ValueError, match="must be"):
        LowRankNormal(mean, factor[:, :2], diagonal)
    with pytest.raises(ValueError, match="is not"):
        LowRankNormal(mean, factor, diagonal, grid_shape=(9, 9, 9))
