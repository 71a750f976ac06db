"""Point and normal against the contract, with a dense Gaussian as oracle."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import LowRankMultivariateNormal

from napari_structseg.distributions import (
    LogitDistribution,
    LowRankNormal,
    Noise,
    PointLogits,
    Region,
    whole,
)
from napari_structseg.prediction.given import OWN_VARIANCE, fit_normal
from napari_structseg.testing.distributions import NormalContract

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


class TestPoint(NormalContract):
    @pytest.fixture
    def distribution(self) -> LogitDistribution:
        return PointLogits(parameters()[0])

    @pytest.fixture
    def covariance(self, distribution: LogitDistribution) -> Tensor:
        size = N_CLASSES * 24
        return torch.zeros((size, size), dtype=torch.float64)


class TestLowRank(NormalContract):
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

    def test_offset_is_linear_in_the_noise(self) -> None:
        mean, factor, diagonal = parameters()
        noise = Noise(3, 7)
        eps = noise.voxels(N_CLASSES, SHAPE)
        expected = torch.einsum("r,rczyx->czyx", noise.factors(RANK), factor)
        expected = expected + diagonal.sqrt() * eps
        offset = LowRankNormal(mean, factor, diagonal).offset(noise)
        torch.testing.assert_close(offset, expected)


class TestDiagonalOnly(NormalContract):
    @pytest.fixture
    def distribution(self) -> LogitDistribution:
        return LowRankNormal(*parameters(rank=0))

    @pytest.fixture
    def covariance(self, distribution: LogitDistribution) -> Tensor:
        return torch.diag(parameters(rank=0)[2].flatten().double())


class TestTwoDimensions(NormalContract):
    @pytest.fixture
    def distribution(self) -> LogitDistribution:
        return LowRankNormal(*parameters(shape=(4, 5)))

    @pytest.fixture
    def covariance(self, distribution: LogitDistribution) -> Tensor:
        return dense(*parameters(shape=(4, 5))[1:])


class TestHalfPrecisionStorage(NormalContract):
    @pytest.fixture
    def distribution(self) -> LogitDistribution:
        mean, factor, diagonal = (part.half() for part in parameters())
        return LowRankNormal(mean, factor, diagonal)

    @pytest.fixture
    def covariance(self, distribution: LogitDistribution) -> Tensor:
        _, factor, diagonal = (part.half() for part in parameters())
        return dense(factor, diagonal)


class TestDoublePrecisionStorage(NormalContract):
    @pytest.fixture
    def distribution(self) -> LogitDistribution:
        return LowRankNormal(*(part.double() for part in parameters()))

    @pytest.fixture
    def covariance(self, distribution: LogitDistribution) -> Tensor:
        return dense(*parameters()[1:])


class TestCrop(NormalContract):
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


class TestViewsOfOneTensor(NormalContract):
    """How a predictor lays parameters out, here with the axes of the image reversed as well."""

    @pytest.fixture
    def packed(self) -> tuple[Tensor, ...]:
        mean, factor, diagonal = parameters()
        packed = torch.cat([mean, diagonal, factor.flatten(0, 1)]).permute(0, 3, 2, 1)
        means, diagonals = packed[:N_CLASSES], packed[N_CLASSES : 2 * N_CLASSES]
        return means, packed[2 * N_CLASSES :].unflatten(0, (RANK, N_CLASSES)), diagonals

    @pytest.fixture
    def distribution(self, packed: tuple[Tensor, ...]) -> LogitDistribution:
        return LowRankNormal(*packed)

    @pytest.fixture
    def covariance(self, packed: tuple[Tensor, ...]) -> Tensor:
        return dense(*packed[1:])


class TestFittedToMembers(NormalContract):
    """Its diagonal is one number that is seen at every voxel."""

    @pytest.fixture
    def members(self) -> Tensor:
        return torch.stack([*parameters(rank=4)[1]]).log_softmax(dim=1)

    @pytest.fixture
    def distribution(self, members: Tensor) -> LogitDistribution:
        return fit_normal(members.clone())

    @pytest.fixture
    def covariance(self, members: Tensor) -> Tensor:
        return members.flatten(1).T.double().cov() + OWN_VARIANCE * torch.eye(members[0].numel())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")
class TestOnAGpu(NormalContract):
    @pytest.fixture
    def distribution(self) -> LogitDistribution:
        return LowRankNormal(*(part.cuda() for part in parameters()))

    @pytest.fixture
    def covariance(self, distribution: LogitDistribution) -> Tensor:
        return dense(*parameters()[1:]).cuda()

    def test_samples_are_those_of_the_processor(self, distribution: LogitDistribution) -> None:
        ours = LowRankNormal(*parameters()).offset(Noise(3, 7))
        torch.testing.assert_close(distribution.offset(Noise(3, 7)).cpu(), ours)


@pytest.mark.parametrize("region", [None, TestCrop.REGION], ids=["whole", "crop"])
def test_a_dense_matrix_takes_the_noise_to_the_offset(region: Region | None) -> None:
    distribution = LowRankNormal(*parameters())
    part = distribution if region is None else distribution.crop(region)
    noises = [Noise(2, sample) for sample in range(1, 121)]
    inputs = torch.stack(
        [torch.cat([n.factors(RANK), n.voxels(N_CLASSES, SHAPE, region).flatten()]) for n in noises]
    ).double()
    outputs = part.offsets(noises).flatten(1).double()
    matrix = torch.linalg.lstsq(inputs, outputs).solution.T
    torch.testing.assert_close(inputs @ matrix.T, outputs, atol=1e-5, rtol=0)
    index = (slice(None), *(whole(SHAPE) if region is None else region))
    _, factor, diagonal = parameters()
    expected = dense(factor[(slice(None), *index)], diagonal[index])
    torch.testing.assert_close(matrix @ matrix.T, expected, atol=1e-4, rtol=0)


@st.composite
def images(draw: st.DrawFn) -> tuple[tuple[int, ...], Region, int, int]:
    """Shape, region, rank and number of classes."""
    shape = tuple(draw(st.lists(st.integers(1, 9), min_size=2, max_size=3)))
    region = []
    for size in shape:
        start = draw(st.integers(0, size - 1))
        region.append(slice(start, draw(st.integers(start + 1, size)), draw(st.integers(1, 3))))
    return shape, tuple(region), draw(st.integers(0, 4)), draw(st.integers(2, 4))


@given(images(), st.integers(0, 2**31 - 1), st.integers(1, 2**31 - 1))
def test_offset_of_any_region_of_any_image(
    image: tuple[tuple[int, ...], Region, int, int], seed: int, sample: int
) -> None:
    shape, region, rank, n_classes = image
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn((n_classes, *shape), generator=generator)
    factor = torch.randn((rank, n_classes, *shape), generator=generator)
    diagonal = torch.rand((n_classes, *shape), generator=generator)
    noise = Noise(seed, sample)
    z, eps = noise.factors(rank).double(), noise.voxels(n_classes, shape).double()
    expected = torch.tensordot(z, factor.double(), dims=1) + diagonal.double().sqrt() * eps
    expected = expected[(slice(None), *region)].float()
    distribution = LowRankNormal(mean, factor, diagonal)
    torch.testing.assert_close(distribution.offset(noise, region), expected)
    crop = distribution.crop(region)
    torch.testing.assert_close(crop.offset(noise), expected)
    every_second = tuple(slice(None, None, 2) for _ in shape)
    torch.testing.assert_close(
        crop.offset(noise, every_second), expected[(slice(None), *every_second)]
    )


def test_a_crop_is_contiguous() -> None:
    crop = LowRankNormal(*parameters()).crop(TestCrop.REGION)
    assert crop.mean().is_contiguous()


def test_regions_of_another_number_of_axes_are_refused() -> None:
    distribution = LowRankNormal(*parameters())
    with pytest.raises(ValueError, match="does not fit"):
        distribution.offset(Noise(1, 1), (slice(0, 1), slice(0, 1)))
    with pytest.raises(ValueError, match="does not fit"):
        PointLogits(parameters()[0]).offset(Noise(1, 1), (slice(0, 1),))


def test_shapes_that_do_not_fit_are_refused() -> None:
    mean, factor, diagonal = parameters()
    with pytest.raises(ValueError, match="must be"):
        LowRankNormal(mean, factor[:, :2], diagonal)
    with pytest.raises(ValueError, match="is not"):
        LowRankNormal(mean, factor, diagonal, grid_shape=(9, 9, 9))
