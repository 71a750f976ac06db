from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from napari_structseg.cli import main
from napari_structseg.io.weights import load_weights, weights_hash
from napari_structseg.training.checkpoint import read_checkpoint

CONFIG = """
name = "tiny"
description = "Finds a bright cube."
dimensions = 3
patch = [8, 8, 8]
batch = 1
steps = {steps}
validation_cases = 1
validate_every = {validate_every}
checkpoint_every = 1000
data = "Made up for a test."
licence = "CC0-1.0"

[intensity]
kind = "zscore"

[backbone]
widths = [2, 4]
convolutions = [1, 1]

[head]
rank = 2

[loss]
samples = 2
"""


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Three volumes with a bright cube."""
    folder = tmp_path / "Dataset001_Cube"
    rng = np.random.default_rng(0)
    for sub in ("imagesTr", "labelsTr"):
        (folder / sub).mkdir(parents=True)
    for index in range(3):
        labels = np.zeros((10, 11, 12), np.uint8)
        labels[2:6, 3:7, 4:8] = 1
        image = (labels + 0.3 * rng.standard_normal(labels.shape)).astype(np.float32)
        nib.save(nib.Nifti1Image(image, np.eye(4)), folder / "imagesTr" / f"c{index}_0000.nii.gz")
        nib.save(nib.Nifti1Image(labels, np.eye(4)), folder / "labelsTr" / f"c{index}.nii.gz")
    description = {
        "channel_names": {"0": "T1"},
        "labels": {"background": 0, "cube": 1},
        "numTraining": 3,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


def write_config(folder: Path, *, steps: int = 4, validate_every: int = 2) -> Path:
    path = folder / "tiny.toml"
    path.write_text(CONFIG.format(steps=steps, validate_every=validate_every))
    return path


def train(dataset: Path, config: Path, out: Path, *more: str) -> int:
    return main(
        ["train", str(dataset), "--config", str(config), "--out", str(out), "--device=cpu", *more]
    )


def test_training_gives_weights_and_says_what_is_next(dataset, tmp_path: Path, capsys) -> None:
    out = tmp_path / "run"
    assert train(dataset, write_config(tmp_path), out) == 0
    printed = capsys.readouterr().out
    assert "tiny: background, cube; from step 0 to 4 on cpu" in printed
    assert "step 2: loss" in printed
    assert "Dice of the mean cube 0." in printed
    assert "Dice of samples cube 0." in printed
    assert f"Next: structseg predict IMAGE.nii.gz --model {out / 'model.safetensors'}" in printed
    _, spec = load_weights(out / "model.safetensors")
    assert spec.channels == ("T1",)
    assert spec.training.steps == 4
    assert load_weights(out / "best.safetensors")[1].training.steps in (2, 4)
    assert [s.step for s in read_checkpoint(out / "checkpoint.safetensors").state.history] == [2, 4]


def test_existing_run_is_not_overwritten(dataset, tmp_path: Path, capsys) -> None:
    config, out = write_config(tmp_path), tmp_path / "run"
    assert train(dataset, config, out) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    capsys.readouterr()
    assert train(dataset, config, out) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert train(dataset, config, out, "--resume") == 0
    assert "from step 4 to 4" in capsys.readouterr().out


def test_nothing_to_resume_is_said_before_the_data_is_read(tmp_path: Path, capsys) -> None:
    assert train(tmp_path / "none", write_config(tmp_path), tmp_path / "run", "--resume") == 2
    assert "There is no checkpoint.safetensors in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda d: (d / "labelsTr" / "c1.nii.gz").unlink(), "'c1' has no labels"),
        (lambda d: (d / "imagesTr" / "c2_0000.nii.gz").write_bytes(b"x"), "c2_0000.nii.gz"),
        (lambda d: (d / "dataset.json").unlink(), "dataset.json"),
    ],
)
def test_data_that_does_not_fit_ends_before_training(
    dataset, tmp_path: Path, capsys, change, reason: str
) -> None:
    change(dataset)
    assert train(dataset, write_config(tmp_path), tmp_path / "run") == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert reason in message
    assert "Traceback" not in message
    assert not (tmp_path / "run").exists()


def test_mistake_in_the_configuration_is_told(dataset, tmp_path: Path, capsys) -> None:
    config = tmp_path / "tiny.toml"
    config.write_text(CONFIG.format(steps=-1, validate_every=1))
    assert train(dataset, config, tmp_path / "run") == 2
    assert "steps: Input should be greater than 0" in capsys.readouterr().err


def test_device_that_is_not_there_is_refused(dataset, tmp_path: Path, capsys) -> None:
    config = write_config(tmp_path)
    out = str(tmp_path / "run")
    command = ["train", str(dataset), "--config", str(config), "--out", out, "--device", "cuda:99"]
    assert main(command) == 2
    assert "cuda:99" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["train"],
        ["train", "data", "--out", "run"],
        ["train", "data", "--config", "x.toml", "--out", "run", "--steps", "5"],
        ["trian"],
        ["info", "a", "b"],
    ],
)
def test_mistake_in_the_command_line_is_exit_code_2(arguments, capsys) -> None:
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert "structseg --help" in message


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "napari_structseg.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_error_in_a_terminal_is_one_message() -> None:
    finished = run("info", "no-such-model")
    assert finished.returncode == 2
    assert finished.stdout == ""
    assert finished.stderr.startswith("error: There is no model called 'no-such-model'")
    assert len(finished.stderr.splitlines()) == 1


def test_help_loads_neither_torch_nor_a_viewer() -> None:
    code = """
