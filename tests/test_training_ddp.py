"""Training in several processes: the gradient, and the run, of one process with the whole batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from napari_structseg.cli import main
from napari_structseg.errors import ConfigError
from napari_structseg.models import BackboneSpec, build_network
from napari_structseg.training.checkpoint import read_checkpoint
from napari_structseg.training.config import LossConfig, TrainConfig
from napari_structseg.training.ddp import Group, check_group
from napari_structseg.training.input.batches import batches
from napari_structseg.training.objectives.objective import Objective
from stacks import TRAINING, write_stack
from test_training import Stripes, make_config, make_spec


def gradients(config: TrainConfig, group: Group, step: int) -> list[torch.Tensor]:
    """Those of the share of a batch that one process has, of the loss per image."""
    torch.manual_seed(0)
    network = build_network(make_spec(config))
    share = group.share(config.batch)
    images, labels = next(batches(Stripes(), config, step, share))
    assert len(images) == config.batch // group.size
    Objective(config, share)(network, images, labels, step).backward()
    return [one.grad for one in network.parameters()]


@pytest.mark.parametrize("antithetic", [False, True])
def test_shares_of_a_batch_have_its_gradient(antithetic: bool) -> None:
    loss = LossConfig(samples=4, mean_only_steps=0, antithetic=antithetic, mean_weight=0.5)
    config = make_config(batch=4, loss=loss)
    whole = gradients(config, Group(), 5)
    halves = [gradients(config, Group(rank, 2), 5) for rank in (0, 1)]
    for one, first, second in zip(whole, *halves, strict=True):
        torch.testing.assert_close((first + second) / 2, one, rtol=1e-4, atol=1e-5)
    # They are of other patches with other noise.
    assert any(not torch.allclose(a, b, rtol=1e-2) for a, b in zip(*halves, strict=True))


def test_one_process_draws_what_it_always_drew() -> None:
    config = make_config(loss=LossConfig(samples=4, mean_only_steps=0))
    torch.manual_seed(0)
    network = build_network(make_spec(config))
    images, labels = next(batches(Stripes(), config, 0))
    alone = Objective(config)(network, images, labels, 0)
    shared = Objective(config, Group().share(config.batch))(network, images, labels, 0)
    assert torch.equal(alone, shared)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"batch": 3}, "multiple of 2"),
        ({"backbone": BackboneSpec(widths=(4, 6), convolutions=(1, 1), norm="batch")}, "batches"),
    ],
)
def test_what_cannot_be_shared_out(fields: dict[str, object], says: str) -> None:
    config = make_config(**fields)
    check_group(config, Group())
    with pytest.raises(ConfigError, match=says):
        check_group(config, Group(0, 2))


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without processes")
def test_torchrun_trains_as_one_process_does(tmp_path: Path) -> None:
    dataset = write_stack(tmp_path / "Dataset")

    def config(steps: int) -> Path:
        path = tmp_path / f"{steps}.toml"
        text = TRAINING.replace("batch = 1", "batch = 4").replace("steps = 2", f"steps = {steps}")
        path.write_text(text.replace("samples = 2", "samples = 2\nmean_only_steps = 0"))
        return path

    def command(steps: int, out: str) -> list[str]:
        return ["train", str(dataset), "--config", str(config(steps)), "--out", str(tmp_path / out)]

    assert main([*command(4, "alone"), "--device", "cpu"]) == 0
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    finished = subprocess.run(
        [
            *(sys.executable, *launcher, "-m", "napari_structseg.cli"),
            *command(3, "together"),
            *("--device", "cpu"),
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert finished.returncode == 0, finished.stderr
    # Only the first process speaks and writes.
    assert finished.stdout.count("2 processes") == 1
    log = (tmp_path / "together" / "log.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in log[1:]] == ["1", "2", "3"]
    assert read_checkpoint(tmp_path / "together" / "checkpoint.safetensors").state.step == 3
    # One process goes on where two stopped.
    assert main([*command(4, "together"), "--device", "cpu", "--resume"]) == 0
    alone, together = (
        load_file(tmp_path / folder / "model.safetensors") for folder in ("alone", "together")
    )
    assert alone.keys() == together.keys()
    for name, weight in alone.items():
        np.testing.assert_allclose(together[name], weight, rtol=1e-3, atol=1e-4, err_msg=name)
