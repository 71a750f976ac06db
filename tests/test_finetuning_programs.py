"""A deterministic program gains a distribution from corrections, and stays what it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from finetune_helpers import ball, ball_settings, write_case
from napari_structseg.cli import main
from napari_structseg.distributions import LowRankNormal
from napari_structseg.errors import ConfigError
from napari_structseg.finetuning.families import adopt_run
from napari_structseg.finetuning.run import PARENT_NAME, TUNED_NAME, finetune
from napari_structseg.finetuning.start import load_start
from napari_structseg.image import Image
from napari_structseg.io.weights import load_weights, weights_hash
from napari_structseg.prediction.predictor import Predictor
from program_helpers import Asymmetric, settings_of, traced

EXAMPLE = torch.rand(1, 1, 8, 8, 8)


class WithFeatures(nn.Module):
    """Returns logits, and what its last layer reads."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Asymmetric(n_classes=2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.network.first(x).relu()
        return self.network.second(features), features


def described(folder: Path, *, has_features: bool) -> Path:
    network = WithFeatures() if has_features else Asymmetric(n_classes=2)
    program = traced(network, folder / "program.pt", EXAMPLE)
    outputs = {"outputs": {"features": 1, "n_features": 4}} if has_features else {}
    return settings_of(program, classes=["background", "ball"], **outputs)


def balls() -> Image:
    return Image.from_array(ball(seed=5)[0])


@pytest.mark.parametrize("has_features", [True, False])
def test_a_program_gains_a_distribution_and_keeps_its_mean(
    tmp_path: Path, *, has_features: bool
) -> None:
    model = described(tmp_path, has_features=has_features)
    cases = [write_case(tmp_path, f"case-{seed}", seed) for seed in range(2)]
    settings = ball_settings(tmp_path, model=str(model), cases=cases, stochastic_rank=2)
    start = load_start(settings)
    report = finetune(settings, tmp_path / "run")
    tuned, spec = load_weights(tmp_path / "run" / TUNED_NAME)
    before = {name: one.clone() for name, one in start.network.named_parameters()}
    after = dict(tuned.named_parameters())
    assert after.keys() == before.keys()
    assert all(not torch.equal(after[name], before[name]) for name in before if "factor" in name)
    assert report.n_learning == sum(one.numel() for one in before.values())
    image = balls()
    given = Predictor(*load_weights(model)).predict(image)
    found = Predictor(tuned, spec).predict(image)
    assert isinstance(found, LowRankNormal)
    assert found.rank == 2
    assert torch.equal(found.mean(), given.mean())
    assert found.factor.abs().max() > 0


def test_what_was_learned_is_a_version_like_any_other(tmp_path: Path) -> None:
    model = described(tmp_path, has_features=True)
    run = tmp_path / "run"
    case = write_case(tmp_path)
    names = [str(case["image"][0]), str(case["labels"])]
    asked = ["--case", *names, "--steps", "2", "--batch", "1", "--device", "cpu"]
    asked += ["--validate-every", "1", "--out", str(run)]
    assert main(["finetune", "--model", str(model), "--stochastic-rank", "2", *asked]) == 0
    assert weights_hash(run / PARENT_NAME) == weights_hash(model)
    version = adopt_run(run, tmp_path / "versions")
    _, spec = load_weights(version.checked_weights())
    assert spec.head.is_stochastic
    # What was learned can be learned on.
    again = ball_settings(tmp_path, model=str(version.weights), steps=2)
    finetune(again, tmp_path / "again")
    # A run goes on after its end, or where it was stopped.
    assert main(["finetune", "--resume", "--out", str(tmp_path / "again")]) == 0


def test_a_program_has_nothing_else_that_could_learn(tmp_path: Path) -> None:
    model = described(tmp_path, has_features=False)
    with pytest.raises(ConfigError, match="--stochastic-rank"):
        load_start(ball_settings(tmp_path, model=str(model)))
    has_spread = settings_of(
        tmp_path / "program.pt", classes=["background", "ball"], head="ssn", rank=0
    )
    with pytest.raises(ConfigError, match="has a distribution"):
        load_start(ball_settings(tmp_path, model=str(has_spread), stochastic_rank=2))
