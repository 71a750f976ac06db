from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from napari_structseg.models import LogitParameters, LowRankSpec
from napari_structseg.models.heads import StochasticHead
from napari_structseg.training.config import LossConfig, TrainConfig
from napari_structseg.training.objectives.losses import cross_entropy, sample_logits, ssn_loss
from napari_structseg.training.objectives.objective import Objective


def parameters(
    *,
    batch: int = 2,
    rank: int = 2,
    n_classes: int = 3,
    spatial: tuple[int, ...] = (2, 2),
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> LogitParameters:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, dtype=dtype, generator=generator)

    return LogitParameters(
        draw(batch, n_classes, *spatial),
        draw(batch, rank, n_classes, *spatial) if rank else None,
        draw(batch, n_classes, *spatial).exp(),
    )


def labels_like(p: LogitParameters, seed: int = 0) -> torch.Tensor:
    n_classes = p.mean.shape[1]
    shape = (len(p.mean), *p.mean.shape[2:])
    return torch.randint(n_classes, shape, generator=torch.Generator().manual_seed(seed))


def generator(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def dense_covariance(p: LogitParameters, index: int = 0) -> torch.Tensor:
    """P P^T + D of one image, built the slow way."""
    assert p.diagonal is not None
    covariance = torch.diag(p.diagonal[index].flatten())
    if p.factor is not None:
        for column in p.factor[index].flatten(1):
            covariance = covariance + torch.outer(column, column)
    return covariance


@pytest.mark.parametrize("antithetic", [False, True])
@pytest.mark.parametrize("rank", [0, 2])
def test_samples_have_the_moments_of_the_dense_normal(rank: int, antithetic: bool) -> None:
    p = parameters(batch=1, rank=rank, n_classes=2, spatial=(3,))
    n = 200_000
    samples = sample_logits(p, n, antithetic=antithetic, generator=generator())[:, 0].flatten(1)
    covariance = dense_covariance(p)
    offset = covariance.diagonal().sqrt()
    # Five standard errors.
    bound = 5 * offset / math.sqrt(n)
    assert ((samples.mean(dim=0) - p.mean.flatten()).abs() < bound).all()
    error = (torch.cov(samples.T) - covariance).abs() / torch.outer(offset, offset)
    assert error.max() < 5 * math.sqrt(4 / n)


def test_images_of_a_batch_have_their_own_noise() -> None:
    single = parameters(batch=1)
    assert single.factor is not None
    assert single.diagonal is not None
    twice = LogitParameters(
        single.mean.expand(2, -1, -1, -1),
        single.factor.expand(2, -1, -1, -1, -1),
        single.diagonal.expand(2, -1, -1, -1),
    )
    samples = sample_logits(twice, 1, generator=generator())
    assert not torch.equal(samples[:, 0], samples[:, 1])


def test_antithetic_samples_average_to_the_mean() -> None:
    p = parameters()
    # Mirrored offsets: mean + d and mean - d, whose sum rounds to twice the mean.
    samples = sample_logits(p, 6, antithetic=True, generator=generator())
    first, second = samples[:3] - p.mean, samples[3:] - p.mean
    torch.testing.assert_close(first, -second, rtol=0, atol=1e-14)
    exact = LogitParameters(torch.zeros_like(p.mean), p.factor, p.diagonal)
    about_zero = sample_logits(exact, 6, antithetic=True, generator=generator())
    assert torch.equal(about_zero[:3], -about_zero[3:])
    assert (about_zero[:3] + about_zero[3:]).eq(exact.mean).all()


def test_loss_is_the_formula_written_out() -> None:
    p = parameters()
    target = labels_like(p)
    n_samples = 5
    samples = sample_logits(p, n_samples, generator=generator()).numpy()
    expected = 0.0
    for image in range(2):
        likelihoods = []
        for sample in samples[:, image]:
            product = 1.0
            for voxel in np.ndindex(target.shape[1:]):
                logits = sample[(slice(None), *voxel)]
                exponentials = np.exp(logits)
                product *= exponentials[target[(image, *voxel)]] / exponentials.sum()
            likelihoods.append(product)
        expected -= math.log(sum(likelihoods) / n_samples) / 2
    loss = ssn_loss(p, target, n_samples=n_samples, generator=generator())
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_the_average_sample_is_added_with_its_weight() -> None:
    p = parameters()
    target = labels_like(p)
    samples = sample_logits(p, 5, generator=generator())
    of_each = [
        functional.cross_entropy(sample, target, reduction="sum").item() / 2 for sample in samples
    ]
    alone, both = (
        ssn_loss(p, target, n_samples=5, average_weight=weight, generator=generator())
        for weight in (0.0, 0.3)
    )
    assert (both - alone).item() == pytest.approx(0.3 * np.mean(of_each), rel=1e-12)


def test_the_mean_is_added_with_its_weight() -> None:
    p = parameters(spatial=(8, 8))
    target = labels_like(p)

    def loss(weight: float | None, step: int, bound: float = 1.7) -> torch.Tensor:
        settings = LossConfig(samples=4, mean_weight=weight, mean_only_steps=1)
        head = LowRankSpec(bound=bound)
        config = TrainConfig(name="m", dimensions=2, patch=(8, 8), head=head, loss=settings)
        return Objective(config).likelihood(p, target, None, step)

    expected = 0.3 * cross_entropy(p, target)
    torch.testing.assert_close(loss(0.3, 1) - loss(0.0, 1), expected, rtol=1e-12, atol=0)
    # A head that is held has a weight of its own; the paper's has none.
    torch.testing.assert_close(loss(None, 1), loss(0.2, 1))
    assert torch.equal(loss(None, 1, bound=0), loss(0.0, 1, bound=0))
    # While only the mean is trained there is nothing to add.
    assert torch.equal(loss(0.3, 0), loss(0.0, 0))


def test_only_with_the_average_does_a_runaway_sample_cost_something() -> None:
    # Nearly half of the samples call everything the wrong class.
    spread = torch.zeros((1, 2, 50), dtype=torch.float64)
    factor = torch.zeros((1, 1, 2, 50), dtype=torch.float64)
    factor[:, :, 1] = 1.0
    mean = torch.tensor([9.0, 0.0], dtype=torch.float64)[None, :, None].expand(1, 2, 50)
    target = torch.zeros((1, 50), dtype=torch.long)

    def loss(scale: float, weight: float) -> float:
        p = LogitParameters(mean, factor * scale, spread)
        settings = {"n_samples": 64, "average_weight": weight, "generator": generator()}
        return ssn_loss(p, target, **settings).item()

    assert loss(100.0, 0.0) - loss(0.0, 0.0) < math.log(4)
    assert loss(100.0, 0.1) - loss(0.0, 0.1) > 100


def test_loss_converges_to_the_integral() -> None:
    # One pixel, two classes: E[sigmoid(N(m, v))] by Gauss-Hermite quadrature.
    p = parameters(batch=1, rank=1, n_classes=2, spatial=(1,))
    difference = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    mean = float(difference @ p.mean.flatten())
    variance = float(difference @ dense_covariance(p) @ difference)
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    probability = 1 / (1 + np.exp(-(mean + math.sqrt(variance) * nodes)))
    expected = -math.log(float(weights @ probability) / math.sqrt(2 * math.pi))
    loss = ssn_loss(
        p, torch.ones((1, 1), dtype=torch.long), n_samples=400_000, generator=generator()
    )
    assert loss.item() == pytest.approx(expected, rel=5e-3)


def test_loss_without_spread_is_cross_entropy() -> None:
    p = parameters(rank=0)
    certain = LogitParameters(p.mean, None, torch.zeros_like(p.mean))
    target = labels_like(p)
    torch.testing.assert_close(
        ssn_loss(certain, target, n_samples=4), cross_entropy(certain, target), rtol=1e-12, atol=0
    )


@pytest.mark.parametrize("antithetic", [False, True])
@pytest.mark.parametrize("rank", [0, 2])
def test_gradient_is_the_derivative(rank: int, antithetic: bool) -> None:
    p = parameters(batch=1, rank=rank, spatial=(2, 1))
    target = labels_like(p)
    mask = torch.tensor([[[True], [False]]])

    def loss(
        mean: torch.Tensor, diagonal: torch.Tensor, factor: torch.Tensor | None = None
    ) -> torch.Tensor:
        return ssn_loss(
            LogitParameters(mean, factor, diagonal),
            target,
            n_samples=4,
            antithetic=antithetic,
            mask=mask,
            generator=generator(),
        )

    inputs = [p.mean, p.diagonal] + ([p.factor] if rank else [])
    leaves = [tensor.detach().requires_grad_() for tensor in inputs if tensor is not None]
    assert torch.autograd.gradcheck(loss, leaves)


@pytest.mark.parametrize("stochastic", [False, True])
def test_masked_voxels_do_not_count(stochastic: bool) -> None:
    p = parameters(spatial=(2, 3))
    target = labels_like(p)
    mask = torch.tensor([[True, False, True], [False, False, True]]).expand(2, 2, 3)

    def loss(mean: torch.Tensor, labels: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        changed = LogitParameters(mean, p.factor, p.diagonal)
        if stochastic:
            return ssn_loss(changed, labels, n_samples=3, mask=mask, generator=generator())
        return cross_entropy(changed, labels, mask=mask)

    expected = loss(p.mean, target, mask)
    outside = ~mask[:, None].expand_as(p.mean)
    altered = p.mean.masked_fill(outside, 1e6)
    assert torch.equal(loss(altered, target.masked_fill(~mask, 0), mask), expected)
    assert torch.equal(loss(p.mean, target, torch.ones_like(mask)), loss(p.mean, target, None))
    assert loss(p.mean, target, mask) < loss(p.mean, target, None)
    assert loss(p.mean, target, torch.zeros_like(mask)) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e6, 1e12, 1e18])
