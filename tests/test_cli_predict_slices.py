"""`structseg predict` with a 2-D model on a volume."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from napari_structseg import read_image
from napari_structseg.cli import main
from napari_structseg.models import HeadSpec
from napari_structseg.models.spec import IntensitySpec
from napari_structseg.prediction.region_of_interest import RegionOfInterest
from nifti_files import save
from tiny_models import CLASSES, tiny_model

# x, y, z; x towards the left, so that the array's axes do not run as the file's do.
SHAPE = (26, 22, 9)
AFFINE = np.array([[-0.7, 0, 0, 40], [0, 0.7, 0, -25], [0, 0, 2.5, 12], [0, 0, 0, 1]])
CT = IntensitySpec(kind="window", low=0, high=255, unit="8-bit", hounsfield=(-1000, 1200))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_model(
        tmp_path / "nodules.safetensors",
        dimensions=2,
        intensity=CT,
        head=HeadSpec(kind="latent", latent_size=3),
        classes=CLASSES[:2],
    )


@pytest.fixture
def image(tmp_path: Path) -> Path:
    voxels = np.random.default_rng(0).integers(-1024, 900, SHAPE).astype(np.int16)
    return save(tmp_path / "CT.nii.gz", voxels, AFFINE)


def run(*arguments: object) -> int:
    return main(["predict", *map(str, arguments)])


def voxels(path: Path) -> np.ndarray:
    return np.asanyarray(nib.load(path).dataobj)


def test_labels_lie_where_the_slices_are(tmp_path: Path, model: Path, image: Path) -> None:
    out = tmp_path / "out"
    marks = ("--slice", "z:2:3", "--box", "4:20,3:24")
    marks = (*marks, "--seed", 9, "--save-probabilities")
    assert run(image, "--model", model, "--out", out, "--samples", 2, *marks) == 0
    region = RegionOfInterest.parse("z:2:3", "4:20,3:24").region(SHAPE[::-1])
    stored = nib.load(out / "mean.nii.gz")
    assert stored.shape == SHAPE
    np.testing.assert_allclose(stored.affine, AFFINE)
    for name in ("mean", "sample-001", "sample-002", "entropy"):
        volume = read_image(out / f"{name}.nii.gz").data[0]
        assert volume[region].any()
        rest = volume.copy()
        rest[region] = 0
        assert not rest.any()
    probabilities = read_image(out / "probabilities.nii.gz").data
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-5)
    assert ((probabilities[0] == 1) | (read_image(out / "entropy.nii.gz").data[0] > 0)).all()
    recipe = json.loads((out / "recipe.json").read_text())
    assert recipe["roi"] == {"axis": "z", "start": 2, "count": 3, "box": [[4, 20], [3, 24]]}
    assert recipe["window"] is None
    assert main([*recipe["command"][1:], "--overwrite"]) == 0


def test_the_recipe_makes_it_again(tmp_path: Path, model: Path, image: Path) -> None:
    out, again = tmp_path / "out", tmp_path / "again"
    options = ("--slice", "y:5", "--window=-160:240", "--samples", 1)
    assert run(image, "--model", model, "--out", out, *options) == 0
    command = json.loads((out / "recipe.json").read_text())["command"]
    assert "--window=-160.0:240.0" in command
    assert run(image, "--recipe", out / "recipe.json", "--out", again) == 0
    assert np.array_equal(voxels(out / "mean.nii.gz"), voxels(again / "mean.nii.gz"))
    assert run(image, "--model", model, "--out", again, "--slice", "y:5", "--overwrite") == 0
    entropies = [voxels(one / "entropy.nii.gz") for one in (out, again)]
    assert not np.array_equal(*entropies)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), "Mark slices of it"),
        (("--slice", "40"), "AXIS:INDEX"),
        (("--slice", "z:9"), "must lie within 0 to 9 along z"),
        (("--slice", "z:1:999999999"), "must lie within 0 to 9 along z"),
        (("--slice", f"z:{10**18}"), "numbers of at most 9 digits"),
        (("--slice", "z:1", "--box", "0:99,0:9"), "marked box must lie within 0 to 22 along y"),
        (("--slice", "z:1", "--box", "9"), "START:STOP"),
        (("--box", "0:9,0:9"), "Say which slice"),
        (("--slice", "z:1", "--window", "3"), "LOW:HIGH"),
        (("--slice", "z:1", "--window", "3:2"), "two ascending numbers"),
    ],
)
def test_what_cannot_be_done_is_said(
    tmp_path: Path, model: Path, image: Path, capsys, *, options, says: str
) -> None:
    assert run(image, "--model", model, "--out", tmp_path / "out", *options) == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    assert says in message.replace("\n", " ")
    assert not (tmp_path / "out" / "mean.nii.gz").exists()


def test_values_of_neither_unit_need_a_window(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = np.random.default_rng(0).integers(0, 3000, SHAPE).astype(np.int16)
    image = save(tmp_path / "raw.nii.gz", stored, AFFINE)
    arguments = (image, "--model", model, "--slice", "z:1", "--out", tmp_path / "out")
    assert run(*arguments) == 2
    assert "--window LOW:HIGH" in capsys.readouterr().err
    assert run(*arguments, "--window", "24:2224", "--samples", 0) == 0


def test_only_what_slices_are_for(tmp_path: Path, image: Path, capsys) -> None:
    volumes = tiny_model(tmp_path / "volumes.safetensors")
    out = ("--out", tmp_path / "out")
    assert run(image, "--model", volumes, "--slice", "z:1", *out) == 2
    assert "is 3-D" in capsys.readouterr().err
    assert run(image, "--probabilities", image, "--slice", "z:1", *out) == 2
    assert "class probabilities came" in capsys.readouterr().err


def test_info_says_both_windows(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(model)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "0 to 255 8-bit, or -1000 to 1200 HU, becomes 0 to 1" in shown
