"""Points, finite sets, latent decoders and stacks of slices given strokes."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

import test_latent_decoder as decoders
from napari_structseg.controls import Controls
from napari_structseg.distributions import (
    FiniteSet,
    LatentDecoder,
    LogitDistribution,
    LowRankNormal,
    Noise,
    PointLogits,
    SampledDistribution,
    SliceStack,
    Strokes,
)
from napari_structseg.distributions.conditioning.corrected import Corrected
from napari_structseg.distributions.conditioning.decoder import ConditionedDecoder
from napari_structseg.distributions.conditioning.members import ConditionedSet
from napari_structseg.distributions.conditioning.settings import EXACT, Conditioning
from napari_structseg.errors import InputError
from napari_structseg.testing.distributions import (
    LogitDistributionContract,
    Moments,
    MomentsOf,
    NormalContract,
    per_voxel,
)
from test_finite_set import log_probabilities
from test_slice_stack import PLANE, decoder, normal

SHAPE, N_CLASSES = decoders.SHAPE, decoders.N_CLASSES
SAID = np.zeros(SHAPE, np.uint8)
SAID[1, 1, 2], SAID[0, 0, 1], SAID[2, 1, 3] = 3, 1, 2
STROKES = Strokes.from_array(SAID, N_CLASSES)
# So that the likelihood leaves several members, and nothing reaches the whole tiny image.
MILD = replace(EXACT, weight=0.1, reach=1.5)


def corrected(distribution: SampledDistribution, settings: Conditioning = MILD) -> Corrected:
    given = distribution.conditioned(STROKES, settings)
    assert isinstance(given, Corrected)
    return given


def kept_of(given: Corrected) -> Tensor:
    """What the local term leaves of the flattened offset, ``(C*S,)``, float64."""
    kept = torch.ones(math.prod(SHAPE), dtype=torch.float64)
    kept[given._term.voxels] = torch.from_numpy(given._term.kept).double()
    assert kept.max() == 1
    return kept.repeat(N_CLASSES)


def a_decoder() -> LatentDecoder:
    return LatentDecoder(*decoders.parameters())


def a_set() -> FiniteSet:
    return FiniteSet(log_probabilities())


def a_point() -> PointLogits:
    return PointLogits(log_probabilities()[0])


def a_stack() -> SliceStack:
    return SliceStack([normal(seed) for seed in range(3)], 1)


class TestPoint(NormalContract):
    @pytest.fixture
    def distribution(self) -> LogitDistribution:
        return corrected(a_point())

    @pytest.fixture
    def covariance(self, distribution: LogitDistribution) -> Tensor:
        size = N_CLASSES * math.prod(SHAPE)
        return torch.zeros((size, size), dtype=torch.float64)


class TestFiniteSet(LogitDistributionContract):
    @pytest.fixture
    def distribution(self) -> LogitDistribution:
        return corrected(a_set())

    @pytest.fixture
    def moments(self, distribution: Corrected) -> MomentsOf:
        inner = distribution.model_alone
        assert isinstance(inner, ConditionedSet)
        members = log_probabilities().double()
        probability = torch.tensor(inner.probability, dtype=torch.float64)
        assert probability.min() > 0.02
        assert probability.max() > 1.5 * probability.min()
        mean = (probability.view(-1, 1, 1, 1, 1) * members.exp()).sum(dim=0).log()
        kept = kept_of(distribution)

        def of(controls: Controls) -> Moments:
            scale = kept * per_voxel(controls, distribution)
            return Moments.of((members - mean).flatten(1) * scale, probability)

        return of


class TestLatentDecoder(LogitDistributionContract):
    mean_is_exact = False

    @pytest.fixture
    def distribution(self) -> LogitDistribution:
        return corrected(a_decoder())

    @pytest.fixture
    def moments(self, distribution: Corrected) -> MomentsOf:
        inner = distribution.model_alone
        assert isinstance(inner, ConditionedDecoder)
        first, combination, prior = decoders.parameters()
        centre, root = inner._posterior.mean, inner._posterior.root
        mean = decoders.concatenated(first, combination, prior.mean + prior.sigma * centre)
        nodes, weights = np.polynomial.hermite_e.hermegauss(decoders.N_NODES)
        weights = weights / weights.sum()
        kept = kept_of(distribution)

        def of(controls: Controls) -> Moments:
            rows, probability = [], []
            for (a, p), (b, q) in itertools.product(zip(nodes, weights, strict=True), repeat=2):
                xi = centre + controls.temperature * root @ torch.tensor([a, b]).float()
                z = prior.mean + prior.sigma * xi
                rows.append((decoders.concatenated(first, combination, z) - mean).flatten())
                probability.append(p * q)
            offsets = torch.stack(rows) * kept * per_voxel(controls, distribution)
            return Moments.of(offsets, torch.tensor(probability, dtype=torch.float64))

        return of


@pytest.mark.parametrize("make", [a_point, a_set, a_decoder], ids=["point", "set", "decoder"])
@pytest.mark.parametrize("temperature", [0.0, 1.0, 3.0])
def test_every_stroke_voxel_has_its_class(make, temperature: float) -> None:
    place = tuple(STROKES.positions.T)
    for settings in (MILD, Conditioning()):
        given = make().conditioned(STROKES, settings)
        assert (given.mean().argmax(dim=0).numpy()[place] == STROKES.labels).all()
        scales = (-3.0, 0.5, 3.0)
        for sample in given.sample(4, temperature=temperature, class_scale=scales):
            assert (sample[place] == STROKES.labels).all()


@pytest.mark.parametrize("make", [a_point, a_set, a_decoder], ids=["point", "set", "decoder"])
def test_nothing_said_is_the_distribution_itself(make) -> None:
    distribution = make()
    assert distribution.conditioned(Strokes.none(SHAPE)) is distribution


# --- finite sets


def test_members_that_explain_all_strokes_stay_tied() -> None:
    """However certain they are of them; those that do not are out."""
    members = torch.tensor([[3.0, 0.0], [9.0, 0.0], [0.0, 4.0]])[..., None, None]
    members = members.expand(3, 2, 4, 4).log_softmax(dim=1).clone()
    said = np.zeros((4, 4), np.uint8)
    said[1, 1:4] = 1
    given = FiniteSet(members).conditioned(Strokes.from_array(said, 2), EXACT)
    assert isinstance(given, Corrected)
    inner = given.model_alone
    assert isinstance(inner, ConditionedSet)
    assert inner.probability[0] == inner.probability[1] > 0.49
    assert given.explanation.effective == pytest.approx(2, rel=0.01)
    assert given.explanation.n_explained == 3


def test_samples_come_with_the_probabilities_and_stay_where_they_can() -> None:
    plain = a_set()
    inner = corrected(plain).model_alone
    assert isinstance(inner, ConditionedSet)
    n_members, noises = plain.n_members, [Noise(3, sample) for sample in range(1, 4001)]
    after = [inner._posterior.member(noise) for noise in noises]
    before = [noise.member(n_members) for noise in noises]
    counts = Counter(after)
    for member, probability in enumerate(inner.probability):
        error = 5 * math.sqrt(probability * (1 - probability) / len(noises))
        assert counts[member] / len(noises) == pytest.approx(probability, abs=error)
    same = np.mean([one == other for one, other in zip(before, after, strict=True)])
    most = sum(min(1 / n_members, probability) for probability in inner.probability)
    assert same == pytest.approx(most, abs=0.03)


# --- latent decoders


def quadrature(parts: list[tuple[LatentDecoder, Strokes]]) -> tuple[Tensor, Tensor]:
    """Posterior mean and covariance of the standardised position, on a grid."""
    axis = torch.linspace(-5, 5, 81, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    log = -grid.square().sum(dim=1) / 2
    for one, strokes in parts:
        labels = torch.from_numpy(strokes.labels.astype(np.int64))
        for index, xi in enumerate(grid):
            z = one.latent_mean + one.latent_sigma * xi.float()
            logits = one.decode(z).flatten(1)[:, strokes.voxels].double()
            log[index] += logits.log_softmax(dim=0).gather(0, labels[None]).sum()
    weight = log.softmax(dim=0)
    mean = weight @ grid
    return mean, (grid - mean).T @ (weight[:, None] * (grid - mean))


def test_the_latent_posterior_is_that_of_quadrature() -> None:
    plain = a_decoder()
    given = corrected(plain, EXACT)
    inner = given.model_alone
    assert isinstance(inner, ConditionedDecoder)
    mean, covariance = quadrature([(plain, STROKES)])
    ours = inner._posterior
    # 384 positions, some of them counting: a tenth of a standard deviation of the prior.
    torch.testing.assert_close(ours.mean.double(), mean, atol=0.15, rtol=0)
    torch.testing.assert_close((ours.root @ ours.root.T).double(), covariance, atol=0.15, rtol=0)
    assert mean.norm() > 0.5
    assert given.explanation.latent == pytest.approx(ours.mean.tolist())
    assert given.explanation.effective is not None
    assert 30 < given.explanation.effective <= given.explanation.scored


def test_a_chosen_position_stays_what_it_was() -> None:
    plain = a_decoder()
    inner = corrected(plain).model_alone
    chosen = Noise(1, 0, position=(1.5, -0.5))
    ours = inner.mean() + inner.offset(chosen)
    torch.testing.assert_close(ours, plain.mean() + plain.offset(chosen), atol=1e-5, rtol=1e-5)
    drawn = Noise(1, 1)
    moved = inner.mean() + inner.offset(drawn) - plain.mean() - plain.offset(drawn)
    assert moved.abs().max() > 0.1


def test_many_strokes_are_thinned_and_say_the_same() -> None:
    """A class everywhere: 12,000 voxels; the position goes where the class is most frequent."""
    plain = LatentDecoder(*decoders.parameters((20, 20, 30)))
    said = np.full((20, 20, 30), 2, np.uint8)
    given = plain.conditioned(Strokes.from_array(said, N_CLASSES), replace(EXACT, weight=0.01))
    assert isinstance(given, Corrected)
    before, after = (
        float(one.mean().log_softmax(dim=0)[1].mean()) for one in (plain, given.model_alone)
    )
    assert after > before + 1


def test_where_no_position_fits_the_strokes_hold_all_the_same() -> None:
    """Every voxel of one class, every second of another: no latent vector does that."""
    plain = a_decoder()
    said = (np.indices(SHAPE).sum(axis=0) % 2 + 1).astype(np.uint8)
    given = plain.conditioned(Strokes.from_array(said, N_CLASSES))
    assert isinstance(given, Corrected)
    assert (given.sample(2) == said - 1).all()
    assert given.explanation.n_explained < given.explanation.n_voxels


# --- stacks of slices


def test_a_stack_of_normals_is_one_normal_of_the_volume() -> None:
    slices = [normal(seed) for seed in range(3)]
    stack = SliceStack(slices, 1)
    factor = torch.stack([one.factor for one in slices], dim=3)
    diagonal = torch.stack([one.diagonal for one in slices], dim=2)
    volume = LowRankNormal(stack.mean(), factor, diagonal)
    said = np.zeros(stack.spatial_shape, np.uint8)
    said[1, 0, 2], said[3, 2, 0], said[0, 0, 0] = 2, 1, 1
    strokes = Strokes.from_array(said, 2)
    ours, theirs = stack.conditioned(strokes, EXACT), volume.conditioned(strokes, EXACT)
    torch.testing.assert_close(ours.mean(), theirs.mean())
    assert isinstance(ours, Corrected)
    assert isinstance(theirs, Corrected)
    np.testing.assert_array_equal(ours.explanation.explained, theirs.explanation.explained)
    # The slice of which nothing was said follows.
    middle = (slice(None), slice(None), slice(1, 2))
    assert (ours.model_alone.mean()[middle] - stack.mean()[middle]).abs().max() > 0.05
    for sample in ours.sample(5):
        assert (sample[tuple(strokes.positions.T)] == strokes.labels).all()
    crop = ours.crop((slice(1, 4), slice(0, 3), slice(0, 2)))
    torch.testing.assert_close(crop.offset(Noise(2, 3)), ours.offset(Noise(2, 3))[:, 1:4, 0:3, 0:2])


def test_slices_of_decoders_share_their_position() -> None:
    slices = [decoder(seed) for seed in range(3)]
    stack = SliceStack(slices, 0)
    said = np.zeros((3, *PLANE), np.uint8)
    said[2, 1, 2], said[0, 3, 0], said[0, 0, 1] = 3, 1, 2
    given = stack.conditioned(Strokes.from_array(said, 3), EXACT)
    assert isinstance(given, Corrected)
    parts = [(slices[number], Strokes.from_array(said[number], 3)) for number in (0, 2)]
    mean, _ = quadrature(parts)
    np.testing.assert_allclose(given.explanation.latent, mean, atol=0.2)
    for sample in given.sample(3):
        assert (sample[said > 0] == said[said > 0] - 1).all()
    assert given.explanation.effective is not None


def test_slices_of_sets_share_their_members() -> None:
    members = log_probabilities(shape=(4, 5))
    stack = SliceStack([FiniteSet(members), FiniteSet(members.flip(0))], 2)
    said = np.zeros((4, 5, 2), np.uint8)
    said[1, 2, 0] = 1
    given = stack.conditioned(Strokes.from_array(said, 3), EXACT)
    assert isinstance(given, Corrected)
    inner = given.model_alone
    assert isinstance(inner, SliceStack)
    first, second = inner._slices
    assert isinstance(first, ConditionedSet)
    assert isinstance(second, ConditionedSet)
    assert first.probability == second.probability != (0.25,) * 4


def test_a_kind_that_cannot_be_conditioned_says_so() -> None:
    given = a_set().conditioned(STROKES)
    assert isinstance(given, Corrected)
    with pytest.raises(InputError, match="ConditionedSet says nothing of how"):
        given.model_alone.conditioned(STROKES)
