"""A low-rank normal given strokes: against a dense Gaussian, quadrature, and the contract."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_structseg.distributions import LogitDistribution, LowRankNormal, Noise, Spread, Strokes
from napari_structseg.distributions.conditioning.corrected import Corrected
from napari_structseg.distributions.conditioning.rank import RankPosterior
from napari_structseg.distributions.conditioning.said import Said
from napari_structseg.distributions.conditioning.settings import EXACT
from napari_structseg.distributions.conditioning.sites import Sites
from napari_structseg.errors import InputError
from napari_structseg.testing.distributions import NormalContract
from test_distribution_contract import N_CLASSES, SHAPE, dense, parameters

SAID = np.zeros(SHAPE, np.uint8)
SAID[1, 1, 2], SAID[1, 1, 3], SAID[0, 0, 1], SAID[2, 1, 3] = 3, 3, 1, 2
STROKES = Strokes.from_array(SAID, N_CLASSES)
LABELS = torch.from_numpy(STROKES.labels.astype(np.int64))
SIZE = math.prod(SHAPE)
# So that some voxels of the tiny image are beyond it.
NEAR = replace(EXACT, reach=1.5)


def rows_of_strokes() -> Tensor:
    """Where the logits of each stroke voxel are in the flattened logits, ``(n, C)``."""
    classes = torch.arange(N_CLASSES) * SIZE
    return torch.from_numpy(STROKES.voxels)[:, None] + classes


def dense_posterior(mean: Tensor, covariance: Tensor, sites: Sites) -> tuple[Tensor, Tensor]:
    """Mean and covariance by inverting the covariance of all logits."""
    precision, linear = covariance.inverse(), torch.zeros(len(mean), dtype=torch.float64)
    linear += precision @ mean
    for rows, p, k, b in zip(rows_of_strokes(), sites.p, sites.k, sites.b, strict=True):
        precision[rows[:, None], rows] += k * (torch.diag(p) - torch.outer(p, p))
        linear[rows] += b
    posterior = precision.inverse()
    return posterior @ linear, posterior


def given_margins(margin: float, variance: float) -> tuple[LogitDistribution, Sites]:
    normal = LowRankNormal(*parameters())
    sites = Sites.margins(LABELS, N_CLASSES, margin, variance)
    posterior = normal.evidence_at(STROKES.voxels).given(sites)
    return normal.given(posterior, STROKES.voxels, np.arange(len(STROKES))), sites


@pytest.mark.parametrize(("margin", "variance"), [(2.0, 0.1), (5.0, 3.0)])
def test_the_mean_is_that_of_a_dense_gaussian(margin: float, variance: float) -> None:
    mean, factor, diagonal = parameters()
    given, sites = given_margins(margin, variance)
    expected, _ = dense_posterior(mean.flatten().double(), dense(factor, diagonal), sites)
    torch.testing.assert_close(given.mean().flatten().double(), expected, atol=1e-5, rtol=0)


def test_margins_are_observed_with_their_noise() -> None:
    """Sites in information form say what a dense observation of every margin says."""
    mean, factor, diagonal = parameters()
    covariance, mean = dense(factor, diagonal), mean.flatten().double()
    # Of one voxel with two rivals: its two margins, with correlated noise of 2 C / k each.
    rows, label = rows_of_strokes()[0], int(LABELS[0])
    others = [c for c in range(N_CLASSES) if c != label]
    h = torch.zeros((2, len(mean)), dtype=torch.float64)
    for row, other in enumerate(others):
        h[row, rows[label]], h[row, rows[other]] = 1, -1
    noise = 0.5 * torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
    gain = covariance @ h.T @ (h @ covariance @ h.T + noise).inverse()
    expected = mean + gain @ (torch.full((2,), 4.0, dtype=torch.float64) - h @ mean)
    normal = LowRankNormal(*parameters())
    sites = Sites.margins(LABELS[:1], N_CLASSES, 4.0, variance=1.0)
    posterior = normal.evidence_at(STROKES.voxels[:1]).given(sites)
    given = normal.given(posterior, STROKES.voxels[:1], np.arange(1))
    torch.testing.assert_close(given.mean().flatten().double(), expected, atol=1e-5, rtol=0)


class TestConditionedNormal(NormalContract):
    """Matheron's samples have the moments of the dense posterior, and keep the contract."""

    @pytest.fixture
    def distribution(self) -> LogitDistribution:
        return given_margins(2.0, 0.7)[0]

    @pytest.fixture
    def covariance(self, distribution: LogitDistribution) -> Tensor:
        mean, factor, diagonal = parameters()
        sites = given_margins(2.0, 0.7)[1]
        return dense_posterior(mean.flatten().double(), dense(factor, diagonal), sites)[1]


