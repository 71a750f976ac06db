"""What `structseg predict` refuses: a message with the way out, exit code 2, nothing computed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_structseg import (
    predict,
)
from napari_structseg.errors import ConfigError, InputError
from napari_structseg.results.files import check_disk
from nifti_files import save
from predict_helpers import NAMES, SHAPE, blob, image, model, refused, run  # noqa: F401
from tiny_models import tiny_model


def test_earlier_results_stay_unless_told_otherwise(
    image: Path, model: Path, tmp_path: Path, capsys
) -> None:
    out = tmp_path / "out"
    predict(image, model, out, samples=3)
    mine = out / "notes.txt"
    mine.write_text("mine")
    says = ("already holds results", "--overwrite")
    refused(capsys, image, "--model", model, "--out", out, says=says)
    assert run(image, "--model", model, "--out", out, "--samples", 1, "--overwrite") == 0
    left = sorted(path.name for path in out.iterdir())
    assert left == sorted([*NAMES[:3], "recipe.json", "volumes.csv", "notes.txt"])


def test_an_image_is_never_overwritten(model: Path, tmp_path: Path, capsys) -> None:
    image = save(tmp_path / "mean.nii.gz", blob(*SHAPE))
    before = image.read_bytes()
    says = ("never overwritten",)
    refused(capsys, image, "--model", model, "--out", tmp_path, "--overwrite", says=says)
    assert image.read_bytes() == before


def test_folder_that_cannot_be_written(image: Path, model: Path, tmp_path: Path, capsys) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    for out in (blocked, blocked / "below"):
        refused(capsys, image, "--model", model, "--out", out, says=("Cannot write", str(out)))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--class-scale", "tumour=1"), ("Unknown class 'tumour'", "Grey matter")),
        (("--class-scale", "CSF"), ("needs NAME=VALUE", "'CSF'")),
        (("--class-scale", "CSF=wide"), ("needs NAME=VALUE", "'CSF=wide'")),
        (("--class-scale", "CSF=4"), ("--class-scale of CSF", "less than or equal to 3")),
        (("--class-scale", "CSF=nan"), ("--class-scale of CSF", "finite")),
        (("--class-scale", "CSF=1", "--class-scale", "CSF=2"), ("'CSF' twice",)),
        (("--temperature", "4"), ("temperature", "less than or equal to 3")),
        (("--temperature", "-1"), ("temperature", "greater than or equal to 0")),
        (("--temperature", "inf"), ("temperature", "finite")),
        (("--samples", "-1"), ("number of samples", "-1")),
        (("--samples", "few"), ("few",)),
        (("--samples", "1000000000"), ("number of samples", "up to 100000")),
        (("--threads", "0"), ("number of threads", "0")),
        # The system refuses so many, and torch then ends the process.
        (("--threads", "100000"), ("number of threads", "up to 1024")),
        (("--slice", "z:1000000000000000000"), ("--slice", "at most 9 digits")),
        (("--slice", "z:1", "--box", f"0:{10**18},0:2"), ("--box needs",)),
        (("--seed", "-1"), ("seed", "greater than or equal to 0")),
        (("--device", "abacus"), ("no device 'abacus'", "cpu")),
    ],
)
def test_options_out_of_range(options, says, image: Path, model: Path, capsys) -> None:
    out = image.parent / "out"
    refused(capsys, image, "--model", model, "--out", out, *options, says=says)
    assert not out.exists()


def test_an_empty_name_is_no_folder(
    image: Path, model: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    assert run(image, "--model", model, "--out", "") == 2
    assert "--out, but it is empty" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="but it is empty"):
        predict(image, model, "")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("changes", [{"threads": 100_000}, {"samples": 10**9}])
def test_a_recipe_cannot_ask_for_what_the_options_refuse(
    changes: dict[str, int], image: Path, model: Path, tmp_path: Path, capsys
) -> None:
    recipe = predict(image, model, tmp_path / "first", samples=0)
    path = tmp_path / "altered.json"
    path.write_text(recipe.model_copy(update=changes).model_dump_json())
    out = tmp_path / "again"
    says = ("is not a recipe of this version", next(iter(changes)), "less than or equal to")
    refused(capsys, "--recipe", path, image, "--out", out, says=says)
    assert not out.exists()


def test_samples_beyond_the_disk_are_refused_before_anything_is_computed(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    shape = (int((free / 1000) ** (1 / 3)) * 12,) * 3
    with pytest.raises(InputError, match=r"1000 samples take at least .* GB are free"):
        check_disk(tmp_path, shape, 1000)
    check_disk(tmp_path, (20, 18, 12), 1000)


def test_unknown_options_and_values_of_another_kind(image: Path, model: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"no option 'sample'\. The options are: .*samples"):
        predict(image, model, tmp_path / "out", sample=3)
    with pytest.raises(ConfigError, match=r"Invalid options\. samples: .*'many'"):
        predict(image, model, tmp_path / "out", samples="many")


def test_images_that_cannot_be_used(model: Path, tmp_path: Path, capsys) -> None:
    good = blob(*SHAPE)
    truncated = save(tmp_path / "short.nii", good)
    truncated.write_bytes(truncated.read_bytes()[:-1000])
    holes = good.astype(np.float32)
    holes[3, 4, 5], holes[0, 0, 0] = np.nan, np.inf
    empty = tmp_path / "empty"
    empty.mkdir()
    cases = {
        tmp_path / "missing.nii": ("There is no file",),
        empty: ("is a folder without DICOM files",),
        truncated: ("cut short",),
        save(tmp_path / "holes.nii", holes): ("2 of 4320 voxels are NaN or infinite",),
        save(tmp_path / "singular.nii", good, srow_z=[0, 0, 0, 0], sform_code=1): ("affine",),
        save(tmp_path / "4d.nii", np.stack([good, good], -1)): ("expects 1 channel", "has 2"),
        save(tmp_path / "slice.nii", good[..., :1]): ("works on 3-D images", "2 spatial"),
        save(tmp_path / "5d.nii", np.zeros((4, 4, 4, 2, 2), np.uint8)): ("at most 4 axes",),
    }
    for path, says in cases.items():
        refused(capsys, path, "--model", model, "--out", tmp_path / "out", says=says)
    other = save(tmp_path / "other.nii", blob(8, 8, 8))
    one = save(tmp_path / "one.nii", good)
    two = tiny_model(tmp_path / "two.safetensors", channels=2)
    says = ("must lie on one voxel grid", "other.nii")
    refused(capsys, one, other, "--model", two, "--out", tmp_path / "out", says=says)


def test_a_2d_model_refuses_a_volume(image: Path, tmp_path: Path, capsys) -> None:
    model = tiny_model(tmp_path / "flat.safetensors", dimensions=2)
    says = ("works on 2-D images", "Mark slices of it", "--slice")
    refused(capsys, image, "--model", model, "--out", tmp_path / "out", says=says)


def test_an_image_beyond_memory_is_refused_before_it_is_allocated(
    model: Path, tmp_path: Path, capsys
) -> None:
    # A sparse file: it has the size that its header promises, and takes no room on disk.
    path = save(
        tmp_path / "huge.nii", np.zeros((2, 2, 2), np.uint8), dim=[3, *[10_000] * 3, *[1] * 4]
    )
    with path.open("r+b") as file:
        file.truncate(352 + 10_000**3)
    says = ("needs about", "GB of memory")
    refused(capsys, path, "--model", model, "--out", tmp_path / "out", says=says)


def test_a_distribution_beyond_memory_is_refused_before_it_is_allocated(
    tmp_path: Path, capsys
) -> None:
    # A small image for a model of 10 micrometre voxels.
    model = tiny_model(tmp_path / "fine.safetensors", spacing=(0.01,) * 3)
    image = save(tmp_path / "T1.nii.gz", blob(*SHAPE))
    says = ("Running 'fine' on 'T1'", "GB of memory")
    refused(capsys, image, "--model", model, "--out", tmp_path / "out", says=says)


def test_models_that_cannot_be_used(image: Path, tmp_path: Path, capsys) -> None:
    pickled = tmp_path / "model.pt"
    torch.save({"weight": torch.zeros(2)}, pickled)
    disguised = tmp_path / "model.safetensors"
    disguised.write_bytes(pickled.read_bytes())
    cases = {
        pickled: ("pickled", "refused"),
        disguised: ("pickled", "refused"),
        tmp_path / "none.safetensors": ("no model called", "Shipped models"),
        image: ("not a safetensors file",),
    }
    for path, says in cases.items():
        refused(capsys, image, "--model", path, "--out", tmp_path / "out", says=says)
    refused(capsys, image, "--out", tmp_path / "out", says=("No model was given",))


def test_no_image(model: Path, tmp_path: Path, capsys) -> None:
    refused(capsys, "--model", model, "--out", tmp_path / "out", says=("IMAGE",))


def test_the_program_itself_prints_a_message_and_no_traceback(tmp_path: Path) -> None:
    program = [sys.executable, "-m", "napari_structseg.cli", "predict", str(tmp_path / "no.nii")]
    options = ["--model", str(tmp_path / "no.safetensors"), "--out", str(tmp_path / "out")]
    finished = subprocess.run([*program, *options], capture_output=True, text=True, check=False)
    assert finished.returncode == 2
    assert finished.stderr.splitlines()[-1].startswith("error: There is no model called")
    assert "Traceback" not in finished.stderr
    assert finished.stdout == ""
