"""`structseg predict --cut`: labels of least energy, with strokes, recipes and bad options."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_structseg import Image, Noise, PointLogits, predict, read_image, render_labels
from napari_structseg.controls import Controls
from napari_structseg.distributions import whole
from napari_structseg.errors import ConfigError, InputError
from napari_structseg.models import HeadSpec
from napari_structseg.prediction.source import open_source
from napari_structseg.priors import PriorSpec
from napari_structseg.priors.contrast import CRFSpec, costs_of_logits, edges_of
from napari_structseg.refine.graph_cut.labels import CutLabels
from napari_structseg.refine.graph_cut.minimum import minimum
from napari_structseg.refine.logits import ChosenLogits
from napari_structseg.results.recipe_files import read_recipe
from nifti_files import save
from predict_helpers import NAMES, OBLIQUE, SHAPE, image, model, refused, run, voxels  # noqa: F401
from tiny_models import tiny_model

WEIGHTS = ("--cut-unary", 0.9, "--cut-smooth", 0.2, "--cut-contrast", 1.5, "--cut-scale", 2)
SPEC = CRFSpec(unary=0.9, smooth=0.2, contrast=1.5, scale=2)


def cut_of(distribution, read, spec, noise=None):
    """The definition, from logits and image: no solver."""
    controls = Controls(sample=0 if noise is None else noise.sample)
    logits = ChosenLogits(distribution).problem(controls).logits(whole(read.spatial_shape))
    edges = edges_of(read.data, spacing=read.spacing, neighbours=spec.neighbours)
    return minimum(costs_of_logits(logits.numpy()), edges, spec)


def test_mean_and_samples_are_cut(image: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "results"
    assert run(image, "--model", model, "--out", out, "--samples", 1, "--cut", *WEIGHTS) == 0
    read = read_image(image)
    distribution = open_source(str(model), torch.device("cpu")).predictor.predict(read)
    plain = predict(image, model, tmp_path / "plain", samples=1)
    for name, noise in (("mean", None), ("sample-001", Noise(7, 1))):
        wanted = read.to_file_order(cut_of(distribution, read, SPEC, noise))
        np.testing.assert_array_equal(voxels(out / f"{name}.nii.gz"), wanted)
        assert (wanted != voxels(tmp_path / "plain" / f"{name}.nii.gz")).any()
    # A minimum has no probabilities: the entropy is the model's own.
    made = read_recipe(out / "recipe.json")
    assert made.outputs["entropy.nii.gz"] == plain.outputs["entropy.nii.gz"]
    # What Python gives is the same.
    controls = Controls(coupling="crf", crf=SPEC)
    labels = render_labels(distribution, Noise(7, 1), controls, image=read)
    np.testing.assert_array_equal(voxels(out / "sample-001.nii.gz"), read.to_file_order(labels))


@pytest.mark.parametrize("kind", ["unet", "probabilistic", "mrf"])
def test_the_recipe_reproduces_it(kind: str, image: Path, tmp_path: Path) -> None:
    fields = {
        "unet": {"head": HeadSpec(kind="point")},
        "probabilistic": {"head": HeadSpec(kind="latent")},
        "mrf": {"prior": PriorSpec(iterations=3)},
    }[kind]
    path = tiny_model(tmp_path / "m.safetensors", **fields)
    first, again, typed = (tmp_path / name for name in ("first", "again", "typed"))
    options = ("--samples", 1, "--cut", *WEIGHTS, "--cut-neighbours", "all")
    assert run(image, "--model", path, "--out", first, *options) == 0
    written = json.loads((first / "recipe.json").read_text())["controls"]
    assert written["cut"] == {**SPEC.model_dump(), "neighbours": "all"}
    assert written["prior"] is None
    assert run("--recipe", first / "recipe.json", image, "--out", again) == 0
    command = list(read_recipe(first / "recipe.json").command)[2:]
    command[command.index("--out") + 1] = str(typed)
    assert run(*command) == 0
    made = [read_recipe(folder / "recipe.json") for folder in (first, again, typed)]
    assert made[0].outputs == made[1].outputs == made[2].outputs
    assert made[0].controls == made[1].controls == made[2].controls


def test_weights_that_a_model_has_learned_are_its_defaults(image: Path, tmp_path: Path) -> None:
    learned = CRFSpec(smooth=0.05, contrast=2, scale=3)
    path = tiny_model(tmp_path / "m.safetensors", crf=learned)
    predict(image, path, tmp_path / "learned", samples=0, cut=True)
    predict(image, path, tmp_path / "moved", samples=0, cut=True, cut_smooth=1)
    recipes = [read_recipe(tmp_path / name / "recipe.json") for name in ("learned", "moved")]
    assert recipes[0].controls.cut == learned
    assert recipes[1].controls.cut == learned.model_copy(update={"smooth": 1})


def test_maps_of_probabilities_are_cut(image: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    maps = rng.uniform(size=(*SHAPE, 2)).astype(np.float32)
    maps /= maps.sum(axis=-1, keepdims=True)
    path = save(tmp_path / "maps.nii.gz", maps, OBLIQUE)
    predict(image, None, tmp_path / "out", probabilities=path, samples=0, cut=True, cut_contrast=2)
    read = read_image(image)
    distribution = open_source(None, torch.device("cpu"), probabilities=(path,)).predictor.predict(
        read
    )
    wanted = cut_of(distribution, read, CRFSpec(contrast=2))
    np.testing.assert_array_equal(
        voxels(tmp_path / "out" / "mean.nii.gz"), read.to_file_order(wanted)
    )


def test_strokes_are_kept_whatever_the_weights(image: Path, model: Path, tmp_path: Path) -> None:
    said = np.zeros(SHAPE, np.uint8)
    said[9:12, 8:10, 6] = 4
    said[2, 3, 2] = 2
    strokes = save(tmp_path / "strokes.nii.gz", said, OBLIQUE)
    out = tmp_path / "results"
    options = ("--strokes", strokes, "--cut", "--cut-smooth", 50, "--samples", 2)
    assert run(image, "--model", model, "--out", out, *options) == 0
    for name in NAMES[1:]:
        labels = voxels(out / name)
        np.testing.assert_array_equal(labels[said > 0], said[said > 0] - 1)


def test_slices_of_a_volume_are_cut_where_they_are(image: Path, tmp_path: Path) -> None:
    path = tiny_model(tmp_path / "m.safetensors", dimensions=2)
    for cut in (False, True):
        out = tmp_path / f"cut-{cut}"
        options = ("--cut", "--cut-smooth", 1) if cut else ()
        arguments = ("--slice", "z:4:3", "--samples", 0, *options)
        assert run(image, "--model", path, "--out", out, *arguments) == 0
    plain, cut = (
        read_image(tmp_path / f"cut-{one}" / "mean.nii.gz").data[0] for one in (False, True)
    )
    is_changed = (plain != cut).any(axis=(1, 2))
    assert is_changed[4:7].all()
    assert not is_changed[[0, 1, 2, 3, 7, 8, 9, 10, 11]].any()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--cut", "--cut-smooth=-1"), ("--cut-smooth", "greater than or equal to 0", "-1")),
        (("--cut", "--cut-contrast", "nan"), ("--cut-contrast", "finite")),
        (("--cut", "--cut-scale", "0"), ("--cut-scale", "0.01")),
        (("--cut-smooth", "1"), ("--cut-smooth is about a graph cut", "Add --cut")),
        (("--cut", "--iterations", "3"), ("--cut and --iterations",)),
    ],
)
def test_options_that_cannot_be(options, says, image, tmp_path, capsys) -> None:
    path = tiny_model(tmp_path / "m.safetensors", prior=PriorSpec(iterations=3))
    arguments = (image, "--model", path, "--out", tmp_path / "out", *options)
    refused(capsys, *arguments, says=says)


def test_a_cut_needs_the_image_that_was_segmented() -> None:
    distribution = PointLogits(torch.zeros(2, 3, 4))
    with pytest.raises(ConfigError, match="image="):
        render_labels(distribution, None, Controls(coupling="crf"))
    with pytest.raises(InputError, match=r"An image of shape \(3, 4\)"):
        CutLabels(distribution, Image.from_array(np.zeros((4, 4))))
