"""`structseg predict --strokes`: the voxels that somebody knows condition the results."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from napari_structseg import predict, read_image, reproduce
from napari_structseg.controls import Controls
from napari_structseg.distributions import Strokes
from napari_structseg.distributions.conditioning.settings import Conditioning
from napari_structseg.errors import ConfigError, InputError
from napari_structseg.io.references import file_hash
from napari_structseg.models import HeadSpec
from napari_structseg.prediction.source import open_source
from napari_structseg.render.rendering import render_labels
from napari_structseg.results.recipe_files import read_recipe
from nifti_files import save
from predict_helpers import NAMES, OBLIQUE, SHAPE, image, model, refused, run, voxels  # noqa: F401
from tiny_models import tiny_model

SAID = np.zeros(SHAPE, np.uint8)
SAID[9:12, 8:10, 6] = 4
SAID[2, 3:6, 2] = 2


@pytest.fixture
def strokes(tmp_path: Path) -> Path:
    return save(tmp_path / "strokes.nii.gz", SAID, OBLIQUE)


def test_every_result_has_the_class_of_the_strokes(
    image: Path, model: Path, strokes: Path, tmp_path: Path
) -> None:
    plain, given = tmp_path / "plain", tmp_path / "given"
    assert run(image, "--model", model, "--out", plain, "--samples", 2) == 0
    assert run(image, "--model", model, "--out", given, "--samples", 2, "--strokes", strokes) == 0
    for name in NAMES[1:]:
        labels = voxels(given / name)
        np.testing.assert_array_equal(labels[SAID > 0], SAID[SAID > 0] - 1)
        # More follows than what was said.
        changed = labels != voxels(plain / name)
        assert changed[SAID == 0].any()
        np.testing.assert_allclose(nib.load(given / name).affine, OBLIQUE, atol=1e-5)


def test_the_results_are_those_of_the_conditioned_distribution(
    image: Path, model: Path, strokes: Path, tmp_path: Path
) -> None:
    out = tmp_path / "results"
    predict(image, model, out, samples=1, strokes=strokes)
    source = open_source(str(model), torch.device("cpu"))
    read = read_image(image)
    said = Strokes.from_array(read_image(strokes).data[0], 4)
    distribution = source.predictor.predict(read).conditioned(
        said, Conditioning.on_grid(read.spacing)
    )
    expected = read.to_file_order(render_labels(distribution, None, Controls()))
    np.testing.assert_array_equal(voxels(out / "mean.nii.gz"), expected)


def test_the_recipe_reproduces_it(image: Path, model: Path, strokes: Path, tmp_path: Path) -> None:
    first, again, typed = (tmp_path / name for name in ("first", "again", "typed"))
    renamed = strokes.rename(tmp_path / "mine.nii.gz")
    other = np.where(SAID == 4, 5, np.where(SAID == 2, 9, 0)).astype(np.int16)
    mapped = save(tmp_path / "mapped.nii.gz", other, OBLIQUE)
    labels = ("--stroke-labels", "5=3,9=1")
    assert (
        run(image, "--model", model, "--out", first, "--samples", 2, "--strokes", mapped, *labels)
        == 0
    )
    written = json.loads((first / "recipe.json").read_text())
    assert written["strokes"] == {"name": "mapped.nii.gz", "sha256": file_hash(mapped)}
    assert written["stroke_labels"] == {"5": 3, "9": 1}
    moved = mapped.rename(tmp_path / "moved.nii.gz")
    assert run("--recipe", first / "recipe.json", image, "--out", again, "--strokes", moved) == 0
    command = list(read_recipe(first / "recipe.json").command)[2:]
    command[command.index("--out") + 1] = str(typed)
    command[command.index("--strokes") + 1] = str(moved)
    assert run(*command) == 0
    # The same in the usual values.
    usual = predict(image, model, tmp_path / "usual", samples=2, strokes=renamed)
    outputs = [read_recipe(folder / "recipe.json").outputs for folder in (first, again, typed)]
    assert outputs[0] == outputs[1] == outputs[2] == usual.outputs


def test_a_recipe_wants_its_own_strokes(
    image: Path, model: Path, strokes: Path, tmp_path: Path
) -> None:
    predict(image, model, tmp_path / "with", samples=0, strokes=strokes)
    predict(image, model, tmp_path / "without", samples=0)
    with pytest.raises(InputError, match=r"made with the strokes strokes\.nii\.gz"):
        reproduce(tmp_path / "with" / "recipe.json", image, tmp_path / "new")
    other = save(tmp_path / "other.nii.gz", np.roll(SAID, 1, axis=0), OBLIQUE)
    with pytest.raises(InputError, match="strokes is not the one"):
        reproduce(tmp_path / "with" / "recipe.json", image, tmp_path / "new", strokes=other)
    with pytest.raises(InputError, match="made without strokes"):
        reproduce(tmp_path / "without" / "recipe.json", image, tmp_path / "new", strokes=strokes)


def test_bad_strokes_are_refused_before_anything_is_computed(
    image: Path, model: Path, strokes: Path, tmp_path: Path, capsys
) -> None:
    asked = (image, "--model", model, "--out", tmp_path / "out", "--strokes")
    shifted = OBLIQUE.copy()
    shifted[0, 3] += 5
    cases = {
        "on the voxel grid of the image": save(tmp_path / "a.nii.gz", SAID, shifted),
        "were expected to be 0": save(tmp_path / "b.nii.gz", SAID * 2, OBLIQUE),
        "say nothing": save(tmp_path / "c.nii.gz", np.zeros_like(SAID), OBLIQUE),
        "Whole numbers": save(tmp_path / "d.nii.gz", SAID * np.float32(0.3), OBLIQUE),
        "missing.nii.gz": tmp_path / "missing.nii.gz",
    }
    for says, path in cases.items():
        refused(capsys, *asked, path, says=(says,))
    for labels, says in (
        ("4=3", "says nothing of 2"),
        ("4=3,2=9", "2 is to stand for 9"),
        ("4=3,4=1", "twice"),
        ("4:3", "VALUE=LABEL"),
    ):
        refused(capsys, *asked, strokes, "--stroke-labels", labels, says=(says,))
    with pytest.raises(ConfigError, match="Give a file of them"):
        predict(image, model, tmp_path / "out", stroke_labels={1: 2})


def test_strokes_of_chosen_slices(tmp_path: Path, image: Path, strokes: Path, capsys) -> None:
    flat = tiny_model(tmp_path / "flat.safetensors", dimensions=2, head=HeadSpec(kind="latent"))
    out = tmp_path / "out"
    # z of the viewer runs from superior to inferior.
    asked = (image, "--model", flat, "--strokes", strokes, "--samples", 1)
    position = int(np.flatnonzero(read_image(strokes).data[0].any(axis=(1, 2)))[0])
    assert run(*asked, "--out", out, "--slice", f"z:{position}:2") == 0
    labels, said = read_image(out / "sample-001.nii.gz").data[0], read_image(strokes).data[0]
    here = said[position] > 0
    np.testing.assert_array_equal(labels[position][here], said[position][here] - 1)
    empty = int(np.flatnonzero(~read_image(strokes).data[0].any(axis=(1, 2)))[0])
    refused(
        capsys, *asked, "--out", tmp_path / "none", "--slice", f"z:{empty}", says=("lie elsewhere",)
    )
