"""What nobody should write into a configuration, a data set or a checkpoint, and disks that fail.

Each case ends in a message, before anything large is allocated, and what was written stays whole.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from napari_structseg.errors import ConfigError, InputError, MemoryLimitError, WeightsError
from napari_structseg.models import BackboneSpec, HeadSpec
from napari_structseg.training.checkpoint import read_checkpoint
from napari_structseg.training.config import LossConfig, TrainConfig, read_config
from napari_structseg.training.log import LOG_NAME
from napari_structseg.training.trainer import CHECKPOINT_NAME, WEIGHTS_NAME
from test_cli_train import CONFIG, dataset, train, write_config  # noqa: F401
from test_training import make_config, make_spec, make_trainer, same_files, stop_at

MINIMAL = 'name = "tiny"\ndimensions = 2\npatch = [32, 32]\n'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"steps = {'9' * 5000}", "is not valid TOML"),
        (f"steps = {'9' * 4000}", "steps: whole numbers must lie between"),
        (f"steps = {2**63}", "steps: whole numbers must lie between"),
        (f"[backbone]\nwidths = [4, {2**62}]", "backbone.widths: whole numbers must lie between"),
        (f"x = {'[' * 5000}{']' * 5000}", "nested too deep"),
        (f"{'a.' * 3000}b = 1", "nested too deep|not a valid training configuration"),
        ("x = " + "1" * 2_000_000, "has 2000050 bytes, but a configuration has at most"),
        (
            "[backbone]\nconvolutions = [1, 1, 1, 10000]",
            "backbone.convolutions.3: Input should be less",
        ),
    ],
    ids=lambda value: value[:12],
)
def test_configuration_of_absurd_size_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "tiny.toml"
    path.write_text(MINIMAL + text)
    with pytest.raises(ConfigError, match=reason):
        read_config(path)


@pytest.mark.parametrize(
    ("fields", "error", "reason"),
    [
        (
            {"head": HeadSpec(rank=65_536), "patch": (1024, 1024)},
            MemoryLimitError,
            "A step of training 'tiny' needs about",
        ),
        ({"batch": 10**9}, MemoryLimitError, r"needs about .* Lower batch, patch, loss.samples"),
        ({"loss": LossConfig(samples=10**12)}, MemoryLimitError, "Lower batch"),
        ({"patch": (65_536, 65_536)}, MemoryLimitError, "Lower batch"),
        (
            {"backbone": BackboneSpec(widths=(65_536, 65_536), convolutions=(8, 8))},
            MemoryLimitError,
            "Lower batch",
        ),
    ],
    ids=["rank", "batch", "samples", "patch", "widths"],
)
def test_step_that_does_not_fit_into_memory_is_refused(
    tmp_path: Path, fields, error: type[Exception], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        make_trainer(tmp_path / "run", make_config(**fields))
    assert not (tmp_path / "run").exists()


def test_a_batch_of_a_million_is_refused_before_images_are_read(
    dataset, tmp_path: Path, capsys
) -> None:
    for path in (dataset / "imagesTr").iterdir():
        path.write_bytes(b"broken")
    config = tmp_path / "tiny.toml"
    text = CONFIG.format(steps=4, validate_every=2).replace("batch = 1", f"batch = {10**9}")
    config.write_text(text)
    assert train(dataset, config, tmp_path / "run") == 2
    assert "A batch of 1000000000 patches needs about" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("patch", "norm", "batch", "is_refused"),
    [
        ((8, 8), "instance", 4, True),
        ((8, 9), "instance", 1, False),
        ((8, 8), "batch", 1, True),
        ((8, 8), "batch", 2, False),
        ((1, 1), "none", 1, False),
        ((1, 1), "weight", 1, False),
    ],
)
def test_patch_of_one_voxel_at_the_coarsest_level(
    tmp_path: Path, patch, norm: str, batch: int, *, is_refused: bool
) -> None:
    config = TrainConfig(
        name="tiny",
        dimensions=2,
        patch=patch,
        batch=batch,
        steps=1,
        backbone=BackboneSpec(widths=(2, 2, 2, 2), convolutions=(1, 1, 1, 1), norm=norm),
        head=HeadSpec(kind="point"),
    )
    if is_refused:
        with pytest.raises(ConfigError, match="more than 8 voxels along at least one axis"):
            make_trainer(tmp_path, config)
        return

    class Blank:
        def patch(self, rng):
            return rng.random((1, *patch)).astype("float32"), rng.integers(0, 2, patch, "uint8")

    make_trainer(tmp_path, config, source=Blank(), spec=make_spec(config)).run()


def test_small_patch_is_told_before_data_is_read(tmp_path: Path, capsys) -> None:
    config = tmp_path / "tiny.toml"
    config.write_text(MINIMAL.replace("[32, 32]", "[8, 8]"))
    assert train(tmp_path / "none", config, tmp_path / "run") == 2
    assert "more than 8 voxels along at least one axis" in capsys.readouterr().err


def test_validation_case_that_prediction_refuses_is_told_before_training(
    dataset, tmp_path: Path, capsys
) -> None:
    text = CONFIG.format(steps=4, validate_every=2).replace("[8, 8, 8]", "[20, 20, 20]")
    text = text.replace("[2, 4]", "[2, 2, 2, 2, 2]").replace("[1, 1]", "[1, 1, 1, 1, 1]")
    config = tmp_path / "tiny.toml"
    config.write_text(text)
    assert train(dataset, config, tmp_path / "run") == 2
    assert "c2_0000.nii.gz has (12, 11, 10) voxels on the grid" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "content",
    [
        '{"labels": {"a": 0, "b": ' + "9" * 5000 + '}, "channel_names": {"0": "T1"}}',
        '{"labels": {"a": 0, "b": ' + "9" * 3000 + '}, "channel_names": {"0": "T1"}}',
        '{"labels": {"a": 0, "b": ' + "[" * 5000 + "]" * 5000 + '}, "channel_names": {"0": "T1"}}',
        '{"labels": {"a": 0, "b": ' + "[" * 150 + "]" * 150 + '}, "channel_names": {"0": "T1"}}',
        '{"labels": {"a": 0, "b": 1}, "channel_names": {"' + "9" * 5000 + '": "T1"}}',
        '{"labels": {"a": 0, "b": 1}, "channel_names": {"0": "a"}, "numTraining": ' + "9" * 5000
        + "}",
        '{"labels": {"' + "x" * 11_000_000 + '": 0}}',
        "\xff\xfe",
    ],
    ids=["digits", "fewer digits", "nested", "less nested", "channel", "number", "large", "bytes"],
)  # fmt: skip
def test_dataset_json_of_absurd_size_is_refused(
    dataset, tmp_path: Path, capsys, content: str
) -> None:
    (dataset / "dataset.json").write_text(content, encoding="latin-1")
    assert train(dataset, write_config(tmp_path), tmp_path / "run") == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert len(message) < 1000


# Checkpoints.


def change_checkpoint(path: Path, change) -> None:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    change(tensors, metadata)
    save_file(tensors, path, metadata)


def edit_state(**fields):
    def change(_tensors, metadata) -> None:
        state = json.loads(metadata["napari_structseg_checkpoint"])
        metadata["napari_structseg_checkpoint"] = json.dumps(state | fields)

    return change


def drop(name: str):
    return lambda tensors, _metadata: tensors.pop(name)


def put(name: str, *shape: int):
    return lambda tensors, _metadata: tensors.update({name: torch.zeros(shape)})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (drop("optimiser/0/exp_avg"), r"lacks \['exp_avg'\] of 0"),
        (drop("network/head.mean.bias"), "do not fit the network"),
        (put("optimiser/0/exp_avg", 7), "of shape \\(7,\\)"),
        (put("optimiser/900/step"), "has '900/step'"),
        (put("optimiser/foreign/step"), "has 'foreign/step'"),
        (put("optimiser/²/step"), "has '²/step'"),
        (put("optimiser/0/more", 3), "has '0/more'"),
        (edit_state(step=10**6), "says that step 1000000 of 12 was taken"),
        (edit_state(step=-1), "is not a readable checkpoint"),
        (edit_state(config_json="{}"), "another kind of configuration"),
        (edit_state(history=[{"step": 1}]), "is not a readable checkpoint"),
        (lambda _tensors, metadata: metadata.clear(), "is not a readable checkpoint"),
    ],
)
def test_checkpoint_with_foreign_content_is_refused(tmp_path: Path, change, reason: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        make_trainer(tmp_path).run(stop_at(4))
    change_checkpoint(tmp_path / CHECKPOINT_NAME, change)
    with pytest.raises((WeightsError, ConfigError), match=reason):
        make_trainer(tmp_path, resume=True)


def test_a_run_begun_before_heads_had_a_bound_goes_on_without_one(tmp_path: Path) -> None:
    unbounded = make_config(head=HeadSpec(rank=2, bound=0))
    with pytest.raises(KeyboardInterrupt):
        make_trainer(tmp_path, unbounded).run(stop_at(4))
    recorded = unbounded.model_dump(mode="json")
    del recorded["head"]["bound"]
    change = edit_state(config_json=json.dumps(recorded))
    change_checkpoint(tmp_path / CHECKPOINT_NAME, change)
    with pytest.raises(ConfigError, match=r"different: head\)\. .* say head.bound = 0"):
        make_trainer(tmp_path, make_config(head=HeadSpec(rank=2)), resume=True)
    assert make_trainer(tmp_path, unbounded, resume=True).network.head.bound == 0


def test_a_cut_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        make_trainer(tmp_path).run(stop_at(4))
    path = tmp_path / CHECKPOINT_NAME
    whole = path.read_bytes()
    for size in range(0, len(whole), 997):
        path.write_bytes(whole[:size])
        with pytest.raises(WeightsError, match="is not a readable checkpoint"):
            read_checkpoint(path)


# Disks.


@contextmanager
def full_disk(n_bytes: int) -> Iterator[None]:
    """The system refuses files that are larger, as a full disk does."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(("n_bytes", "name"), [(3000, CHECKPOINT_NAME), (250, LOG_NAME)])
