"""Losses of the Probabilistic U-Net and its baselines, against closed forms and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from napari_structseg.models.latent import Reconstruction
from napari_structseg.training.objectives.geco import Geco
from napari_structseg.training.objectives.latent_losses import (
    elbo_loss,
    heads_loss,
    members_cross_entropy,
    normal_divergence,
    summed_cross_entropy,
)


def drawn(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def normals(n_images: int = 3, n_latents: int = 4) -> list[tuple[Tensor, Tensor]]:
    return [
        (drawn(n_images, n_latents, seed=k), drawn(n_images, n_latents, seed=k + 9).exp())
        for k in (1, 2)
    ]


def test_divergence_is_that_of_torch() -> None:
    posterior, prior = normals()
    expected = kl_divergence(Normal(*posterior), Normal(*prior)).sum(dim=1)
    torch.testing.assert_close(normal_divergence(posterior, prior), expected)


def test_divergence_is_the_mean_of_log_ratios_over_samples() -> None:
    (mean, sigma), prior = normals(1)
    q, p = Normal(mean, sigma), Normal(*prior)
    z = mean + sigma * drawn(200_000, 4, seed=5)
    ratios = (q.log_prob(z) - p.log_prob(z)).sum(dim=1)
    error = float(ratios.mean() - normal_divergence((mean, sigma), prior)[0])
    assert abs(error) < 6 * float(ratios.std()) / math.sqrt(len(ratios))


def test_divergence_is_computed_in_single_precision() -> None:
    halves = [(mean.bfloat16(), sigma.bfloat16()) for mean, sigma in normals()]
    assert normal_divergence(*halves).dtype == torch.float32
    same = halves[0]
    assert not normal_divergence(same, same).any()


def test_elbo_is_cross_entropy_and_weighted_divergence() -> None:
    posterior, prior = normals(2)
    logits, labels = drawn(2, 3, 4, 5), torch.arange(40).reshape(2, 4, 5) % 3
    loss = elbo_loss(Reconstruction(logits, posterior, prior), labels, beta=0.5)
    nats = -torch.log_softmax(logits, dim=1).gather(1, labels[:, None]).sum() / 2
    torch.testing.assert_close(loss, nats + 0.5 * normal_divergence(posterior, prior).mean())


def test_voxels_outside_the_mask_do_not_count() -> None:
    logits, labels = drawn(2, 3, 4, 5), torch.zeros((2, 4, 5), dtype=torch.uint8)
    mask = torch.zeros((2, 4, 5), dtype=torch.bool)
    mask[:, 1:3] = True
    torch.testing.assert_close(
        summed_cross_entropy(logits, labels, mask),
        summed_cross_entropy(logits[:, :, 1:3], labels[:, 1:3]),
    )


def test_best_head_weighs_most() -> None:
    logits, labels = drawn(2, 3, 2, 4, 4), torch.ones((2, 4, 4), dtype=torch.uint8)
    losses = members_cross_entropy(logits, labels)
    assert losses.shape == (2, 3)
    expected = 0.0
    for row in losses:
        others = row.sum() - row.min()
        expected += float(0.9 * row.min() + 0.05 * others) / 2
    assert float(heads_loss(logits, labels, epsilon=0.1)) == pytest.approx(expected, rel=1e-5)


def test_geco_moves_as_published() -> None:
    """The authors' update: softplus(u)^2, its gradient reversed and scaled by 1e-2, and Adam."""
    target, n_voxels, rng = 0.05, 300.0, np.random.default_rng(0)
    raw = torch.tensor(np.log(np.expm1(1.0)), requires_grad=True)
    adam = torch.optim.Adam([raw], lr=1e-4)
    geco, average = Geco(target, learning_rate=1e-4), None
    for loss in rng.uniform(0.0, 0.4, 400) * np.linspace(1, 0, 400):
        average = loss if average is None else 0.99 * average + 0.01 * loss
        multiplier = torch.nn.functional.softplus(raw) ** 2
        assert geco.weight(loss, n_voxels) == pytest.approx(multiplier.item(), rel=1e-9)
        adam.zero_grad()
        (-1e-2 * multiplier * n_voxels * (average - target)).backward()
        adam.step()
    assert geco.average == pytest.approx(average)


def test_geco_weighs_more_until_the_target_is_reached() -> None:
    geco = Geco(target=0.1)
    far = [geco.weight(0.5) for _ in range(50)]
    assert far[0] == pytest.approx(1)
    assert (np.diff(far) > 0).all()
    # Adam takes steps of the learning rate.
    assert far[-1] < 1.15
    for _ in range(2000):
        weight = geco.weight(0.01)
    assert 0 < weight < far[-1]


def test_geco_ignores_what_is_not_finite() -> None:
    geco = Geco(target=0.1)
    geco.weight(0.5)
    before = geco.multiplier
    assert geco.weight(math.nan) == geco.weight(math.inf) == before
    assert geco.average == 0.5


def test_geco_weighs_the_reconstruction_alone() -> None:
    posterior, prior = normals(2)
    logits, labels = drawn(2, 3, 4, 5), torch.zeros((2, 4, 5), dtype=torch.uint8)
    geco = Geco(target=0.1, raw=math.log(math.expm1(math.sqrt(3))))
    loss = elbo_loss(Reconstruction(logits, posterior, prior), labels, geco=geco)
    nats = summed_cross_entropy(logits, labels).mean()
    divergence = normal_divergence(posterior, prior).mean()
    torch.testing.assert_close(loss, 3.0 * nats + divergence)