import sys
from napari_structseg.cli import main
assert main(["--help"]) == 0
assert main(["train", "--help"]) == 0
print(*{"torch", "napari", "qtpy", "nibabel", "scipy"} & set(sys.modules), sep=",", file=sys.stderr)
"""
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert finished.stderr.strip() == ""
    assert "train" in finished.stdout
    assert "--resume" in finished.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_ctrl_c_keeps_the_work_and_resume_continues(dataset, tmp_path: Path) -> None:
    config, out = write_config(tmp_path, steps=100_000, validate_every=1), tmp_path / "run"
    command = [sys.executable, "-m", "napari_structseg.cli", "train", str(dataset)]
    command += ["--config", str(config), "--out", str(out), "--device", "cpu"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    assert process.stdout is not None
    # The first validation says that training is under way.
    assert any(line.startswith("step 1:") for line in process.stdout)
    process.send_signal(signal.SIGINT)
    _, message = process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in message
    step = read_checkpoint(out / "checkpoint.safetensors").state.step
    assert 1 <= step < 100_000
    assert f"Step {step} of 100000 is kept in {out}" in message
    assert "--resume" in message
    assert load_weights(out / "model.safetensors")[1].training.steps == step


def test_info_describes_a_trained_model(dataset, tmp_path: Path, capsys) -> None:
    out = tmp_path / "run"
    train(dataset, write_config(tmp_path), out)
    weights = out / "model.safetensors"
    capsys.readouterr()
    assert main(["info", str(weights)]) == 0
    printed = capsys.readouterr().out
    for part in (
        "tiny",
        "Finds a bright cube.",
        "0 ■ background (#000000)",
        "3-D, patch 8 x 8 x 8 voxels",
        "T1",
        "mean 0 and variance 1",
        "rank 2",
        "Made up for a test.",
        "CC0-1.0",
        "4 steps, seed 0",
    ):
        assert part in printed
    assert main(["info", str(weights), "--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert described["sha256"] == weights_hash(weights)
    assert described["training"]["recipe"]["steps"] == 4
    network, spec = load_weights(weights)
    assert described["parameters"] == sum(p.numel() for p in network.parameters())
    assert [c["name"] for c in described["classes"]] == list(spec.class_names)


def test_a_run_starts_from_the_weights_of_another(dataset, tmp_path: Path, capsys) -> None:
    assert train(dataset, write_config(tmp_path), tmp_path / "first") == 0
    first = tmp_path / "first" / "model.safetensors"
    # A step so small that the weights stay what they were.
    config = write_config(tmp_path, steps=1)
    config.write_text(config.read_text() + "\n[optimiser]\nlearning_rate = 1e-30\n")
    assert train(dataset, config, tmp_path / "second", "--start", str(first)) == 0
    old, _ = load_weights(first)
    new, spec = load_weights(tmp_path / "second" / "model.safetensors")
    for name, tensor in old.state_dict().items():
        assert np.allclose(new.state_dict()[name], tensor), name
    assert spec.training.initial == weights_hash(first)


def test_a_start_of_another_architecture_is_refused(dataset, tmp_path: Path, capsys) -> None:
    config = write_config(tmp_path)
    assert train(dataset, config, tmp_path / "first") == 0
    config.write_text(config.read_text().replace("rank = 2", "rank = 3"))
    first = tmp_path / "first" / "model.safetensors"
    assert train(dataset, config, tmp_path / "second", "--start", str(first)) == 2
    said = capsys.readouterr().err
    assert "cannot start from model.safetensors: its head is" in said
    assert "rank=3" in said
