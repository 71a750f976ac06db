"""What the user did not correct is weakly confirmed: strokes do not overshoot."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import test_latent_decoder as decoders
from napari_structseg.distributions import (
    LatentDecoder,
    LowRankNormal,
    Noise,
    PointLogits,
    SliceStack,
    Strokes,
)
from napari_structseg.distributions.conditioning.confirmed import Confirmed, candidates
from napari_structseg.distributions.conditioning.corrected import Corrected
from napari_structseg.distributions.conditioning.settings import DEFAULT, EXACT

SHAPE = (12, 20, 20)


def disc(radius: float) -> torch.Tensor:
    """Signed distance to a ball, positive inside."""
    grid = torch.from_numpy(np.indices(SHAPE)).float() - torch.tensor([6.0, 10, 10]).view(
        3, 1, 1, 1
    )
    return radius - grid.square().sum(dim=0).sqrt()


def growing() -> LowRankNormal:
    """A ball with a border that moves with the first factor; the second raises it everywhere."""
    distance = disc(5.0)
    mean = torch.stack([-distance, distance])
    border = torch.exp(-distance.square() / 8)
    half = torch.full_like(border, 0.5)
    factor = torch.stack([torch.stack([-border, border]), torch.stack([-half, half])])
    return LowRankNormal(mean, factor, torch.full_like(mean, 0.1))


def outside_the_ball() -> Strokes:
    """The class of the ball, two voxels outside its border."""
    said = np.zeros(SHAPE, np.uint8)
    said[5:8, 9:12, 17] = 2
    return Strokes.from_array(said, 2)


def test_what_was_not_corrected_stays_what_it_was() -> None:
    """Two factors explain the stroke; one of them would flip the other half of the image, too."""
    mean = torch.zeros(2, 20, 20)
    mean[0] = 3.0
    # An object between the halves: what is confirmed lies on it and around it.
    mean[1, :, 9:11] = 8.0
    left, everywhere = torch.zeros(20, 20), torch.zeros(20, 20)
    left[:, :6], everywhere[:, :6], everywhere[:, 11:] = 1.0, 1.0, 3.0
    none = torch.zeros_like(left)
    factor = torch.stack([torch.stack([none, left]), torch.stack([none, everywhere])])
    normal = LowRankNormal(mean, factor, torch.full_like(mean, 0.1))
    said = np.zeros((20, 20), np.uint8)
    said[2:8, 2:4] = 2
    strokes = Strokes.from_array(said, 2)
    share = []
    for n_confirmed in (0, 300):
        given = normal.conditioned(strokes, replace(DEFAULT, n_confirmed=n_confirmed))
        labels = given.mean().argmax(dim=0)
        # What was said holds for all that goes with it.
        assert labels[:, :6].all()
        share.append(float(labels[:, 11:].float().mean()))
    assert share == [1.0, 0.0]


def test_nothing_is_confirmed_near_a_stroke() -> None:
    normal, strokes = growing(), outside_the_ball()
    normal.conditioned(strokes)
    confirmed = normal.confirmed
    assert isinstance(confirmed, Confirmed)
    apart = confirmed.positions[confirmed.apart_from(strokes)]
    distance = np.abs(apart[:, None] - strokes.positions).max(axis=2).min(axis=1)
    assert distance.min() == 4
    every = np.abs(confirmed.positions[:, None] - strokes.positions).max(axis=2).min(axis=1)
    assert len(apart) == (every > 3).sum() < len(every)


def test_they_are_gathered_once_for_a_distribution() -> None:
    normal, strokes = growing(), outside_the_ball()
    first = normal.conditioned(strokes)
    kept = normal.confirmed
    again = normal.conditioned(strokes)
    assert normal.confirmed is kept
    assert torch.equal(first.mean(), again.mean())
    assert torch.equal(first.mean(), growing().conditioned(strokes).mean())
    normal.conditioned(strokes, replace(DEFAULT, n_confirmed=50))
    assert isinstance(normal.confirmed, Confirmed)
    assert len(normal.confirmed.voxels) == 50


def test_what_is_far_from_anything_is_not_confirmed() -> None:
    mean = torch.stack([-disc(3.0), disc(3.0)])
    voxels, logits = candidates(PointLogits(mean), 10**6)
    distance = disc(0.0).flatten().numpy()[voxels]
    # Three voxels beyond the object, along the axes.
    assert -6.5 < distance.min() < -5
    assert (disc(3.0).flatten().numpy() > 0).sum() == (logits.argmax(dim=1) == 1).sum()
    assert torch.equal(logits, mean.flatten(1)[:, torch.from_numpy(voxels)].T)


def test_they_move_nothing_by_themselves() -> None:
    """To leave the model's own probabilities as they are is what they say: exactly."""
    normal = growing()
    normal.conditioned(outside_the_ball())
    confirmed = normal.confirmed
    assert isinstance(confirmed, Confirmed)
    posterior = confirmed.evidence.posterior(confirmed.said(0.3, 1.0), DEFAULT)
    assert not posterior.shift.any()
    assert not posterior.own_mean.any()