class TestCorrected(NormalContract):
    """With the local term: what is left of the covariance there is scaled."""

    @pytest.fixture
    def distribution(self) -> LogitDistribution:
        return LowRankNormal(*parameters()).conditioned(STROKES, NEAR)

    @pytest.fixture
    def covariance(self, distribution: LogitDistribution) -> Tensor:
        assert isinstance(distribution, Corrected)
        sites = exact_sites()
        mean, factor, diagonal = parameters()
        posterior = dense_posterior(mean.flatten().double(), dense(factor, diagonal), sites)[1]
        kept = torch.ones(SIZE, dtype=torch.float64)
        kept[distribution._term.voxels] = torch.from_numpy(distribution._term.kept).double()
        assert 0 < int((kept < 1).sum()) < SIZE
        kept = kept.repeat(N_CLASSES)
        return kept[:, None] * posterior * kept


class TestCroppedCorrected(TestCorrected):
    REGION = (slice(0, 3, 2), slice(0, 2), slice(1, 4))

    @pytest.fixture
    def distribution(self) -> LogitDistribution:
        return LowRankNormal(*parameters()).conditioned(STROKES, NEAR).crop(self.REGION)

    @pytest.fixture
    def covariance(self, distribution: LogitDistribution) -> Tensor:
        whole = LowRankNormal(*parameters()).conditioned(STROKES, NEAR)
        assert isinstance(whole, Corrected)
        mean, factor, diagonal = parameters()
        posterior = dense_posterior(mean.flatten().double(), dense(factor, diagonal), exact_sites())
        kept = torch.ones(SIZE, dtype=torch.float64)
        kept[whole._term.voxels] = torch.from_numpy(whole._term.kept).double()
        kept = kept.repeat(N_CLASSES)
        every = torch.arange(N_CLASSES * SIZE).reshape(N_CLASSES, *SHAPE)
        rows = every[(slice(None), *self.REGION)].flatten()
        return (kept[:, None] * posterior[1] * kept)[rows][:, rows]


def exact_sites() -> Sites:
    normal = LowRankNormal(*parameters()).evidence_at(STROKES.voxels).normal
    return normal.laplace(Said.strokes(STROKES.labels, N_CLASSES, 1.0), 1.0)


def test_newton_finds_the_mode_of_the_softmax_posterior() -> None:
    mean, factor, diagonal = parameters()
    covariance = dense(factor, diagonal)
    eta, _ = dense_posterior(mean.flatten().double(), covariance, exact_sites())
    eta.requires_grad_(True)
    beyond = eta - mean.flatten().double()
    logits = eta[rows_of_strokes()]
    own = logits.log_softmax(dim=1).gather(1, LABELS[:, None]).sum()
    log_posterior = own - beyond @ covariance.inverse() @ beyond / 2
    (gradient,) = torch.autograd.grad(log_posterior, eta)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-8, rtol=0)


