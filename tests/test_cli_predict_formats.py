"""`structseg predict --format`: the same labels in the files of other programs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_structseg import predict, reproduce
from napari_structseg.errors import ConfigError
from napari_structseg.results.recipe_files import read_recipe
from predict_helpers import image, model, refused, run  # noqa: F401 -- fixtures

OPTIONS = ("--samples", 3, "--seed", 5, "--temperature", 2, "--save-probabilities")


def test_nrrd_holds_the_same_labels(image: Path, model: Path, tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK", reason="the extra [formats] is not installed")
    plain, out = tmp_path / "nifti", tmp_path / "nrrd"
    assert run(image, "--model", model, "--out", plain, *OPTIONS) == 0
    assert run(image, "--model", model, "--out", out, *OPTIONS, "--format", "nrrd") == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "entropy.nrrd",
        "hypotheses.seg.nrrd",
        "mean.seg.nrrd",
        "probabilities.nrrd",
        "recipe.json",
        *[f"sample-00{number}.seg.nrrd" for number in (1, 2, 3)],
        "volumes.csv",
    ]
    for name in ("mean", "sample-002"):
        ours = sitk.ReadImage(str(out / f"{name}.seg.nrrd"))
        other = sitk.ReadImage(str(plain / f"{name}.nii.gz"))
        assert np.array_equal(sitk.GetArrayFromImage(ours), sitk.GetArrayFromImage(other))
        np.testing.assert_allclose(ours.GetOrigin(), other.GetOrigin(), atol=1e-4)
        np.testing.assert_allclose(ours.GetDirection(), other.GetDirection(), atol=1e-5)
    assert (out / "volumes.csv").read_bytes() == (plain / "volumes.csv").read_bytes()
    # The hashes are of voxels, whatever they are written as.
    hashes = [list(read_recipe(folder / "recipe.json").outputs.values()) for folder in (plain, out)]
    assert hashes[0] == hashes[1]


def test_a_recipe_makes_the_same_files_again(image: Path, model: Path, tmp_path: Path) -> None:
    made = predict(image, model, tmp_path / "first", samples=1, format="nrrd")
    again = reproduce(tmp_path / "first" / "recipe.json", image, tmp_path / "second")
    assert again.outputs == made.outputs
    assert (tmp_path / "second" / "mean.seg.nrrd").is_file()
    assert not (tmp_path / "second" / "hypotheses.seg.nrrd").exists()


def test_results_of_another_format_are_replaced_too(
    image: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "results"
    assert run(image, "--model", model, "--out", out, *OPTIONS, "--format", "nrrd") == 0
    capsys.readouterr()
    refused(capsys, image, "--model", model, "--out", out, says=("--overwrite",))
    assert run(image, "--model", model, "--out", out, "--samples", 1, "--overwrite") == 0
    assert not list(out.glob("*.nrrd"))


def test_an_unknown_format_is_refused(image: Path, model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nifti"):
        predict(image, model, tmp_path / "out", format="mha")
    assert not (tmp_path / "out").exists()
