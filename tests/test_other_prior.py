"""The prior of one model on what another one gives, from the command line."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_structseg import Predictor, load_model, prior_for, read_image
from napari_structseg.cli import main
from napari_structseg.errors import ConfigError
from napari_structseg.io.references import file_hash
from napari_structseg.models import ClassSpec, HeadSpec
from napari_structseg.prediction.other_prior import open_prior
from napari_structseg.priors import PriorSpec, refine
from napari_structseg.results.recipe_files import read_recipe
from napari_structseg.widgets.viewer.specs import fitting_priors
from nifti_files import save
from tiny_models import CLASSES, tiny_model

SHAPE = (10, 12, 8)
POINT = HeadSpec(kind="point")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    voxels = np.random.default_rng(0).uniform(1, 200, SHAPE).astype(np.float32)
    return save(tmp_path / "T1.nii.gz", voxels, np.diag([-1.0, 2, 3, 1]))


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A model without a prior."""
    return tiny_model(tmp_path / "plain.safetensors", head=POINT)


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A model with a prior, on other channels."""
    return tiny_model(
        tmp_path / "other.safetensors", head=POINT, channels=2, prior=PriorSpec(iterations=3)
    )


def run(*arguments: object) -> int:
    return main(["predict", *map(str, arguments), "--samples", "0"])


def assert_refined(image: Path, model: Path, other: Path, out: Path, n_iterations: int) -> None:
    opened = read_image(image)
    unary = Predictor(*load_model(model)).predict(opened).mean().log_softmax(dim=0)[None]
    dense = refine(prior_for(load_model(other)[0], opened), unary, n_iterations)[0]
    written = read_image(out / "mean.nii.gz").data[0]
    largest = dense.topk(2, dim=0).values
    decided = (largest[0] - largest[1] > 1e-4).numpy()
    assert np.array_equal(written[decided], dense.argmax(dim=0).numpy()[decided])
    assert (written != unary[0].argmax(dim=0).numpy()).any()


@pytest.mark.parametrize("has_own", [False, True])
def test_it_takes_the_place_of_the_models_own(
    has_own: bool, image: Path, other: Path, tmp_path: Path
) -> None:
    own = PriorSpec(kind="energy", iterations=7) if has_own else None
    model = tiny_model(tmp_path / "m.safetensors", head=POINT, prior=own)
    assert run(image, "--model", model, "--prior", other, "--out", tmp_path / "out") == 0
    assert_refined(image, model, other, tmp_path / "out", 3)
    options = ("--iterations", 5, "--out", tmp_path / "five")
    assert run(image, "--model", model, "--prior", other, *options) == 0
    assert_refined(image, model, other, tmp_path / "five", 5)


def test_a_recipe_names_it_and_gives_the_same_voxels(
    image: Path, plain: Path, other: Path, tmp_path: Path
) -> None:
    first, again, typed = (tmp_path / name for name in ("first", "again", "typed"))
    assert run(image, "--model", plain, "--prior", other, "--out", first) == 0
    recipe = json.loads((first / "recipe.json").read_text())
    assert recipe["controls"]["prior"]["source"] == {
        "name": "other.safetensors",
        "sha256": file_hash(other),
        "model": str(other),
    }
    moved = other.rename(tmp_path / "moved.safetensors")
    repeat = ["predict", "--recipe", str(first / "recipe.json"), str(image), "--out", str(again)]
    assert main(repeat) == 2
    assert main([*repeat, "--prior", str(moved)]) == 0
    moved.rename(other)
    command = recipe["command"]
    command[command.index("--out") + 1] = str(typed)
    assert main(command[1:]) == 0
    made = [read_recipe(folder / "recipe.json") for folder in (first, again, typed)]
    assert made[0].outputs == made[1].outputs == made[2].outputs


def test_a_recipe_accepts_no_other_prior(
    image: Path, plain: Path, other: Path, tmp_path: Path, capsys
) -> None:
    changed = tiny_model(tmp_path / "changed.safetensors", prior=PriorSpec(kind="energy"))
    for name, prior in (("with", ("--prior", other)), ("without", ())):
        assert run(image, "--model", plain, *prior, "--out", tmp_path / name) == 0
    for name, says in (("with", "prior is not the one"), ("without", "no prior of another")):
        recipe = tmp_path / name / "recipe.json"
        out = tmp_path / "again"
        wanted = ["predict", "--recipe", recipe, image, "--out", out, "--prior", changed]
        capsys.readouterr()
        assert main([*map(str, wanted)]) == 2
        assert says in capsys.readouterr().err.replace("\n", " ")
        assert not out.exists()


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "A model with a prior was expected, but 'wrong' has none"),
        (
            {"prior": PriorSpec(), "classes": CLASSES[:3]},
            "4 classes in 3-D was expected, for 'plain', but that of 'wrong' is for 3 classes",
        ),
        ({"prior": PriorSpec(), "dimensions": 2}, "'wrong' is for 4 classes in 2-D"),
    ],
    ids=["no prior", "classes", "dimensions"],
)
def test_what_does_not_fit_is_refused_at_once(
    fields, says: str, image: Path, plain: Path, capsys
) -> None:
    wrong = tiny_model(image.parent / "wrong.safetensors", **fields)
    out = image.parent / "out"
    assert run(image, "--model", plain, "--prior", wrong, "--out", out) == 2
    message = capsys.readouterr().err.replace("\n", " ")
    assert says in message
    assert "Traceback" not in message
    assert not out.exists()


def test_a_model_that_is_not_there(image: Path, plain: Path, tmp_path: Path, capsys) -> None:
    assert run(image, "--model", plain, "--prior", "brian", "--out", tmp_path / "out") == 2
    assert "no model called 'brian'" in capsys.readouterr().err.replace("\n", " ")


def test_classes_of_other_names_go_by_their_order(plain: Path, tmp_path: Path, caplog) -> None:
    german = [ClassSpec(name=f"Klasse {one}", color="#123456") for one in range(4)]
    other = tiny_model(tmp_path / "other.safetensors", prior=PriorSpec(), classes=tuple(german))
    _, spec = load_model(plain)
    with caplog.at_level(logging.WARNING):
        assert open_prior(str(other), spec, torch.device("cpu")).iterations == 10
    (record,) = caplog.records
    for part in ("Klasse 0, Klasse 1", "Background, CSF", "order is taken as it is"):
        assert part in record.getMessage()
    caplog.clear()
    same = tiny_model(tmp_path / "same.safetensors", prior=PriorSpec())
    open_prior(str(same), spec, torch.device("cpu"))
    assert not caplog.records


def test_those_that_fit_are_listed(plain: Path, other: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"nonsense that is no model")
    flat = tiny_model(tmp_path / "flat.safetensors", prior=PriorSpec(), dimensions=2)
    names = [str(one) for one in (plain, other, broken, flat, tmp_path / "gone")]
    assert fitting_priors(names, load_model(plain)[1]) == [str(other)]
    with pytest.raises(ConfigError):
        open_prior(str(flat), load_model(plain)[1], torch.device("cpu"))


def test_what_fits_is_read_again_only_when_the_file_changes(plain: Path, other: Path) -> None:
    refined, before = load_model(plain)[1], other.stat()
    assert fitting_priors([str(other)], refined) == [str(other)]
    # As long, and as old: nothing says that it is another file, so it is not opened.
    other.write_bytes(b"x" * before.st_size)
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert fitting_priors([str(other)], refined) == [str(other)]
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns + 1_000_000_000))
    assert fitting_priors([str(other)], refined) == []