@pytest.mark.parametrize("far", [-60.0, 60.0])
def test_newton_survives_where_the_model_is_certain(far: float) -> None:
    mean, factor, diagonal = parameters()
    mean[0] += far
    normal = LowRankNormal(mean, 3 * factor, diagonal).evidence_at(STROKES.voxels).normal
    for sharpness, weight in ((1.0, 1.0), (8.0, 5.0)):
        sites = normal.laplace(Said.strokes(STROKES.labels, N_CLASSES, weight), sharpness)
        q = normal.given(sites)
        assert q.isfinite().all()
        # At the mode q is the gradient of the likelihood.
        eta = sharpness * (normal.mean + normal.covariance_times(q))
        target = torch.eye(N_CLASSES, dtype=torch.float64)[LABELS] - eta.softmax(dim=1)
        expected = weight * sharpness * target
        torch.testing.assert_close(q, expected, atol=1e-6, rtol=1e-6)


def test_laplace_is_close_to_quadrature() -> None:
    """Two factors, no noise of their own: the posterior integrated on a grid."""
    mean, factor, _ = parameters()
    normal = LowRankNormal(mean, factor, torch.zeros_like(mean))
    evidence = normal.evidence_at(STROKES.voxels)
    posterior: RankPosterior = evidence.posterior(
        Said.strokes(STROKES.labels, N_CLASSES, 1.0), EXACT
    )
    axis = torch.linspace(-6, 6, 481, dtype=torch.float64)
    z = torch.cartesian_prod(axis, axis)
    logits = evidence.normal.mean + torch.einsum("ncr,gr->gnc", evidence.normal.factor, z)
    own = logits.log_softmax(dim=-1).gather(-1, LABELS[None, :, None].expand(len(z), -1, 1))
    weight = (own.sum(dim=(1, 2)) - z.square().sum(dim=1) / 2).softmax(dim=0)
    exact = weight @ z
    centred = z - exact
    covariance = centred.T @ (weight[:, None] * centred)
    # The mode is not the mean of a skewed posterior: a tenth of its standard deviations.
    torch.testing.assert_close(posterior.shift, exact, atol=0.12, rtol=0)
    torch.testing.assert_close(posterior.covariance, covariance, atol=0.05, rtol=0.1)
    # It is far from where it was.
    assert posterior.shift.norm() > 0.5


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("scales", [(1.0, 1.0, 1.0), (-3.0, 0.0, 3.0)])
def test_every_stroke_voxel_has_its_class(temperature: float, scales: tuple[float, ...]) -> None:
    given = LowRankNormal(*parameters()).conditioned(STROKES)
    place = tuple(STROKES.positions.T)
    assert (given.mean().argmax(dim=0).numpy()[place] == STROKES.labels).all()
    for sample in given.sample(8, temperature=temperature, class_scale=scales):
        assert (sample[place] == STROKES.labels).all()


def test_nothing_said_is_the_distribution_itself() -> None:
    normal = LowRankNormal(*parameters())
    assert normal.conditioned(Strokes.none(SHAPE)) is normal


def test_a_sample_is_kept_where_it_agrees_with_the_strokes() -> None:
    """Of a sample that has the said class by far, next to nothing changes; of another one much."""
    normal = LowRankNormal(*parameters())
    logits = normal.sample_logits(1)[0].flatten(1)
    moved = []
    for label in (int(logits[:, 5].argmax()), int(logits[:, 5].argmin())):
        strokes = Strokes(SHAPE, np.array([5]), np.array([label], np.uint8))
        given = normal.conditioned(strokes, EXACT)
        change = (given.sample_logits(1)[0].flatten(1) - logits).abs()
        moved.append(float(change[:, torch.arange(SIZE) != 5].mean()))
    assert moved[0] < 0.5 * moved[1]


def test_the_calibrated_distribution_is_conditioned() -> None:
    """With calibrated scales S, mean and samples are those of N(mu, S (P P^T + D) S)."""
    mean, factor, diagonal = parameters()
    scale = torch.tensor([0.6, 1.2, 1.8])
    wide = (1, -1, 1, 1, 1)
    calibrated = LowRankNormal(mean, factor, diagonal)
    calibrated.calibrated = Spread(0.6, (1.0, 2.0, 3.0))
    scaled = LowRankNormal(
        mean, factor * scale.view(wide), diagonal * scale.square().view(wide[1:])
    )
    ours, theirs = (one.conditioned(STROKES) for one in (calibrated, scaled))
    torch.testing.assert_close(ours.mean(), theirs.mean())
    offset = ours.offset(Noise(1, 1)) * scale.view(wide[1:])
    torch.testing.assert_close(offset, theirs.offset(Noise(1, 1)))


