"""Specifications of heads: one class for each kind, and what earlier versions wrote."""

from __future__ import annotations

import json
from typing import ClassVar, Literal, get_args

import pytest
import torch
from pydantic import Field, ValidationError

from napari_structseg.io.model_files import find_model
from napari_structseg.io.weights import read_spec
from napari_structseg.models import (
    BackboneSpec,
    ClassSpec,
    HeadSpec,
    LowRankSpec,
    ModelSpec,
    PointSpec,
    build_network,
    head_kinds,
)
from napari_structseg.models.head_spec import Family, Loss
from napari_structseg.models.kinds.latent import LatentSpec
from napari_structseg.prediction.maps.kinds import FAMILIES, background_maps, voxel_bytes
from napari_structseg.training.config import TrainConfig
from napari_structseg.training.objectives.objective import _LOSSES

# What a file of an earlier version holds, whatever the kind.
ALL_FIELDS = {
    "rank": 3,
    "diagonal_only": False,
    "epsilon": 1e-5,
    "latent_size": 2,
    "latent_scales": 1,
    "members": 2,
    "dropout": 0.4,
}


def model_spec(head: object) -> ModelSpec:
    return ModelSpec.model_validate(
        {
            "name": "tiny",
            "dimensions": 2,
            "channels": ["T1"],
            "classes": [
                ClassSpec(name="a", color="#000000"),
                ClassSpec(name="b", color="#ffffff"),
            ],
            "patch": [8, 8],
            "backbone": BackboneSpec(widths=(2, 4), convolutions=(1, 1)),
            "head": head,
        }
    )


def test_every_family_has_maps_and_every_loss_a_function() -> None:
    assert set(FAMILIES) == set(get_args(Family))
    assert set(_LOSSES) == set(get_args(Loss))


@pytest.mark.parametrize("kind", list(head_kinds()))
def test_a_kind_has_its_own_fields_only(kind: str) -> None:
    spec = model_spec({"kind": kind, **ALL_FIELDS})
    assert type(spec.head) is head_kinds()[kind]
    written = json.loads(spec.model_dump_json())["head"]
    assert set(written) == set(head_kinds()[kind].model_fields)
    assert ModelSpec.model_validate_json(spec.model_dump_json()) == spec
    for name, value in ALL_FIELDS.items():
        assert name not in written or written[name] == value


@pytest.mark.parametrize("kind", list(head_kinds()))
def test_a_kind_says_what_its_maps_take(kind: str) -> None:
    spec = model_spec({"kind": kind, **ALL_FIELDS})
    network = build_network(spec)
    statistics = torch.zeros(2 * spec.head.n_latents)
    maps = background_maps(network, spec, (5, 7), statistics)
    distribution = maps.distribution()
    assert distribution.is_stochastic == spec.head.is_stochastic
    assert distribution.n_latents == spec.head.n_latents
    held = [getattr(maps, name) for name in maps.__slots__]
    stored = sum(part.nbytes for part in held if isinstance(part, torch.Tensor))
    assert voxel_bytes(spec) * 35 == stored


def test_a_kind_is_chosen_by_its_name() -> None:
    assert HeadSpec(kind="point") == PointSpec()
    assert HeadSpec(rank=3) == LowRankSpec(rank=3)
    assert model_spec({"rank": 3}).head == LowRankSpec(rank=3)
    assert model_spec(LatentSpec(latent_size=2)).head == LatentSpec(latent_size=2)
    assert type(LowRankSpec(rank=3).model_copy(update={"rank": 4})) is LowRankSpec


@pytest.mark.parametrize(
    "head", [{"kind": "crystal-ball"}, {"kind": 3}, {"kind": []}, {"ranks": 3}, {"rank": 0}, 5]
)
def test_what_is_no_head_is_refused(head: object) -> None:
    with pytest.raises(ValidationError):
        model_spec(head)
    if isinstance(head, dict):
        with pytest.raises(ValueError, match=r"kind|rank"):
            HeadSpec(**head)


def test_the_shipped_models_load() -> None:
    assert read_spec(find_model("brain-tissue")).head == LowRankSpec(rank=10, bound=1.7)
    assert read_spec(find_model("lung-nodule")).head == LatentSpec(latent_size=6)


def test_a_configuration_names_the_field_that_is_wrong() -> None:
    settings = {"name": "m", "dimensions": 2, "patch": [8, 8], "head": {"kind": "dropout"}}
    assert TrainConfig.model_validate(settings).head.n_members == 4


def test_a_kind_of_ones_own_is_one_class() -> None:
    class Doubled(LowRankSpec):
        """A low-rank normal of twice the rank."""

        loss: ClassVar[Loss] = "likelihood"
        kind: Literal["doubled"] = Field("doubled", description="Twice the rank.")

        @property
        def factor_rank(self) -> int:
            return 2 * self.rank

    head = Doubled(rank=2, members=3)
    network = head.build(model_spec({}).frame, None)
    assert network(torch.rand(1, 1, 8, 8)).factor.shape == (1, 4, 2, 8, 8)
