"""The latent decoder: the contract with quadrature as oracle, and what is special about it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_structseg.controls import Controls
from napari_structseg.distributions import (
    Combination,
    LatentDecoder,
    LatentNormal,
    LogitDistribution,
    Noise,
)
from napari_structseg.errors import ConfigError
from napari_structseg.render.rendering import Renderer, render_labels
from napari_structseg.testing.distributions import (
    LogitDistributionContract,
    Moments,
    MomentsOf,
    per_voxel,
)

SHAPE, N_CLASSES, N_FEATURES, N_LATENTS = (3, 2, 4), 3, 5, 2
# Nodes of Gauss-Hermite quadrature along each of the two latent axes.
N_NODES = 60


def parameters(shape: tuple[int, ...] = SHAPE) -> tuple[Tensor, Combination, LatentNormal]:
    generator = torch.Generator().manual_seed(23)

    def drawn(*size: int) -> Tensor:
        return torch.randn(size, generator=generator)

    combination = Combination(
        latent=drawn(N_FEATURES, N_LATENTS),
        second=drawn(N_FEATURES, N_FEATURES),
        second_bias=drawn(N_FEATURES),
        last=drawn(N_CLASSES, N_FEATURES),
        last_bias=drawn(N_CLASSES),
    )
    prior = LatentNormal(drawn(N_LATENTS), torch.tensor([0.6, 1.3]))
    return drawn(N_FEATURES, *shape), combination, prior


def concatenated(first: Tensor, combination: Combination, z: Tensor) -> Tensor:
    """The three layers as the paper has them: latents tiled and concatenated, in float64.

    Here the features are the identity's, so that the first layer is [I, W_z].
    """
    tiled = z.double().reshape(-1, *[1] * (first.ndim - 1)).expand(-1, *first.shape[1:])
    x = torch.cat([first.double(), tiled])
    w = torch.cat([torch.eye(len(first)).double(), combination.latent.double()], dim=1)
    x = torch.tensordot(w, x, dims=1).relu()
    bias = combination.second_bias.double().reshape(-1, *[1] * (x.ndim - 1))
    x = (torch.tensordot(combination.second.double(), x, dims=1) + bias).relu()
    bias = combination.last_bias.double().reshape(-1, *[1] * (x.ndim - 1))
    return torch.tensordot(combination.last.double(), x, dims=1) + bias


def moments_of(
    first: Tensor, combination: Combination, prior: LatentNormal, distribution: LogitDistribution
) -> MomentsOf:
    """By quadrature over the two latent coordinates."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(N_NODES)
    weights = weights / weights.sum()
    mean = concatenated(first, combination, prior.mean)

    def of(controls: Controls) -> Moments:
        rows, probability = [], []
        for (a, p), (b, q) in itertools.product(zip(nodes, weights, strict=True), repeat=2):
            z = prior.mean + controls.temperature * prior.sigma * torch.tensor([a, b])
            rows.append((concatenated(first, combination, z) - mean).flatten())
            probability.append(p * q)
        offsets = torch.stack(rows) * per_voxel(controls, distribution)
        return Moments.of(offsets, torch.tensor(probability, dtype=torch.float64))

    return of


class TestLatentDecoder(LogitDistributionContract):
    @pytest.fixture
    def distribution(self) -> LogitDistribution:
        return LatentDecoder(*parameters())

    @pytest.fixture
    def moments(self, distribution: LogitDistribution) -> MomentsOf:
        return moments_of(*parameters(), distribution)


class TestTwoDimensions(LogitDistributionContract):
    @pytest.fixture
    def distribution(self) -> LogitDistribution:
        return LatentDecoder(*parameters((4, 5)))

    @pytest.fixture
    def moments(self, distribution: LogitDistribution) -> MomentsOf:
        return moments_of(*parameters((4, 5)), distribution)


class TestHalfPrecisionStorage(LogitDistributionContract):
    @pytest.fixture
    def distribution(self) -> LogitDistribution:
        first, *rest = parameters()
        return LatentDecoder(first.half(), *rest)

    @pytest.fixture
    def moments(self, distribution: LogitDistribution) -> MomentsOf:
        first, *rest = parameters()
        return moments_of(first.half(), *rest, distribution)


class TestCrop(LogitDistributionContract):
    REGION = (slice(1, 3), slice(0, 2), slice(0, 4, 2))

    @pytest.fixture
    def distribution(self) -> LogitDistribution:
        return LatentDecoder(*parameters()).crop(self.REGION)

    @pytest.fixture
    def moments(self, distribution: LogitDistribution) -> MomentsOf:
        first, *rest = parameters()
        return moments_of(first[(slice(None), *self.REGION)], *rest, distribution)