def test_more_strokes_are_all_strokes_at_once() -> None:
    normal = LowRankNormal(*parameters())
    first, second = SAID.copy(), SAID.copy()
    first[1], second[0] = 0, 0
    one, two = (Strokes.from_array(part, N_CLASSES) for part in (first, second))
    together = normal.conditioned(STROKES)
    for order in ((one, two), (two, one)):
        given = normal.conditioned(order[0]).conditioned(order[1])
        assert torch.equal(given.mean(), together.mean())
        assert torch.equal(given.offset(Noise(1, 2)), together.offset(Noise(1, 2)))


def test_what_the_factors_do_not_reach_changes_nothing_else() -> None:
    """A stroke where P is 0 is honoured, and near it; farther away nothing has changed."""
    shape = (9, 9, 9)
    mean, factor, diagonal = parameters(shape=shape)
    factor[:, :, 4:, 4:, 4:] = 0
    mean[0] += 6
    normal = LowRankNormal(mean, factor, diagonal)
    said = np.zeros(shape, np.uint8)
    said[6, 6, 6] = 2
    given = normal.conditioned(Strokes.from_array(said, 3), replace(EXACT, reach=2.0))
    change = (given.mean() - normal.mean()).abs().amax(dim=0)
    assert change[6, 6, 7] > 1
    far = torch.from_numpy(np.indices(shape)).sub(6).square().sum(dim=0) >= 4
    assert not change[far].any()
    ours, plain = (one.offset(Noise(1, 1)) for one in (given, normal))
    assert torch.equal(ours[:, far], plain[:, far])


def test_the_explanation_tells_what_a_model_can() -> None:
    """One factor that turns both halves the same way cannot make them differ."""
    mean = torch.zeros(2, 4, 4)
    mean[0] = 3.0
    factor = torch.zeros(1, 2, 4, 4)
    factor[0, 1] = 3.0
    normal = LowRankNormal(mean, factor, torch.full_like(mean, 0.01))
    same = np.zeros((4, 4), np.uint8)
    same[0], same[3] = 2, 2
    agreed = normal.conditioned(Strokes.from_array(same, 2), EXACT)
    assert isinstance(agreed, Corrected)
    assert agreed.explanation.n_explained == agreed.explanation.n_voxels == 8
    # All other voxels follow, though nothing was said of them.
    assert (agreed.mean().argmax(dim=0) == 1).all()
    same[3] = 1
    torn = normal.conditioned(Strokes.from_array(same, 2), EXACT)
    assert isinstance(torn, Corrected)
    assert 4 <= torn.explanation.n_only_alone <= 8
    assert torn.explanation.n_impossible == 0
    nowhere = LowRankNormal(mean, 0 * factor, torch.full_like(mean, 0.01))
    stuck = nowhere.conditioned(Strokes.from_array(same, 2), EXACT)
    assert isinstance(stuck, Corrected)
    assert (stuck.explanation.n_explained, stuck.explanation.n_impossible) == (4, 4)


def test_strokes_of_another_image_are_refused() -> None:
    normal = LowRankNormal(*parameters())
    with pytest.raises(InputError, match="on the voxels of the image"):
        normal.conditioned(Strokes.none((3, 3, 3)))
    wrong = Strokes(SHAPE, np.array([1]), np.array([3], np.uint8))
    with pytest.raises(InputError, match="one of class 3"):
        normal.conditioned(wrong)


def test_a_part_is_not_conditioned_again() -> None:
    crop = LowRankNormal(*parameters()).conditioned(STROKES).crop((slice(0, 1),) * 3)
    with pytest.raises(InputError, match="whole image"):
        crop.conditioned(Strokes.none((1, 1, 1)))