def test_fewer_of_them_count_more_each() -> None:
    normal, strokes = growing(), outside_the_ball()
    total = []
    for n_voxels in (10, 100_000):
        settings = replace(DEFAULT, n_confirmed=n_voxels)
        normal.conditioned(strokes, settings)
        confirmed = normal.confirmed
        assert isinstance(confirmed, Confirmed)
        assert len(confirmed.voxels) == 10 or len(confirmed.voxels) < 5000
        total.append(float(confirmed.said(0.3, 1.0).weight.sum()))
    assert total == pytest.approx([0.3 * 10, 0.3 * 100_000])


def test_an_image_without_anything_has_nothing_to_confirm() -> None:
    mean = torch.zeros(2, 12, 12)
    mean[0] = 2.0
    normal = LowRankNormal(mean, torch.ones(1, 2, 12, 12), torch.full_like(mean, 0.1))
    said = np.zeros((12, 12), np.uint8)
    said[4, 4] = 2
    given = normal.conditioned(Strokes.from_array(said, 2))
    assert int(given.mean().argmax(dim=0)[4, 4]) == 1


def test_of_a_large_image_a_lattice_is_looked_at() -> None:
    shape = (150, 160, 170)
    voxels, _ = candidates(PointLogits(torch.stack([torch.zeros(shape), torch.ones(shape)])), 200)
    assert len(voxels) == 200
    steps = np.diff(np.unique(np.stack(np.unravel_index(voxels, shape))[0]))
    assert steps.min() > 1


def test_the_wider_prior_is_of_the_mean_alone() -> None:
    """Samples stray as far as the model says where strokes tell nothing of a factor."""
    normal, strokes = growing(), outside_the_ball()
    factor = normal.factor.clone()
    # A third factor that no stroke voxel knows of, far away.
    third = torch.zeros_like(factor[:1])
    third[0, 1, 0, :4] = 2.0
    normal = LowRankNormal(normal.mean(), torch.cat([factor, third]), normal.diagonal)
    wide, narrow = (
        normal.conditioned(strokes, replace(EXACT, prior_scale=scale)) for scale in (5.0, 1.0)
    )
    assert isinstance(wide, Corrected)
    assert isinstance(narrow, Corrected)
    corner = (slice(0, 1), slice(0, 4), slice(0, 4))
    noises = [Noise(1, sample) for sample in range(1, 60)]
    spreads = [float(one.model_alone.offsets(noises, corner)[:, 1].std()) for one in (wide, narrow)]
    assert spreads[0] == pytest.approx(spreads[1], rel=0.05)
    # The mean goes farther.
    moved = [float((one.model_alone.mean() - normal.mean()).abs().max()) for one in (wide, narrow)]
    assert moved[0] > 1.2 * moved[1]


def test_a_decoder_confirms_less() -> None:
    """The posterior stays nearer to the prior's mean, by a tenth of the weight of a normal's."""
    shape = (10, 12, 14)
    first, layers, prior = decoders.parameters(shape)
    # Otherwise everything is background, and nothing is to be confirmed.
    bias = layers.last_bias - torch.tensor([8.0, 0, 0])
    plain = LatentDecoder(first, replace(layers, last_bias=bias), prior)
    said = np.zeros(shape, np.uint8)
    said[0, :2, :2] = 1 + int(plain.mean().argmin(dim=0)[0, 0, 0])
    strokes = Strokes.from_array(said, decoders.N_CLASSES)
    away = []
    for confirmed in (0.0, 0.3, 30.0):
        given = plain.conditioned(strokes, replace(DEFAULT, confirmed=confirmed))
        assert isinstance(given, Corrected)
        away.append(float(np.linalg.norm(given.explanation.latent)))
    assert away[0] > away[1] > away[2]
    kept = plain.confirmed
    assert isinstance(kept, Confirmed)
    assert kept.evidence.confirmed_share == 0.1


def test_slices_confirm_together() -> None:
    mean = growing().mean()
    factor, diagonal = growing().factor, growing().diagonal
    stack = SliceStack(
        [LowRankNormal(mean[:, z], factor[:, :, z], diagonal[:, z]) for z in range(SHAPE[0])],
        0,
    )
    strokes = outside_the_ball()
    ours, theirs = stack.conditioned(strokes), growing().conditioned(strokes)
    torch.testing.assert_close(ours.mean(), theirs.mean(), atol=1e-4, rtol=1e-4)