def test_split_first_layer_is_the_concatenated_one() -> None:
    first, combination, prior = parameters()
    distribution = LatentDecoder(first, combination, prior)
    for sample in (1, 2, 3):
        z = prior.mean + prior.sigma * Noise(4, sample).factors(N_LATENTS)
        expected = concatenated(first, combination, z).float()
        torch.testing.assert_close(distribution.decode(z), expected, atol=1e-5, rtol=1e-5)
        shown = distribution.mean() + distribution.offset(Noise(4, sample))
        torch.testing.assert_close(shown, expected, atol=1e-5, rtol=1e-5)


def test_outside_every_sample_is_the_mean() -> None:
    first, combination, prior = parameters()
    inside = torch.zeros(SHAPE, dtype=torch.bool)
    inside[1] = True
    offset = LatentDecoder(first, combination, prior, inside=inside).offset(Noise(1, 1))
    assert not offset[:, ~inside].any()
    assert torch.equal(
        offset[:, inside],
        LatentDecoder(first, combination, prior).offset(Noise(1, 1))[:, inside],
    )


def test_temperature_scales_the_prior() -> None:
    distribution = LatentDecoder(*parameters())
    noise, controls = Noise(7, 1), Controls(sample=1, temperature=0.4)
    z = distribution.latent_mean + 0.4 * distribution.latent_sigma * noise.factors(N_LATENTS)
    expected = distribution.decode(z).argmax(dim=0).numpy()
    assert (render_labels(distribution, noise, controls) == expected).all()
    assert (Renderer(distribution).render_volume(controls) == expected).all()
    assert controls.weights_of(distribution) == (1.0,) * N_CLASSES


def test_chosen_position_is_shown_instead_of_a_sample() -> None:
    distribution = LatentDecoder(*parameters())
    chosen = Controls(latent=(0.5, -2.0), sample=3, temperature=2.0)
    z = distribution.latent_mean + 2 * distribution.latent_sigma * torch.tensor([0.5, -2.0])
    expected = distribution.decode(z).argmax(dim=0).numpy()
    assert (Renderer(distribution).render_volume(chosen) == expected).all()


def test_position_of_a_sample_is_that_sample() -> None:
    distribution = LatentDecoder(*parameters())
    position = tuple(Noise(7, 2).factors(N_LATENTS).tolist())
    renderer = Renderer(distribution)
    same = renderer.render_volume(Controls(latent=position))
    assert (same == renderer.render_volume(Controls(seed=7, sample=2))).all()


@pytest.mark.parametrize("n", [1, 3])
def test_position_of_another_latent_space_is_refused(n: int) -> None:
    distribution = LatentDecoder(*parameters())
    with pytest.raises(ConfigError, match="has 2 latent dimensions"):
        Renderer(distribution).render_volume(Controls(latent=(0.0,) * n))


def test_directions_are_those_of_the_jacobian_by_automatic_differentiation() -> None:
    first, combination, prior = parameters()

    def probabilities(noise: Tensor) -> Tensor:
        z = prior.mean.double() + prior.sigma.double() * noise
        return concatenated(first, combination, z).softmax(dim=0).flatten()

    zero = torch.zeros(N_LATENTS, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(probabilities, zero)
    _, values, rows = torch.linalg.svd(jacobian, full_matrices=False)
    directions, strength = LatentDecoder(first, combination, prior).directions()
    torch.testing.assert_close(
        (directions.double() * rows).sum(dim=1).abs(), torch.ones(2).double()
    )
    torch.testing.assert_close(
        strength.double(), values / len(jacobian) ** 0.5, atol=1e-6, rtol=1e-5
    )
    assert (directions.gather(1, directions.abs().argmax(dim=1, keepdim=True)) > 0).all()


def test_without_a_bend_samples_of_two_classes_are_nested() -> None:
    # All units active: three linear layers, and z adds the same to every voxel.
    first, combination, prior = parameters((6, 6))
    raised = Combination(
        combination.latent,
        combination.second.abs(),
        combination.second_bias + 1000,
        combination.last[:2],
        combination.last_bias[:2],
    )
    linear = LatentDecoder(first + 100, raised, prior)
    for one in linear.offsets([Noise(1, k) for k in range(1, 9)]):
        margin = one[1] - one[0]
        torch.testing.assert_close(margin, margin.mean().expand(6, 6), atol=1e-2, rtol=0)
    bent = LatentDecoder(first, combination, prior).offset(Noise(1, 1))
    assert (bent[1] - bent[0]).std() > 0.1


def test_shapes_that_do_not_fit_are_refused() -> None:
    first, combination, prior = parameters()
    with pytest.raises(ValueError, match="do not fit"):
        LatentDecoder(first[:3], combination, prior)
    with pytest.raises(ValueError, match="do not fit"):
        LatentDecoder(first, combination, LatentNormal(prior.mean[:1], prior.sigma[:1]))
