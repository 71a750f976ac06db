"""Recipes of `structseg predict`: what they say, and the same voxels again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_structseg import (
    predict,
    reproduce,
)
from napari_structseg.cli import main
from napari_structseg.errors import InputError
from napari_structseg.io.references import file_hash
from napari_structseg.models import HeadSpec
from napari_structseg.results.recipe_files import read_recipe
from nifti_files import save
from predict_helpers import NAMES, OBLIQUE, SHAPE, blob, image, model, refused, run, voxels  # noqa: F401
from tiny_models import tiny_model


def test_recipe_says_what_was_done(image: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "results"
    run(image, "--model", model, "--out", out, "--samples", 1, "--class-scale", "CSF=0.5")
    recipe = json.loads((out / "recipe.json").read_text())
    assert recipe["model"] == {
        "name": "tiny.safetensors",
        "sha256": file_hash(model),
        "model": str(model),
    }
    assert recipe["images"] == [{"name": "T1.nii.gz", "sha256": file_hash(image)}]
    assert (recipe["seed"], recipe["samples"], recipe["device"]) == (7, 1, "cpu")
    assert recipe["controls"] == {
        "temperature": 1.0,
        "class_scale": {"Background": 1, "CSF": 0.5, "Grey matter": 1, "White matter": 1},
        "prior": None,
        "cut": None,
    }
    assert recipe["threads"] == torch.get_num_threads()
    assert set(recipe["versions"]) == {"napari_structseg", "torch", "numpy", "cpu"}
    assert set(recipe["outputs"]) == set(NAMES[:3])


def test_recipe_gives_the_same_voxels(image: Path, model: Path, tmp_path: Path, capsys) -> None:
    first, again, typed = (tmp_path / name for name in ("first", "again", "typed"))
    arguments = ("--samples", 2, "--seed", 11, "--temperature", 1.3, "--class-scale", "CSF=-0.3")
    assert run(image, "--model", model, "--out", first, *arguments) == 0
    assert run("--recipe", first / "recipe.json", image, "--out", again) == 0
    assert "to the last voxel" in capsys.readouterr().err
    command = list(read_recipe(first / "recipe.json").command)
    assert command[:2] == ["structseg", "predict"]
    command[command.index("--out") + 1] = str(typed)
    assert main(command[1:]) == 0
    for name in NAMES:
        expected = voxels(first / name)
        assert voxels(again / name).tobytes() == expected.tobytes()
        assert voxels(typed / name).tobytes() == expected.tobytes()
    recipes = [read_recipe(folder / "recipe.json") for folder in (first, again, typed)]
    assert recipes[0].outputs == recipes[1].outputs == recipes[2].outputs


def test_recipe_brings_its_number_of_threads(image: Path, model: Path, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    recipe = predict(image, model, tmp_path / "first", samples=1, threads=before + 1)
    assert recipe.threads == before + 1
    again = reproduce(tmp_path / "first" / "recipe.json", image, tmp_path / "again")
    assert again.threads == before + 1
    assert torch.get_num_threads() == before


def test_image_and_model_of_a_recipe_may_be_elsewhere(
    image: Path, model: Path, tmp_path: Path
) -> None:
    recipe = predict(image, model, tmp_path / "first", samples=1)
    moved = image.rename(tmp_path / "renamed.nii.gz")
    weights = model.rename(tmp_path / "renamed.safetensors")
    path = tmp_path / "first" / "recipe.json"
    again = reproduce(path, moved, tmp_path / "again", model=weights)
    assert again.outputs == recipe.outputs


def test_recipe_refuses_another_image_or_model(
    image: Path, model: Path, tmp_path: Path, capsys
) -> None:
    predict(image, model, tmp_path / "first", samples=0)
    recipe = tmp_path / "first" / "recipe.json"
    out = tmp_path / "again"
    other = save(tmp_path / "other.nii.gz", blob(*SHAPE, seed=1), OBLIQUE)
    says = ("The image is not the one", "other.nii.gz", file_hash(image)[:12])
    refused(capsys, "--recipe", recipe, other, "--out", out, says=says)
    weights = tiny_model(tmp_path / "other.safetensors", head=HeadSpec(rank=2))
    says = ("The model is not the one", "Give the original")
    refused(capsys, "--recipe", recipe, image, "--out", out, "--model", weights, says=says)
    model.unlink()
    refused(capsys, "--recipe", recipe, image, "--out", out, says=("no such file",))


def test_another_image_of_a_recipe_is_named_before_what_else_is_wrong_with_it(
    image: Path, model: Path, tmp_path: Path, capsys
) -> None:
    run(image, "--model", model, "--out", tmp_path / "first", "--samples", 1)
    flat = save(tmp_path / "flat.nii.gz", np.ones((12, 12, 1), np.float32), np.eye(4))
    recipe = tmp_path / "first" / "recipe.json"
    assert run(flat, "--recipe", recipe, "--out", tmp_path / "again") == 2
    assert "The image is not the one that the recipe was made with" in (
        capsys.readouterr().err.replace("\n", " ")
    )


def test_a_recipe_of_the_first_format_keeps_its_names(
    image: Path, model: Path, tmp_path: Path
) -> None:
    made = predict(image, model, tmp_path / "first", samples=2)
    # There, the file of sample 1 was called sample-000.
    of_old = {
        **{name: sha256 for name, sha256 in made.outputs.items() if "sample" not in name},
        "sample-000.nii.gz": made.outputs["sample-001.nii.gz"],
        "sample-001.nii.gz": made.outputs["sample-002.nii.gz"],
    }
    old = made.model_copy(update={"format_version": 1, "outputs": of_old})
    path = tmp_path / "old.json"
    path.write_text(old.model_dump_json())
    again = reproduce(path, image, tmp_path / "again")
    assert again.outputs == of_old
    assert {file.name for file in (tmp_path / "again").iterdir()} == {
        *of_old,
        "recipe.json",
        "volumes.csv",
    }
    assert (
        reproduce(tmp_path / "again" / "recipe.json", image, tmp_path / "third").outputs == of_old
    )


def test_results_that_differ_from_the_recipe_are_reported(
    image: Path, model: Path, tmp_path: Path
) -> None:
    recipe = predict(image, model, tmp_path / "first", samples=1)
    promised = {**recipe.outputs, "sample-001.nii.gz": "0" * 64}
    versions = {**recipe.versions, "torch": "1.0"}
    altered = recipe.model_copy(update={"outputs": promised, "versions": versions})
    path = tmp_path / "altered.json"
    path.write_text(altered.model_dump_json())
    with pytest.raises(InputError, match=r"sample-001\.nii\.gz differ .* torch 1\.0, now"):
        reproduce(path, image, tmp_path / "again")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "not valid JSON"),
        ("[]", "not a recipe of this version"),
        ('{"format_version": 3}', "not a recipe of this version"),
    ],
)
def test_broken_recipe(content: str, says: str, image: Path, tmp_path: Path, capsys) -> None:
    recipe = tmp_path / "recipe.json"
    recipe.write_text(content)
    refused(capsys, "--recipe", recipe, image, "--out", tmp_path / "out", says=(says,))


def test_missing_recipe_and_controls_beside_one(
    image: Path, model: Path, tmp_path: Path, capsys
) -> None:
    out = tmp_path / "out"
    missing = tmp_path / "none.json"
    refused(capsys, "--recipe", missing, image, "--out", out, says=("Cannot read the recipe",))
    predict(image, model, tmp_path / "first", samples=0)
    recipe = tmp_path / "first" / "recipe.json"
    for option in (("--seed", 1), ("--samples", 1), ("--temperature", 1)):
        says = ("come from the recipe",)
        refused(capsys, "--recipe", recipe, image, "--out", out, *option, says=says)
