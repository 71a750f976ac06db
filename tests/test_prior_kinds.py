"""A kind of MRF from outside the package: one module, one entry, held to the contract."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from pydantic import Field, ValidationError
from torch import Tensor, nn

from napari_structseg import Predictor, load_model, prior_for, read_image
from napari_structseg.cli import main
from napari_structseg.errors import WeightsError
from napari_structseg.io.weights import load_weights
from napari_structseg.models import HeadSpec
from napari_structseg.priors import (
    EnergySpec,
    MarkovPrior,
    NetworkSpec,
    PriorSpec,
    refine,
    register,
)
from napari_structseg.priors.spec import _KINDS
from napari_structseg.testing.priors import MarkovPriorContract
from napari_structseg.training.config import TrainConfig
from nifti_files import save
from test_training import make_config
from test_training_prior import trained
from tiny_models import tiny_model

POINT = HeadSpec(kind="point")


class Potts(MarkovPrior):
    """One number: how much likes attract."""

    has_energy = True

    def __init__(self, dimensions: int, n_classes: int, attraction: float) -> None:
        super().__init__(dimensions, n_classes)
        self.attraction = nn.Parameter(torch.tensor(attraction))
        self.register_buffer("identity", torch.eye(n_classes), persistent=False)

    def kernel(self) -> Tensor:
        likes = self.identity.reshape(*self.identity.shape, *[1] * self.dimensions)
        return self.attraction * likes * self.around

    def first_bias(self) -> Tensor:
        return self.attraction.new_zeros(self.n_classes)

    def mix(self, first: Tensor) -> Tensor:
        return first

    def flip_(self, axes: Sequence[int]) -> None:
        """The same in all directions."""


class PottsSpec(PriorSpec):
    kind: Literal["potts"] = Field("potts", description="Likes attract.")
    attraction: float = Field(0.3, description="How much.")

    @property
    def title(self) -> str:
        return "Potts"

    def build(self, dimensions: int, n_classes: int) -> MarkovPrior:
        return Potts(dimensions, n_classes, self.attraction)


@pytest.fixture
def registered() -> Iterator[None]:
    """Known for one test: others list the kinds of the package."""
    register(PottsSpec)
    yield
    del _KINDS["potts"]


@pytest.mark.parametrize("dimensions", [2, 3])
class TestPotts(MarkovPriorContract):
    @pytest.fixture
    def prior(self, dimensions: int) -> MarkovPrior:
        return PottsSpec(attraction=0.7).build(dimensions, 3).double()


@pytest.mark.usefixtures("registered")
def test_a_registered_kind_is_saved_read_and_predicts(tmp_path: Path, capsys) -> None:
    spec = PriorSpec(kind="potts", iterations=3, attraction=0.5)
    assert spec == PottsSpec(iterations=3, attraction=0.5)
    model = tiny_model(tmp_path / "m.safetensors", head=POINT, prior=spec)
    network, read = load_weights(model)
    assert read.prior == spec
    assert isinstance(network.prior, Potts)
    assert main(["info", str(model)]) == 0
    assert "Potts; 3 iterations" in capsys.readouterr().out

    voxels = np.random.default_rng(0).uniform(1, 200, (10, 12, 8)).astype(np.float32)
    path = save(tmp_path / "T1.nii.gz", voxels, np.diag([-1.0, 2, 3, 1]))
    image = read_image(path)
    out = tmp_path / "out"
    wanted = ["predict", str(path), "--model", str(model), "--samples", "0", "--out", str(out)]
    assert main(wanted) == 0
    unary = Predictor(*load_model(model)).predict(image).mean().log_softmax(dim=0)[None]
    prior = prior_for(network, image)
    assert prior is not None
    dense = refine(prior, unary, 3)[0]
    largest = dense.topk(2, dim=0).values
    decided = (largest[0] - largest[1] > 1e-4).numpy()
    written = read_image(out / "mean.nii.gz").data[0]
    assert np.array_equal(written[decided], dense.argmax(dim=0).numpy()[decided])
    assert (written != unary[0].argmax(dim=0).numpy()).any()


@pytest.mark.usefixtures("registered")
def test_a_registered_kind_is_a_table_of_a_configuration_and_learns(tmp_path: Path) -> None:
    table = {"kind": "potts", "attraction": 0.5, "iterations": 3, "max_iterations": 6}
    config = make_config(head=POINT, prior=table, steps=4)
    assert config.prior is not None
    assert config.prior_spec == PottsSpec(iterations=3, attraction=0.5)
    assert config.prior.max_iterations == 6
    assert TrainConfig.model_validate_json(config.model_dump_json()) == config
    network, spec = load_weights(trained(tmp_path / "run", config))
    assert spec.prior == config.prior_spec
    assert isinstance(network.prior, Potts)
    assert float(network.prior.attraction.detach()) != pytest.approx(0.5, abs=1e-9)


def test_a_file_of_an_unknown_kind_says_which_are_known(tmp_path: Path) -> None:
    register(PottsSpec)
    try:
        model = tiny_model(tmp_path / "m.safetensors", prior=PottsSpec())
    finally:
        del _KINDS["potts"]
    with pytest.raises(WeightsError, match=r"prior\.kind: Input should be 'network' or 'energy'"):
        load_weights(model)


@pytest.mark.usefixtures("registered")
def test_two_kinds_have_two_names() -> None:
    class Other(PottsSpec):
        pass

    register(PottsSpec)
    with pytest.raises(ValueError, match="'potts' already"):
        register(Other)


def test_a_kind_keeps_its_own_fields_only() -> None:
    # What a file of an earlier version holds, whatever the kind.
    older = {"kind": "energy", "iterations": 7, "max_filters": None}
    assert PriorSpec.model_validate_json(json.dumps(older)) == EnergySpec(iterations=7)
    assert PriorSpec(**older) == EnergySpec(iterations=7)
    assert PriorSpec() == NetworkSpec()
    for wrong in ({"kind": 3}, {"kind": []}, {"strength": 1}, {"iterations": 0}):
        with pytest.raises(ValidationError):
            PriorSpec.model_validate(wrong)
        with pytest.raises(ValidationError):
            PriorSpec(**wrong)
