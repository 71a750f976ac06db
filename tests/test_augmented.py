"""Test-time augmentation gives a deterministic model members, and says so."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_structseg import FiniteSet, Image, LowRankNormal
from napari_structseg.cli import main
from napari_structseg.errors import ConfigError
from napari_structseg.io.weights import load_weights
from napari_structseg.models import HeadSpec, IntensitySpec
from napari_structseg.prediction.augmented import AugmentedPredictor, Change, changes
from napari_structseg.prediction.predictor import Predictor
from napari_structseg.results.recipe_files import read_recipe
from nifti_files import save
from predict_helpers import OBLIQUE, blob
from tiny_models import tiny_model

CPU = torch.device("cpu")
POINT = HeadSpec(kind="point")
ZSCORE = IntensitySpec(kind="zscore")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_model(tmp_path / "point.safetensors", head=POINT, intensity=ZSCORE)


def smooth_image() -> Image:
    """Anisotropic, with a smooth blob off the middle."""
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, size) for size in (21, 26, 30)], indexing="ij")
    data = np.exp(-3 * ((z - 0.1) ** 2 + (y + 0.2) ** 2 + (x - 0.3) ** 2)).astype(np.float32)
    return Image.from_array(data, spacing=(1.5, 1, 0.8))


def test_what_is_changed_is_changed_back() -> None:
    image = smooth_image()
    maps = torch.from_numpy(image.data)
    for change in (
        Change(flips=(0, 2)),
        Change(plane=(0, 1), angle=0.15),
        Change(flips=(1,), plane=(1, 2), angle=-0.17),
    ):
        changed = change.of_image(image, None)
        assert changed.geometry is image.geometry
        assert np.abs(changed.data - image.data).max() > 0.05
        again = change.back(torch.from_numpy(np.ascontiguousarray(changed.data)), image.spacing)
        inside = (slice(None), slice(2, -2), slice(4, -4), slice(4, -4))
        assert (again[inside] - maps[inside]).abs().max() < 0.03


def test_a_turn_is_in_millimetres() -> None:
    """Turned by a right angle in the plane of two axes, a voxel goes as far in mm as it came."""
    image = Image.from_array(np.zeros((21, 41), np.float32), spacing=(2, 1))
    image.data[0, 5, 20] = 1
    turned = Change(plane=(0, 1), angle=np.pi / 2).of_image(image, None).data[0]
    place = np.unravel_index(turned.argmax(), turned.shape)
    assert place[0] == 10
    assert abs(int(place[1]) - 20) == 10


def test_no_data_stays_no_data_and_order_is_kept() -> None:
    data = np.random.default_rng(0).normal(0, 50, (1, 8, 9)).astype(np.float32)
    data[0, :3] = 0
    image = Image.from_array(data, channel_axis=0)
    made = Change(gamma=1.3).of_image(image, None).data
    assert (made[0, :3] == 0).all()
    order = np.argsort(data[0, 3:].ravel())
    assert (np.diff(made[0, 3:].ravel()[order]) >= 0).all()
    window = Change(gamma=1.3).of_image(image, (-20.0, 30.0)).data
    outside = (data < -20) | (data > 30)
    assert np.array_equal(window[outside], data[outside])
    assert not np.array_equal(window, data)


def test_changes_are_the_same_every_time() -> None:
    every = changes(["flips", "intensity", "rotations"], 8, 3)
    assert every == changes(["flips", "intensity", "rotations"], 8, 3)
    assert every[0] == Change()
    assert len({one.flips for one in every}) == 8
    flips = changes(["flips"], 8, 3)
    assert all(one.gamma == 1 and one.angle == 0 for one in flips)


def test_members_are_what_the_model_says_of_each(model: Path) -> None:
    image = smooth_image()
    base = Predictor(*load_weights(model))
    distribution = AugmentedPredictor(base, ["flips"], 4).predict(image)
    assert isinstance(distribution, FiniteSet)
    for member, change in zip(distribution.members, changes(["flips"], 4, 3), strict=True):
        seen = base.predict(change.of_image(image, None)).mean()
        expected = torch.log_softmax(change.back(seen, image.spacing), dim=0)
        torch.testing.assert_close(member.float(), expected, atol=1e-2, rtol=0)
    normal = AugmentedPredictor(base, ["flips"], 4, "normal").predict(image)
    assert isinstance(normal, LowRankNormal)
    assert normal.rank == 3


def test_it_says_what_it_is(model: Path) -> None:
    base = Predictor(*load_weights(model))
    name = AugmentedPredictor(base, ["rotations", "flips"], 5).spec.name
    assert name == "point, test-time augmentation (rotations, flips; 5 passes)"
    # There are no more sets of axes to flip.
    assert "(flips; 8 passes)" in AugmentedPredictor(base, ["flips"], 30).spec.name


def test_a_model_with_a_distribution_is_refused(tmp_path: Path) -> None:
    base = Predictor(*load_weights(tiny_model(tmp_path / "m.safetensors")))
    with pytest.raises(ConfigError, match="distribution of its own"):
        AugmentedPredictor(base, ["flips"])


def test_the_command_and_its_recipe(model: Path, tmp_path: Path, capsys) -> None:
    image = save(tmp_path / "T1.nii.gz", blob(18, 16, 12), OBLIQUE)
    first, again = tmp_path / "first", tmp_path / "again"
    options = ["--augment", "flips", "--augment", "intensity", "--passes", "3"]
    command = ["predict", str(image), "--model", str(model), "--samples", "2"]
    assert main([*command, *options, "--members-as", "normal", "--out", str(first)]) == 0
    recipe = read_recipe(first / "recipe.json")
    assert (recipe.augment, recipe.passes) == (("flips", "intensity"), 3)
    typed = json.loads((first / "recipe.json").read_text())["command"]
    typed[typed.index("--out") + 1] = str(again)
    assert main(typed[1:]) == 0
    assert read_recipe(again / "recipe.json").outputs == recipe.outputs
    repeat = ["predict", str(image), "--recipe", str(first / "recipe.json"), "--out"]
    assert main([*repeat, str(tmp_path / "third")]) == 0
    for wrong in (
        ["--passes", "4"],
        ["--augment", "noise"],
        ["--augment", "flips", "--passes", "1"],
        ["--augment", "flips", "--passes", "65"],
        ["--augment", "flips", "--slice", "z:1"],
    ):
        assert main([*command, *wrong, "--out", str(tmp_path / "wrong")]) == 2
        assert "Traceback" not in capsys.readouterr().err
