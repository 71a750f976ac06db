"""``structseg predict`` on DICOM series."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from dicom_files import make_series, oblique, save_series
from napari_structseg import read_image
from predict_helpers import model, refused, run

__all__ = ["model"]


@pytest.fixture
def series(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    voxels = rng.integers(900, 1200, (6, 8, 9)).astype(np.uint16)
    return save_series(tmp_path / "scan", make_series(voxels, orientation=oblique()))


def test_a_folder_is_segmented_where_it_lies(series: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(series, "--model", model, "--out", out, "--samples", 1) == 0
    labels = read_image(out / "mean.nii.gz")
    image = read_image(series)
    assert labels.geometry.same_grid(image.geometry)
    # And any other program finds it there.
    assert np.allclose(nib.load(out / "mean.nii.gz").affine, image.geometry.file_affine, atol=1e-4)


def test_the_recipe_knows_the_series_by_its_contents(
    series: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, again = tmp_path / "first", tmp_path / "again"
    assert run(series, "--model", model, "--out", first, "--samples", 1) == 0
    (reference,) = json.loads((first / "recipe.json").read_text())["images"]
    assert reference["name"] == "scan"
    moved = tmp_path / "moved"
    shutil.move(series, moved)
    arguments = (*sorted(moved.iterdir()), "--recipe", first / "recipe.json")
    assert run(*arguments, "--model", model, "--out", again) == 0
    (moved / "I0003.dcm").write_bytes(
        (moved / "I0003.dcm").read_bytes().replace(b"Thorax", b"THORAX")
    )
    arguments = (moved, "--recipe", first / "recipe.json", "--model", model)
    refused(capsys, *arguments, "--out", tmp_path / "c", says=("not the one", "moved"))


def test_one_of_several_series_is_chosen(
    series: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = make_series(
        np.arange(288, dtype=np.uint16).reshape(4, 8, 9),
        SeriesInstanceUID="1.2.3.4",
        SeriesNumber=5,
    )
    save_series(series / "b", other)
    arguments = (series, "--model", model, "--samples", 0, "--out", tmp_path / "out")
    refused(capsys, *arguments, says=("--series", "1.2.3.4"))
    assert run(*arguments, "--series", 5) == 0
    assert read_image(tmp_path / "out" / "mean.nii.gz").spatial_shape[0] == 4
    recipe = json.loads((tmp_path / "out" / "recipe.json").read_text())
    assert recipe["series"] == "5"
    assert "--series" in recipe["command"]
    arguments = (series, "--recipe", tmp_path / "out" / "recipe.json")
    assert run(*arguments, "--model", model, "--out", tmp_path / "again") == 0
