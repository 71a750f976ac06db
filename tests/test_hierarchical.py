"""The Hierarchical Probabilistic U-Net: its latents, its loss, and what it learns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from napari_structseg.distributions import FiniteSet, LogitDistribution
from napari_structseg.io.weights import load_weights
from napari_structseg.models import (
    BackboneSpec,
    ClassSpec,
    HeadSpec,
    HierarchicalNetwork,
    ModelSpec,
    build_network,
)
from napari_structseg.testing.distributions import LogitDistributionContract, MomentsOf
from napari_structseg.training.config import OptimiserConfig, TrainConfig
from napari_structseg.training.objectives.latent_losses import (
    elbo_loss,
    hardest_voxels,
    summed_cross_entropy,
)
from napari_structseg.training.sources import build_run
from napari_structseg.training.trainer import Trainer
from stacks import write_stack
from test_finite_set import moments_of

CLASSES = (ClassSpec(name="background", color="#000000"), ClassSpec(name="lesion", color="#ff0000"))
WIDTHS = BackboneSpec(widths=(3, 4, 5, 6), convolutions=(1, 1, 1, 1), norm="none")


def make_network(dimensions: int = 2, scales: int = 2, **fields) -> HierarchicalNetwork:
    torch.manual_seed(0)
    network = build_network(make_spec(dimensions, scales, **fields)).eval()
    assert isinstance(network, HierarchicalNetwork)
    return network


def make_spec(dimensions: int = 2, scales: int = 2, **fields) -> ModelSpec:
    head = HeadSpec(kind="hierarchical", latent_scales=scales, members=4)
    return ModelSpec(
        name="tiny",
        dimensions=dimensions,
        channels=("CT",),
        classes=CLASSES,
        patch=(16,) * dimensions,
        intensity={"kind": "window", "low": 0, "high": 1},
        **{"backbone": WIDTHS, "head": head, **fields},
    )


class TestMembers(LogitDistributionContract):
    """What a network gives is a finite set like any other."""

    @pytest.fixture
    def members(self) -> Tensor:
        x = torch.rand((1, 1, 9, 10), generator=torch.Generator().manual_seed(2))
        with torch.inference_mode():
            members: Tensor = make_network()(x).members[0]
        return members

    @pytest.fixture
    def distribution(self, members: Tensor) -> LogitDistribution:
        return FiniteSet(members)

    @pytest.fixture
    def moments(self, members: Tensor, distribution: LogitDistribution) -> MomentsOf:
        return moments_of(members, distribution)


def reconstruct(network: HierarchicalNetwork, x: Tensor, labels: Tensor):
    return network.reconstruct(x, labels, torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("dimensions", "positions"), [(2, 2 * 2 + 4 * 4), (3, 2**3 + 4**3)])
def test_divergence_is_summed_over_scales_and_space(dimensions: int, positions: int) -> None:
    network = make_network(dimensions)
    shape = (2, *[13] * dimensions)
    labels = torch.zeros(shape, dtype=torch.uint8)
    decoded = reconstruct(network, torch.rand(2, 1, *shape[1:]), labels)
    assert decoded.logits.shape == (2, 2, *shape[1:])
    # 13 is padded to 16, a multiple of 8.
    assert decoded.prior[0].shape == decoded.posterior[1].shape == (2, positions)
    divergence = kl_divergence(Normal(*decoded.posterior), Normal(*decoded.prior)).sum()
    nats = summed_cross_entropy(decoded.logits, labels).sum()
    expected = (nats + 0.5 * divergence) / 2
    torch.testing.assert_close(elbo_loss(decoded, labels, beta=0.5), expected)


def test_normals_stay_in_single_precision_and_within_bounds() -> None:
    network = make_network()
    for layer in (*network.backbone.statistics, *network.posterior.statistics):
        with torch.no_grad():
            layer.weight.mul_(1e4)
    labels = torch.zeros((1, 16, 16), dtype=torch.uint8)
    with torch.autocast("cpu", torch.bfloat16):
        decoded = reconstruct(network, torch.rand(1, 1, 16, 16), labels)
    for part in (*decoded.posterior, *decoded.prior):
        assert part.dtype == torch.float32
    for _, sigma in (decoded.posterior, decoded.prior):
        assert sigma.min() >= np.exp(-7.01)
        assert sigma.max() <= np.exp(7.01)


def test_finer_normals_depend_on_coarser_latents() -> None:
    backbone = make_network(scales=3).backbone
    levels = backbone.descend(torch.rand(1, 1, 16, 16))
    still = backbone.climb(levels, lambda _, normal: normal[0])
    moved = backbone.climb(levels, lambda index, normal: normal[0] + (index == 1))
    changed = [
        not torch.equal(a[0], b[0]) for a, b in zip(still.normals, moved.normals, strict=True)
    ]
    assert changed == [False, False, True]
    assert [one.shape[1] for one in still.latents] == [2 * 2, 4 * 4, 8 * 8]


def test_posterior_net_is_for_training_alone() -> None:
    network = make_network()
    with torch.no_grad():
        for parameter in network.posterior.parameters():
            parameter.fill_(torch.nan)
    assert torch.isfinite(network(torch.rand(1, 1, 16, 16)).mean).all()


def test_latents_of_the_posterior_are_those_that_are_decoded() -> None:
    network = make_network()
    x, labels = torch.rand(1, 1, 16, 16), torch.zeros((1, 16, 16), dtype=torch.uint8)
    with torch.no_grad():
        # Posterior means of 5 with almost no spread, in a network that never changes them.
        for layer in network.posterior.statistics:
            layer.weight.zero_()
            layer.bias.copy_(torch.tensor([5.0, -7.0]))
        decoded = reconstruct(network, x, labels)
        levels = network.backbone.descend(x)
        fives = network.backbone.climb(levels, lambda _, normal: torch.full_like(normal[0], 5.0))
    torch.testing.assert_close(decoded.logits, network.head(fives.features).mean, atol=1e-2, rtol=0)


def test_more_scales_than_levels_below_the_finest_are_refused() -> None:
    head = HeadSpec(kind="hierarchical", latent_scales=4)
    with pytest.raises(ValueError, match=r"latent_scales \(4\) must not exceed 3"):
        make_spec(head=head)
    with pytest.raises(ValueError, match=r"latent_scales \(4\) must not exceed 3"):
        TrainConfig(name="tiny", dimensions=2, patch=(16, 16), backbone=WIDTHS, head=head)


def test_hardest_voxels_are_drawn_in_proportion_to_their_cross_entropy() -> None:
    odds = torch.tensor([1.0, 2.0, 3.0, 4.0])
    # The cross-entropy of label 1 is log(1 + exp(-l)).
    logit = -torch.log(torch.expm1(0.1 * odds))
    logits = torch.stack([torch.zeros(4), logit])[None]
    labels = torch.ones((1, 4), dtype=torch.uint8)
    generator = torch.Generator().manual_seed(3)
    n = 2000
    drawn = sum(hardest_voxels(logits, labels, 0.25, generator).float() for _ in range(n))[0]
    expected = odds / odds.sum()
    error = (expected * (1 - expected) / n).sqrt()
    assert ((drawn / n - expected).abs() < 5 * error).all()


def test_hardest_voxels_are_a_share_of_those_that_count() -> None:
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn((2, 3, 10, 10), generator=generator)
    labels = torch.zeros((2, 10, 10), dtype=torch.uint8)
    mask = torch.zeros((2, 10, 10), dtype=torch.bool)
    mask[:, :5] = True
    chosen = hardest_voxels(logits, labels, 0.1, generator, mask)
    assert int(chosen.sum()) == 10
    assert not (chosen & ~mask).any()
    nothing = hardest_voxels(logits, labels, 0.1, generator, torch.zeros_like(mask))
    assert not nothing.any()


class OneOfTwo:
    """The same square in every image, which one rater of two sees."""

    def patch(self, rng: np.random.Generator):
        image = 0.25 + 0.03 * rng.standard_normal((1, 16, 16)).astype(np.float32)
        image[0, 4:12, 4:12] += 0.25
        labels = np.zeros((16, 16), np.uint8)
        labels[5:11, 5:11] = rng.integers(2)
        return image, labels


def test_samples_are_the_opinions_after_training(tmp_path: Path) -> None:
    config = TrainConfig.model_validate(
        {
            **{"name": "two", "dimensions": 2, "patch": (16, 16), "batch": 8, "steps": 200},
            "backbone": BackboneSpec(widths=(8, 8, 8, 8), convolutions=(1, 1, 1, 1), norm="none"),
            "head": HeadSpec(kind="hierarchical", latent_scales=2, members=40),
            "optimiser": OptimiserConfig(learning_rate=1e-2, warmup_steps=10),
            "validation_cases": 0,
            "validate_every": 1000,
            "checkpoint_every": 1000,
        }
    )
    spec, _, _ = build_run(config, write_stack(tmp_path / "names"))
    trainer = Trainer(config, spec, OneOfTwo(), tmp_path / "run")
    loaded, theirs = load_weights(trainer.run())
    assert theirs.head == config.head
    image, _ = OneOfTwo().patch(np.random.default_rng(9))
    with torch.inference_mode():
        members = loaded.eval()(torch.from_numpy(image)[None]).members[0]
    sizes = members.argmax(dim=1).flatten(1).sum(dim=1)
    nothing, everything = int((sizes < 4).sum()), int((sizes > 25).sum())
    assert min(nothing, everything) >= 3
