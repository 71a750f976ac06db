"""NaN and infinity are an error, and never background."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_structseg.distributions import (
    Combination,
    FiniteSet,
    LatentDecoder,
    LatentNormal,
    LowRankNormal,
    PointLogits,
)
from napari_structseg.distributions.checks import all_finite
from napari_structseg.errors import InputError, WeightsError
from napari_structseg.image import Image
from napari_structseg.io.weights import load_weights
from napari_structseg.models import HeadSpec
from napari_structseg.prediction.predictor import Predictor
from napari_structseg.prediction.probabilities import ProbabilityMaps
from tiny_models import tiny_model

KINDS = ("point", "low_rank", "latent", "hierarchical", "heads", "dropout")
BAD = (float("nan"), float("inf"), -float("inf"))


def image() -> Image:
    return Image.from_array(np.random.default_rng(1).uniform(0.1, 1, (18, 16)).astype(np.float32))


def predictor(tmp_path: Path, kind: str) -> Predictor:
    head = HeadSpec(kind=kind, rank=2, members=2, latent_size=2, latent_scales=1)
    path = tiny_model(tmp_path / "m.safetensors", dimensions=2, head=head)
    return Predictor(*load_weights(path))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", BAD[:2])
def test_a_network_with_a_bad_weight_is_refused(tmp_path: Path, kind: str, bad: float) -> None:
    made = predictor(tmp_path, kind)
    with torch.no_grad():
        parameter = next(made.network.head.parameters())
        parameter.view(-1)[0] = bad
    with pytest.raises(WeightsError, match=r"its training failed.*earlier checkpoint"):
        made.predict(image())


def test_a_bad_weight_of_the_latent_prior_is_refused(tmp_path: Path) -> None:
    made = predictor(tmp_path, "latent")
    with torch.no_grad():
        made.network.prior_encoder.statistics.bias[0] = float("nan")
    with pytest.raises(WeightsError, match="latent prior"):
        made.predict(image())


def test_a_factor_beyond_half_precision_is_refused(tmp_path: Path) -> None:
    made = predictor(tmp_path, "low_rank")
    with torch.no_grad():
        made.network.head.factor.bias += 1e5
    with pytest.raises(WeightsError, match=r"covariance factor.*weights are finite"):
        made.predict(image())


def test_improbable_members_stay_finite(tmp_path: Path) -> None:
    made = predictor(tmp_path, "heads")
    with torch.no_grad():
        made.network.head.mean.bias[0] += 1e6
    distribution = made.predict(image())
    assert distribution.members.isfinite().all()
    assert distribution.mean().isfinite().all()


def normal(mean: Tensor, factor: Tensor, diagonal: Tensor) -> LowRankNormal:
    return LowRankNormal(mean, factor, diagonal)


def decoder(first: Tensor, mean: Tensor, weight: Tensor) -> LatentDecoder:
    zeros = torch.zeros(2)
    layers = Combination(weight, torch.ones(2, 2), zeros, torch.ones(2, 2), zeros)
    return LatentDecoder(first, layers, LatentNormal(mean, torch.ones(2)))


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize(
    ("make", "shapes"),
    [
        (normal, [(2, 3, 4), (3, 2, 3, 4), (2, 3, 4)]),
        (decoder, [(2, 3, 4), (2,), (2, 2)]),
        (PointLogits, [(2, 3, 4)]),
        (FiniteSet, [(3, 2, 3, 4)]),
    ],
    ids=["normal", "decoder", "point", "set"],
)
def test_parameters_of_ones_own_are_refused(
    make: Callable[..., object], shapes: list[tuple[int, ...]], place: int, bad: float
) -> None:
    parts = [torch.ones(shape) for shape in shapes]
    make(*parts)
    parts[place % len(parts)].view(-1)[1] = bad
    with pytest.raises(InputError, match="values are NaN and"):
        make(*parts)


def test_a_negative_variance_is_refused() -> None:
    diagonal = torch.ones(2, 3, 4)
    diagonal[0, 1, 1] = -0.5
    with pytest.raises(InputError, match=r"the least is -0\.5"):
        LowRankNormal(torch.zeros(2, 3, 4), torch.zeros(1, 2, 3, 4), diagonal)


def test_a_sum_that_overflows_is_no_reason_to_refuse() -> None:
    assert all_finite(torch.full((100,), 3e38))
    assert not all_finite(torch.tensor([3e38, float("inf"), -float("inf")]))
    PointLogits(torch.full((2, 9, 9), 3e38))


def test_probabilities_that_are_not_finite_are_refused() -> None:
    maps = np.full((2, 4, 4), 0.5, np.float32)
    maps[:, 1, 1] = np.nan
    with pytest.raises(InputError, match="NaN"):
        ProbabilityMaps(Image.from_array(maps, channel_axis=0))
