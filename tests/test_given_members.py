"""Members that other programs made become a distribution: a finite set, or a normal."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_structseg import FiniteSet, LowRankNormal, Noise, read_image
from napari_structseg.cli import main
from napari_structseg.errors import ConfigError
from napari_structseg.io.references import file_hash
from napari_structseg.models import HeadSpec
from napari_structseg.prediction.given import OWN_VARIANCE, fit_normal
from napari_structseg.prediction.source import open_source
from napari_structseg.priors import PriorSpec
from napari_structseg.results.recipe_files import read_recipe
from nifti_files import save
from other_programs import (
    OBLIQUE,
    in_file_order,
    probabilities,
    truth,
    write_dataset,
    write_image,
    write_v2,
)
from tiny_models import tiny_model

CPU = torch.device("cpu")
SEEDS = (0, 1, 2)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write_image(tmp_path)


@pytest.fixture
def folds(tmp_path: Path) -> list[Path]:
    folders = [tmp_path / f"fold_{seed}" for seed in SEEDS]
    for folder, seed in zip(folders, SEEDS, strict=True):
        write_v2(folder, probabilities(truth(), seed, sure=0.4))
    return folders


def run(*arguments: object) -> int:
    return main(["predict", *map(str, arguments)])


def logits_of(seed: int, image: Path) -> np.ndarray:
    """Log-probabilities of a fold on the axes of the image."""
    opened = read_image(image)
    maps = np.log(probabilities(truth(), seed, sure=0.4))
    return opened.geometry.from_file(maps)


def test_folds_are_a_finite_set(image: Path, folds: list[Path]) -> None:
    source = open_source(None, CPU, members=folds, case=image.name)
    assert (source.spec.kind, source.spec.n_members, source.model) == ("members", 3, None)
    distribution = source.predictor.predict(read_image(image))
    assert isinstance(distribution, FiniteSet)
    expected = np.stack([logits_of(seed, image) for seed in SEEDS])
    np.testing.assert_allclose(distribution.members.float(), expected, atol=5e-3)
    mean = np.log(np.exp(expected).mean(axis=0))
    np.testing.assert_allclose(distribution.mean(), mean, atol=5e-3)


def test_a_normal_has_their_mean_and_covariance(image: Path, folds: list[Path]) -> None:
    source = open_source(None, CPU, members=folds, members_as="normal", case=image.name)
    assert source.spec.kind == "normal of members"
    normal = source.predictor.predict(read_image(image))
    assert isinstance(normal, LowRankNormal)
    assert normal.rank == len(SEEDS) - 1
    logits = np.stack([logits_of(seed, image).ravel() for seed in SEEDS])
    np.testing.assert_allclose(normal.mean().flatten(), logits.mean(axis=0), atol=5e-3)
    some = slice(None, None, 37)
    factor = normal.factor.flatten(1)[:, some].double()
    covariance = np.cov(logits[:, some], rowvar=False)
    np.testing.assert_allclose(factor.T @ factor, covariance, atol=1e-2)
    assert float(normal.diagonal.min()) == float(normal.diagonal.max()) == np.float32(OWN_VARIANCE)


def test_the_normal_of_two_lies_on_the_line_between_them() -> None:
    one, two = (torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(n)) for n in (1, 2))
    normal = fit_normal(torch.stack([one, two]))
    (direction,) = normal.factor
    across = (one - two).flatten() / 2**0.5
    assert normal.rank == 1
    torch.testing.assert_close(normal.mean(), (one + two) / 2)
    torch.testing.assert_close(direction.flatten().abs(), across.abs())
    # Temperature moves along it continuously.
    offset = normal.offset(Noise(3, 1)).flatten()
    correlation = torch.corrcoef(torch.stack([offset, across]))[0, 1].abs()
    assert correlation > 0.999


def test_a_normal_of_one_is_refused(image: Path, folds: list[Path]) -> None:
    with pytest.raises(ConfigError, match="At least two members"):
        open_source(None, CPU, members=folds[:1], members_as="normal", case=image.name)


def test_the_command_overlays_the_image(image: Path, folds: list[Path], tmp_path: Path) -> None:
    write_dataset(tmp_path, {"background": 0, "kidney": 1, "cyst": 2})
    out = tmp_path / "out"
    assert run(image, "--folds", *folds, "--out", out, "--samples", 4) == 0
    members = [probabilities(truth(), seed, sure=0.4).argmax(axis=-1) for seed in SEEDS]
    assert not np.array_equal(members[0], members[1])
    samples = [in_file_order(out / f"sample-00{n}.nii.gz") for n in range(1, 5)]
    for sample in samples:
        assert any(np.array_equal(sample, member) for member in members)
    recipe = read_recipe(out / "recipe.json")
    assert recipe.model is None
    assert list(recipe.controls.class_scale) == ["background", "kidney", "cyst"]
    expected = [file_hash(folder / f"case.{end}") for folder in folds for end in ("npz", "pkl")]
    assert [one.sha256 for one in recipe.members] == expected


@pytest.mark.parametrize("members_as", ["members", "normal"])
def test_a_recipe_gives_the_same_voxels(
    image: Path, folds: list[Path], tmp_path: Path, members_as: str, capsys
) -> None:
    first, again, typed = (tmp_path / name for name in ("first", "again", "typed"))
    few = ("--samples", 2)
    assert run(image, "--folds", *folds, "--folds-as", members_as, "--out", first, *few) == 0
    recipe = ("--recipe", first / "recipe.json")
    assert run(image, *recipe, "--out", again) == 2
    assert "with --members" in capsys.readouterr().err.replace("\n", " ")
    assert run(image, *recipe, "--out", again, "--members", *folds[::-1]) == 2
    assert "member is not the one" in capsys.readouterr().err.replace("\n", " ")
    assert run(image, *recipe, "--out", again, "--members", *folds) == 0
    command = json.loads((first / "recipe.json").read_text())["command"]
    command[command.index("--out") + 1] = str(typed)
    assert main(command[1:]) == 0
    made = [read_recipe(folder / "recipe.json") for folder in (first, again, typed)]
    assert made[0].outputs == made[1].outputs == made[2].outputs
    assert made[0].members_as == members_as


def test_members_take_the_prior_and_the_names_of_a_model(
    image: Path, tmp_path: Path, folds: list[Path]
) -> None:
    model = tiny_model(
        tmp_path / "m.safetensors", head=HeadSpec(kind="point"), prior=PriorSpec(iterations=2)
    )
    four = [
        save(tmp_path / f"{seed}.nii.gz", np.full((11, 9, 7, 4), 0.25, np.float32), OBLIQUE)
        for seed in SEEDS
    ]
    source = open_source(None, CPU, members=four, case=image.name, prior=model)
    assert source.spec.class_names[1] == "CSF"
    assert source.prior(read_image(image)) is not None


def test_what_does_not_go_together(image: Path, folds: list[Path], tmp_path: Path, capsys) -> None:
    model = tiny_model(tmp_path / "m.safetensors")
    for wrong in (
        ("--members", folds[0], "--model", model),
        ("--members", folds[0], "--slice", "z:1"),
        ("--members-as", "normal", "--model", model),
        ("--members", folds[0], "--members-as", "normal"),
    ):
        assert run(image, "--out", tmp_path / "out", *wrong) == 2
        assert "Traceback" not in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_members_are_never_overwritten(image: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    out.mkdir()
    maps = save(out / "mean.nii.gz", probabilities(truth()), OBLIQUE)
    before = maps.read_bytes()
    assert run(image, "--members", maps, "--out", out, "--overwrite") == 2
    assert "never overwritten" in capsys.readouterr().err.replace("\n", " ")
    assert maps.read_bytes() == before
