"""What a distribution says of itself: the same samples as those that are rendered."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from napari_structseg.distributions import (
    Combination,
    FiniteSet,
    LatentDecoder,
    LatentNormal,
    LogitDistribution,
    LowRankNormal,
    Noise,
    PointLogits,
    SampledDistribution,
    SliceStack,
)
from napari_structseg.errors import ConfigError, MemoryLimitError
from napari_structseg.named_controls import make_controls
from napari_structseg.render.rendering import render_labels
from napari_structseg.render.summaries import noises_of, summarise

SHAPE, N_CLASSES = (3, 7, 6), 3
NAMES = ["a", "b", "c"]
SCALE = (1.0, 0.5, 2.0)


def point(shape: tuple[int, ...] = SHAPE) -> PointLogits:
    return PointLogits(torch.randn(N_CLASSES, *shape))


def low_rank(shape: tuple[int, ...] = SHAPE) -> LowRankNormal:
    mean = torch.randn(N_CLASSES, *shape)
    return LowRankNormal(mean, torch.randn(2, *mean.shape).half(), torch.rand(mean.shape))


def finite_set(shape: tuple[int, ...] = SHAPE) -> FiniteSet:
    return FiniteSet(torch.randn(4, N_CLASSES, *shape).log_softmax(dim=1))


def decoder(shape: tuple[int, ...] = SHAPE) -> LatentDecoder:
    layers = Combination(
        torch.randn(5, 2), torch.randn(4, 5), torch.randn(4), torch.randn(3, 4), torch.randn(3)
    )
    return LatentDecoder(
        torch.randn(5, *shape), layers, LatentNormal(torch.randn(2), torch.ones(2))
    )


def stack() -> SliceStack:
    return SliceStack([low_rank(SHAPE[1:]) for _ in range(SHAPE[0])], axis=0)


KINDS = (point, low_rank, finite_set, decoder, stack)


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def distribution(request: pytest.FixtureRequest) -> SampledDistribution:
    make: Callable[[], SampledDistribution] = request.param
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return make()


def test_samples_are_those_that_are_rendered(distribution: SampledDistribution) -> None:
    controls = make_controls(
        NAMES, temperature=1.4, class_scale=dict(zip(NAMES, SCALE, strict=True))
    )
    labels = distribution.sample(18, seed=3, temperature=1.4, class_scale=SCALE)
    assert labels.dtype == np.uint8
    assert labels.shape == (18, *SHAPE)
    for number, drawn in enumerate(labels, start=1):
        assert (drawn == render_labels(distribution, Noise(3, number), controls)).all()
    logits = distribution.sample_logits(2, seed=3, temperature=1.4, class_scale=SCALE)
    assert (logits.argmax(dim=1).numpy() == labels[:2]).all()


def test_fewer_samples_are_the_first_of_more(distribution: SampledDistribution) -> None:
    assert (distribution.sample(3) == distribution.sample(5)[:3]).all()


def test_probabilities_and_entropy_are_those_of_the_summaries(
    distribution: SampledDistribution,
) -> None:
    controls = make_controls(NAMES, temperature=0.7)
    noises = [controls.tempered(noise, distribution) for noise in noises_of(7, 20)]
    expected = summarise(distribution, noises, controls.weights_of(distribution))
    probabilities = distribution.probabilities(20, temperature=0.7)
    np.testing.assert_allclose(probabilities, expected.probability, atol=1e-6)
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-5)
    entropy = distribution.entropy(20, temperature=0.7)
    assert entropy.shape == SHAPE
    np.testing.assert_allclose(entropy, expected.entropy, atol=1e-5)


def test_volumes_are_counted_voxels(distribution: SampledDistribution) -> None:
    volumes = distribution.volumes_ml(4, 0.25, temperature=2.0)
    labels = distribution.sample(4, temperature=2.0)
    expected = [[0.25 * (one == label).sum() for label in range(N_CLASSES)] for one in labels]
    assert volumes.tolist() == expected


@pytest.mark.parametrize(
    "wrong",
    [
        {"n": 0},
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"class_scale": (1.0, 2.0)},
        {"class_scale": (1.0, float("inf"), 1.0)},
    ],
    ids=str,
)
def test_what_is_out_of_range_is_refused(
    distribution: SampledDistribution, wrong: dict[str, float]
) -> None:
    with pytest.raises(ConfigError, match="must be"):
        distribution.sample(**{"n": 2, **wrong})


def test_samples_beyond_all_memory_are_refused() -> None:
    with pytest.raises(MemoryLimitError, match="Keeping 1000000000000 samples"):
        point().sample(10**12)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (point, "PointLogits(3 classes, 3 x 7 x 6 voxels, cpu)"),
        (low_rank, "LowRankNormal(3 classes, rank 2, 3 x 7 x 6 voxels, cpu)"),
        (finite_set, "FiniteSet(3 classes, 4 members, 3 x 7 x 6 voxels, cpu)"),
        (decoder, "LatentDecoder(3 classes, 2 latent dimensions, 3 x 7 x 6 voxels, cpu)"),
        (stack, "SliceStack(3 classes, slices of LowRankNormal, 3 x 7 x 6 voxels, cpu)"),
    ],
)
def test_what_a_distribution_looks_like(
    make: Callable[[], LogitDistribution], expected: str
) -> None:
    assert repr(make()) == expected


def test_parameters_are_those_that_were_given() -> None:
    mean, factor, diagonal = torch.randn(2, 4, 5), torch.randn(3, 2, 4, 5), torch.rand(2, 4, 5)
    normal = LowRankNormal(mean, factor, diagonal)
    assert normal.factor is factor
    assert normal.diagonal is diagonal
    members = torch.randn(4, 2, 3, 3).log_softmax(dim=1)
    assert FiniteSet(members).members is members
