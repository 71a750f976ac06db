"""Maps of class probabilities in a model's place."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_structseg import Image, PointLogits, load_model, predict, prior_for, read_image
from napari_structseg.cli import main
from napari_structseg.errors import InputError
from napari_structseg.io.references import file_hash
from napari_structseg.models import HeadSpec
from napari_structseg.prediction.probabilities import ProbabilityMaps
from napari_structseg.priors import PriorSpec, refine
from napari_structseg.results.recipe_files import read_recipe
from nifti_files import save
from tiny_models import CLASSES, tiny_model

# In file order.
SHAPE = (10, 12, 8)
AFFINE = np.diag([-1.0, 2, 3, 1])


def probabilities(n_classes: int = 4) -> np.ndarray:
    logits = np.random.default_rng(1).normal(size=(*SHAPE, n_classes))
    exponentials = np.exp(2 * logits)
    return (exponentials / exponentials.sum(axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    voxels = np.random.default_rng(0).uniform(1, 200, SHAPE).astype(np.float32)
    return save(tmp_path / "T1.nii.gz", voxels, AFFINE)


@pytest.fixture
def maps(tmp_path: Path) -> Path:
    return save(tmp_path / "maps.nii.gz", probabilities(), AFFINE)


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return tiny_model(
        tmp_path / "other.safetensors", head=HeadSpec(kind="point"), prior=PriorSpec(iterations=3)
    )


def run(*arguments: object) -> int:
    return main(["predict", *map(str, arguments), "--samples", "0"])


def labels_in(folder: Path) -> np.ndarray:
    return read_image(folder / "mean.nii.gz").data[0]


def test_without_a_prior_the_most_probable_class_is_shown(
    image: Path, maps: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert run(image, "--probabilities", maps, "--out", out) == 0
    shown = read_image(maps).data
    assert np.array_equal(labels_in(out), shown.argmax(axis=0))
    entropy = read_image(out / "entropy.nii.gz").data[0]
    np.testing.assert_allclose(entropy, -(shown * np.log(shown)).sum(axis=0), atol=1e-4)
    recipe = read_recipe(out / "recipe.json")
    assert recipe.model is None
    assert recipe.probabilities[0].sha256 == file_hash(maps)
    assert list(recipe.controls.class_scale) == ["class 0", "class 1", "class 2", "class 3"]


def test_a_prior_refines_them(image: Path, maps: Path, other: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    nudge = ("--nudge", "CSF,grey matter=0")
    assert run(image, "--probabilities", maps, "--prior", other, "--out", out, *nudge) == 0
    opened = read_image(maps)
    unary = torch.from_numpy(opened.data).log()[None]
    dense = refine(prior_for(load_model(other)[0], opened), unary, 3)[0]
    largest = dense.topk(2, dim=0).values
    decided = (largest[0] - largest[1] > 1e-4).numpy()
    assert np.array_equal(labels_in(out)[decided], dense.argmax(dim=0).numpy()[decided])
    assert (labels_in(out) != opened.data.argmax(axis=0)).any()
    names = [one.name for one in CLASSES]
    assert list(read_recipe(out / "recipe.json").controls.class_scale) == names


def test_one_file_for_each_class(image: Path, maps: Path, tmp_path: Path) -> None:
    options = []
    for label, one in enumerate(np.moveaxis(probabilities(), -1, 0)):
        options += ["--probabilities", save(tmp_path / f"c{label}.nii.gz", one, AFFINE)]
    assert run(image, *options, "--out", tmp_path / "files") == 0
    assert run(image, "--probabilities", maps, "--out", tmp_path / "stack") == 0
    made = [read_recipe(tmp_path / name / "recipe.json") for name in ("files", "stack")]
    assert made[0].outputs == made[1].outputs
    assert len(made[0].probabilities) == 4


def test_a_recipe_gives_the_same_voxels(
    image: Path, maps: Path, other: Path, tmp_path: Path, capsys
) -> None:
    first, again, typed = (tmp_path / name for name in ("first", "again", "typed"))
    assert run(image, "--probabilities", maps, "--prior", other, "--out", first) == 0
    repeat = [
        "predict",
        "--recipe",
        str(first / "recipe.json"),
        str(image),
        "--out",
        str(again),
    ]
    for wrong in ((), ("--model", str(other), "--probabilities", str(maps))):
        assert main([*repeat, *wrong]) == 2
        assert "made from class probabilities (maps.nii.gz)" in capsys.readouterr().err
    changed = save(tmp_path / "changed.nii.gz", probabilities()[..., ::-1], AFFINE)
    assert main([*repeat, "--probabilities", str(changed)]) == 2
    assert "probabilities is not the one" in capsys.readouterr().err.replace("\n", " ")
    assert not again.exists()
    assert main([*repeat, "--probabilities", str(maps)]) == 0
    command = json.loads((first / "recipe.json").read_text())["command"]
    command[command.index("--out") + 1] = str(typed)
    assert main(command[1:]) == 0
    made = [read_recipe(folder / "recipe.json") for folder in (first, again, typed)]
    assert made[0].outputs == made[1].outputs == made[2].outputs


def test_a_model_and_maps_are_one_too_many(
    image: Path, maps: Path, other: Path, tmp_path: Path, capsys
) -> None:
    out = tmp_path / "out"
    assert run(image, "--probabilities", maps, "--model", other, "--out", out) == 2
    assert "both came" in capsys.readouterr().err
    predict(image, other, tmp_path / "first", samples=0)
    recipe = tmp_path / "first" / "recipe.json"
    wanted = ["predict", "--recipe", recipe, image, "--out", out, "--probabilities", maps]
    assert main([*map(str, wanted)]) == 2
    assert "Leave out --probabilities" in capsys.readouterr().err.replace("\n", " ")
    assert not out.exists()


def test_maps_are_never_overwritten(image: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    out.mkdir()
    maps = save(out / "mean.nii.gz", probabilities(), AFFINE)
    before = maps.read_bytes()
    assert run(image, "--probabilities", maps, "--out", out, "--overwrite") == 2
    assert "never overwritten" in capsys.readouterr().err.replace("\n", " ")
    assert maps.read_bytes() == before


def unnormalised() -> np.ndarray:
    return probabilities() * 100


def negative() -> np.ndarray:
    voxels = probabilities()
    voxels[0, 0, 0] = (-0.5, 0.5, 0.5, 0.5)
    return voxels


def holed() -> np.ndarray:
    voxels = probabilities()
    voxels[2, 3, 4, 1] = np.nan
    return voxels


@pytest.mark.parametrize(
    ("voxels", "affine", "says"),
    [
        (unnormalised(), AFFINE, ("must sum to 1", "100")),
        (probabilities()[..., 1:], AFFINE, ("must sum to 1", "Add the map of the background")),
        (negative(), AFFINE, ("must not be negative", "-0.5")),
        (holed(), AFFINE, ("finite numbers", "1 of 3840")),
        (probabilities()[..., 0], AFFINE, ("one map for each of 2 to 255 classes", "is 1")),
        (np.full((2, 2, 2, 300), 1 / 300, np.float32), AFFINE, ("2 to 255", "is 300")),
        (probabilities()[1:], AFFINE, ("voxel grid of the image", "(8, 12, 9)", "(8, 12, 10)")),
        (probabilities(), np.diag([-1.0, 2, 2, 1]), ("voxel grid", "affine is another one")),
        (probabilities()[:, :, 3:4], AFFINE, ("voxel grid of the image",)),
    ],
    ids=["percent", "no background", "negative", "NaN", "one", "many", "shape", "affine", "flat"],
)
def test_what_cannot_be_used(voxels, affine, says, image: Path, capsys) -> None:
    maps = save(image.parent / "maps.nii.gz", voxels, affine)
    out = image.parent / "out"
    assert run(image, "--probabilities", maps, "--out", out) == 2
    message = capsys.readouterr().err.replace("\n", " ")
    assert "Traceback" not in message
    for part in says:
        assert part in message
    assert not out.exists()


def test_a_prior_for_other_classes(image: Path, other: Path, tmp_path: Path, capsys) -> None:
    maps = save(tmp_path / "maps.nii.gz", probabilities(3), AFFINE)
    out = tmp_path / "out"
    assert run(image, "--probabilities", maps, "--prior", other, "--out", out) == 2
    message = capsys.readouterr().err.replace("\n", " ")
    assert "3 classes in 3-D was expected, for 'maps', but that of 'other' is for 4" in message
    assert run(image, "--probabilities", maps, "--out", out, "--iterations", 3) == 2
    assert "A model with a prior was expected" in capsys.readouterr().err.replace("\n", " ")
    assert not out.exists()


def test_certainty_is_finite() -> None:
    certain = np.zeros((3, 4, 5, 6), np.uint8)
    certain[1] = 1
    image = Image.from_array(np.zeros((4, 5, 6), np.float32))
    distribution = ProbabilityMaps(Image.from_array(certain, channel_axis=0)).predict(image)
    assert isinstance(distribution, PointLogits)
    mean = distribution.mean()
    assert torch.isfinite(mean).all()
    assert (mean.argmax(dim=0) == 1).all()


def test_flat_maps() -> None:
    maps = Image.from_array(np.full((2, 7, 6), 0.5, np.float32), channel_axis=0)
    image = Image.from_array(np.zeros((7, 6), np.float32))
    assert ProbabilityMaps(maps).predict(image).spatial_shape == (7, 6)
    with pytest.raises(InputError, match="voxel grid"):
        ProbabilityMaps(maps).check(Image.from_array(np.zeros((7, 5), np.float32)))
