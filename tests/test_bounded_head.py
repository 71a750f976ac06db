"""The bound of a low-rank head: no sample is far from the mean, whatever the features are."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch
from pydantic import ValidationError

from napari_structseg.errors import ConfigError
from napari_structseg.io.weights import load_weights, read_spec
from napari_structseg.models import HeadSpec, LowRankSpec, PointSpec
from napari_structseg.models.heads import StochasticHead, bounded_spread, uncertainty_of
from napari_structseg.training.config import (
    DEFAULT_BOUND,
    DEFAULT_CERTAIN,
    TrainConfig,
    with_options,
)
from napari_structseg.training.objectives.losses import sample_logits, ssn_loss
from napari_structseg.training.start import start_from
from tiny_models import CLASSES, tiny_model

N_FEATURES, EPSILON = 4, 1e-5


def head_of(bound: float, *, rank: int = 3, n_classes: int = 3) -> StochasticHead:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = StochasticHead(2, N_FEATURES, n_classes, rank=rank, epsilon=EPSILON, bound=bound)
        torch.nn.init.normal_(head.log_diagonal.weight)
    return head


def features(scale: float, seed: int = 1) -> torch.Tensor:
    drawn = torch.randn((2, N_FEATURES, 5, 6), generator=torch.Generator().manual_seed(seed))
    return drawn * scale


def differences(factor: torch.Tensor | None, diagonal: torch.Tensor) -> torch.Tensor:
    """Standard deviations of eta_a - eta_b at every voxel, for all pairs of classes."""
    diagonal = diagonal.double()
    found = []
    for a, b in combinations(range(diagonal.shape[1]), 2):
        variance = diagonal[:, a] + diagonal[:, b]
        if factor is not None:
            variance = variance + (factor[:, :, a] - factor[:, :, b]).double().square().sum(dim=1)
        found.append(variance.sqrt())
    return torch.stack(found)


@pytest.mark.parametrize("rank", [0, 3])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 1e6, 1e20])
@pytest.mark.parametrize("bound", [0.5, 1.7, 10.0])
def test_the_bound_holds_for_any_features(bound: float, scale: float, rank: int) -> None:
    p = head_of(bound, rank=rank)(features(scale))
    largest = math.sqrt(bound**2 * (1 + 1e-5) + 2 * EPSILON)
    assert differences(p.factor, p.diagonal).max() <= largest
    if scale == 30:
        unbounded = head_of(0, rank=rank)(features(scale))
        assert differences(unbounded.factor, unbounded.diagonal).max() > 10 * bound


def test_two_opposite_classes_reach_the_bound() -> None:
    # No smaller constant would do: of two classes that move against each other, the difference
    # has twice the standard deviation of each.
    factor = torch.tensor([1e4, -1e4]).reshape(1, 1, 2, 1)
    held, diagonal = bounded_spread(factor, torch.full((1, 2, 1), 1e-6), 2.0)
    assert differences(held, diagonal).item() == pytest.approx(2.0, rel=1e-4)


@pytest.mark.parametrize("rank", [0, 3])
def test_a_spread_far_below_the_bound_is_not_changed(rank: int) -> None:
    near, plain = (head_of(bound, rank=rank)(features(0.5)) for bound in (1000.0, 0.0))
    torch.testing.assert_close(near.diagonal, plain.diagonal, rtol=1e-4, atol=0)
    if rank:
        torch.testing.assert_close(near.factor, plain.factor, rtol=1e-4, atol=0)
    assert torch.equal(near.mean, plain.mean)


def test_the_covariance_of_a_voxel_keeps_its_shape() -> None:
    # All of a voxel is scaled by one number: correlations are what the features say.
    factor = torch.randn((1, 3, 2, 4), generator=torch.Generator().manual_seed(2)) * 5
    diagonal = torch.rand((1, 2, 4), generator=torch.Generator().manual_seed(3)) + 0.1
    held, shrunk = bounded_spread(factor, diagonal, 1.7)
    ratio = shrunk[:, :1] / diagonal[:, :1]
    torch.testing.assert_close(shrunk, diagonal * ratio)
    torch.testing.assert_close(held, factor * ratio.sqrt()[:, None])
    assert (ratio < 0.5).all()


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
def test_every_weight_has_a_finite_gradient(scale: float) -> None:
    head = head_of(1.7)
    target = torch.randint(3, (2, 5, 6), generator=torch.Generator().manual_seed(4))
    generator = torch.Generator().manual_seed(5)
    ssn_loss(head(features(scale)), target, n_samples=8, generator=generator).backward()
    for name, weight in head.named_parameters():
        assert torch.isfinite(weight.grad).all(), name
        # Far beyond the bound there is nothing left to gain, and no gradient is needed.
        assert scale > 1 or weight.grad.any(), name


def test_voxels_flip_no_more_often_than_the_margin_allows() -> None:
    bound, margin, n = 1.7, 3.0, 20_000
    head = head_of(bound, n_classes=2)
    with torch.no_grad():
        head.mean.weight.zero_()
        head.mean.bias.copy_(torch.tensor([margin, 0.0]))
        p = head(features(1e3))
    generator = torch.Generator().manual_seed(6)
    flipped = (sample_logits(p, n, generator=generator).argmax(dim=2) == 1).double().mean(dim=0)
    allowed = 0.5 * math.erfc(margin / bound / math.sqrt(2))
    assert flipped.max() <= allowed + 5 * math.sqrt(allowed / n)
    assert flipped.max() > allowed / 10


def test_what_is_certain_is_so_in_every_sample() -> None:
    margin = torch.tensor([0.0, 1.0, 2.0, 3.0, 6.0])
    mean = torch.stack([margin, torch.zeros(5), torch.full((5,), -1.0)])[None]
    left = uncertainty_of(mean, 2.0)[0, 0]
    expected = [1 / (1 + math.exp((m - 2) / 0.5)) for m in margin.tolist()]
    torch.testing.assert_close(left, torch.tensor(expected))
    head = StochasticHead(2, N_FEATURES, 2, rank=3, bound=1.7, certain=2.0)
    with torch.no_grad():
        head.mean.weight.zero_()
        head.mean.bias.copy_(torch.tensor([4.0, 0.0]))
        p = head(features(1e3))
    # A bound alone lets .9 % of the samples turn such a voxel over.
    samples = sample_logits(p, 5_000, generator=torch.Generator().manual_seed(6))
    assert (samples.argmax(dim=2) == 0).all()


def test_the_mean_learns_nothing_through_what_is_certain() -> None:
    # A voxel must not become certain only to be held.
    head = StochasticHead(2, N_FEATURES, 2, rank=3, certain=2.0)
    p = head(features(1.0))
    (p.factor.square().sum() + p.diagonal.sum()).backward()
    assert head.mean.weight.grad is None
    assert head.factor.weight.grad.any()


def test_a_file_that_says_nothing_of_a_bound_has_none(tmp_path) -> None:
    old = {"kind": "low_rank", "rank": 3, "diagonal_only": False, "epsilon": 1e-5}
    assert HeadSpec(**old) == LowRankSpec(rank=3, bound=0, certain=0)
    plain, spec = load_weights(tiny_model(tmp_path / "plain.safetensors", head=HeadSpec(**old)))
    assert spec.head.bound == 0
    head = LowRankSpec(rank=3, bound=1.7)
    held, bounded = load_weights(tiny_model(tmp_path / "held.safetensors", head=head))
    assert bounded.head == head
    image = torch.randn((1, 1, 16, 16, 16), generator=torch.Generator().manual_seed(7)) * 20
    with torch.inference_mode():
        expected, found = plain(image), held(image)
    assert torch.equal(expected.mean, found.mean)
    kept = bounded_spread(expected.factor, expected.diagonal - EPSILON, 1.7)
    torch.testing.assert_close(found.factor, kept[0])
    torch.testing.assert_close(found.diagonal, kept[1] + EPSILON)
    assert len(CLASSES) == found.mean.shape[1]


@pytest.mark.parametrize(
    "head",
    [None, {}, {"rank": 2}, {"kind": "low_rank", "diagonal_only": True}, LowRankSpec(rank=2)],
)
def test_new_low_rank_models_are_bounded(head: object) -> None:
    settings = {"name": "m", "dimensions": 2, "patch": [8, 8]}
    config = TrainConfig.model_validate(settings if head is None else settings | {"head": head})
    assert (config.head.bound, config.head.certain) == (DEFAULT_BOUND, DEFAULT_CERTAIN)
    assert with_options(config, workers=2).head == config.head


@pytest.mark.parametrize("head", [{"bound": 0}, LowRankSpec(bound=0)])
def test_a_new_model_may_have_no_bound(head: object) -> None:
    config = TrainConfig(name="m", dimensions=2, patch=(8, 8), head=head)
    assert (config.head.bound, config.head.certain) == (0, 0)
    assert with_options(config, workers=2).head.bound == 0
    assert (
        TrainConfig(name="m", dimensions=2, patch=(8, 8), head={"kind": "point"}).head
        == PointSpec()
    )


def test_training_may_start_from_a_model_with_another_bound(tmp_path) -> None:
    path = tiny_model(tmp_path / "plain.safetensors", head=LowRankSpec(rank=3))
    held = LowRankSpec(rank=3, bound=1.7, certain=2)
    wanted = read_spec(path).model_copy(update={"head": held})
    assert start_from(str(path), wanted)[1].head == held
    # What is frozen gives the distribution that it gave.
    assert start_from(str(path), wanted, frozen=True)[1].head == LowRankSpec(rank=3)
    with pytest.raises(ConfigError, match="its head is"):
        start_from(str(path), wanted.model_copy(update={"head": LowRankSpec(rank=2, bound=1.7)}))


@pytest.mark.parametrize("bound", [-1.0, 1e-3, 1e4, math.nan, math.inf])
def test_a_bound_that_bounds_nothing_is_refused(bound: float) -> None:
    with pytest.raises(ValidationError, match=r"0 \(none\) or lie between 0.01 and 1000"):
        LowRankSpec(bound=bound)