def test_full_disk_ends_the_run_and_keeps_the_last_checkpoint(
    tmp_path: Path, n_bytes: int, name: str
) -> None:
    make_trainer(tmp_path / "straight").run()
    with pytest.raises(KeyboardInterrupt):
        make_trainer(tmp_path / "run").run(stop_at(5))
    before = (tmp_path / "run" / CHECKPOINT_NAME).read_bytes()
    trainer = make_trainer(tmp_path / "run", resume=True)
    with full_disk(n_bytes), pytest.raises(InputError, match=f"Cannot write .*{name}"):
        trainer.run()
    assert (tmp_path / "run" / CHECKPOINT_NAME).read_bytes() == before
    assert not [path for path in (tmp_path / "run").iterdir() if path.name.startswith(".")]
    make_trainer(tmp_path / "run", resume=True).run()
    assert same_files(tmp_path / "run" / WEIGHTS_NAME, tmp_path / "straight" / WEIGHTS_NAME)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a folder nobody may write")
@pytest.mark.parametrize("instead", ["/sys", None])
def test_folder_that_turns_read_only_ends_the_run(tmp_path: Path, instead: str | None) -> None:
    folder, kept = tmp_path / "run", tmp_path / "kept"

    def turn(progress) -> None:
        if progress.step == 5:
            folder.rename(kept)
            if instead is not None:
                # Nobody may make files there, not even an administrator.
                folder.symlink_to(instead)

    with pytest.raises(InputError, match=r"Cannot write .*checkpoint\.safetensors"):
        make_trainer(folder).run(turn)
    assert read_checkpoint(kept / CHECKPOINT_NAME).state.step == 4
    if folder.is_symlink():
        folder.unlink()
    shutil.move(kept, folder)
    make_trainer(folder, resume=True).run()