def test_huge_covariance_gives_finite_loss_and_gradient(scale: float, dtype: torch.dtype) -> None:
    p = parameters(batch=1, spatial=(8, 8, 8), dtype=dtype)
    assert p.factor is not None
    assert p.diagonal is not None
    leaves = [
        tensor.detach().requires_grad_()
        for tensor in (p.mean, p.factor * scale, p.diagonal * scale)
    ]
    loss = ssn_loss(LogitParameters(*leaves), labels_like(p), n_samples=4, generator=generator())
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(leaf.grad).all() for leaf in leaves if leaf.grad is not None)


def test_head_and_samples_stay_in_float32_under_autocast() -> None:
    head = StochasticHead(2, 4, 3, rank=2)
    features = torch.randn(1, 4, 8, 8, generator=generator())
    with torch.autocast("cpu", torch.bfloat16):
        p = head(features)
        samples = sample_logits(p, 4, generator=generator())
    assert p.mean.dtype == torch.bfloat16
    assert p.diagonal.dtype == torch.float32
    assert samples.dtype == torch.float32
    outside = sample_logits(
        LogitParameters(p.mean.float(), p.factor.float(), p.diagonal), 4, generator=generator()
    )
    assert torch.equal(samples, outside)


def test_cross_entropy_sums_over_voxels() -> None:
    p = parameters(spatial=(2, 3))
    target = labels_like(p)
    expected = functional.cross_entropy(p.mean, target, reduction="sum") / 2
    torch.testing.assert_close(cross_entropy(p, target), expected, rtol=1e-12, atol=0)


def test_a_point_cannot_be_sampled() -> None:
    with pytest.raises(ValueError, match="no spread"):
        sample_logits(parameters().mean_only(), 2)


def test_antithetic_needs_pairs() -> None:
    with pytest.raises(ValueError, match="even number of samples, got 3"):
        ssn_loss(parameters(), labels_like(parameters()), n_samples=3, antithetic=True)
