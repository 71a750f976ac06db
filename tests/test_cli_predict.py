from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from napari_structseg import (
    Noise,
    Predictor,
    Renderer,
    load_model,
    make_controls,
    predict,
    read_image,
    render_labels,
    reproduce,
)
from napari_structseg.cli import main
from napari_structseg.errors import ConfigError, InputError
from napari_structseg.io.png import read_png
from napari_structseg.io.references import file_hash
from napari_structseg.models import HeadSpec
from napari_structseg.render.summaries import noises_of, summarise
from napari_structseg.results.files import check_disk
from napari_structseg.results.recipe import read_recipe
from nifti_files import save
from tiny_models import CLASSES, tiny_model

SHAPE = (20, 18, 12)
# Turned by half a radian about z, anisotropic, and with x towards the left.
OBLIQUE = np.array(
    [
        [-1.5 * np.cos(0.5), np.sin(0.5), 0, 40],
        [1.5 * np.sin(0.5), np.cos(0.5), 0, -25],
        [0, 0, 3, 12],
        [0, 0, 0, 1],
    ]
)
NAMES = ["entropy.nii.gz", "mean.nii.gz", "sample-001.nii.gz", "sample-002.nii.gz"]


def blob(*shape: int, seed: int = 0) -> np.ndarray:
    """A bright noisy ball, nowhere 0."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, size) for size in shape], indexing="ij"))
    noise = np.random.default_rng(seed).normal(scale=40, size=shape)
    return np.clip(700 * np.exp(-3 * (grid**2).sum(axis=0)) + noise, 1, None).astype(np.int16)


def voxels(path: Path) -> np.ndarray:
    return np.asanyarray(nib.load(path).dataobj)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_model(tmp_path / "tiny.safetensors")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return save(tmp_path / "T1.nii.gz", blob(*SHAPE), OBLIQUE)


def run(*arguments: object) -> int:
    return main(["predict", *map(str, arguments)])


def refused(capsys: pytest.CaptureFixture[str], *arguments: object, says: tuple[str, ...]) -> None:
    """The command ends with code 2 and a message, and writes no results."""
    out = Path(str(arguments[arguments.index("--out") + 1]))
    before = sorted(out.iterdir()) if out.is_dir() else []
    assert run(*arguments) == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    for part in says:
        assert part in message.replace("\n", " ")
    assert (sorted(out.iterdir()) if out.is_dir() else []) == before


# What is written.


def test_results_overlay_the_image(image: Path, model: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "new" / "results"
    assert run(image, "--model", model, "--out", out, "--samples", 2, "--seed", 5) == 0
    assert sorted(path.name for path in out.iterdir()) == sorted([*NAMES, "recipe.json"])
    original = nib.load(image)
    for name in NAMES:
        nifti = nib.load(out / name)
        assert nifti.shape == original.shape
        assert np.array_equal(nifti.affine, original.affine)
        is_map = name == "entropy.nii.gz"
        assert nifti.get_data_dtype() == (np.float32 if is_map else np.uint8)
        assert int(nifti.header["intent_code"]) == (0 if is_map else 1002)
    assert "4 files and recipe.json" in capsys.readouterr().err


def test_labels_are_what_the_viewer_renders(image: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "results"
    scales = ["--class-scale", "Grey matter=1.5", "--class-scale", "CSF=-1"]
    arguments = ("--samples", 2, "--seed", 5, "--temperature", 1.5, *scales)
    assert run(image, "--model", model, "--out", out, *arguments) == 0
    opened = read_image(image)
    network, spec = load_model(model)
    renderer = Renderer(Predictor(network, spec).predict(opened))
    for sample, name in enumerate(NAMES[1:]):
        controls = make_controls(
            spec.class_names,
            seed=5,
            sample=sample,
            temperature=1.5,
            class_scale={"Grey matter": 1.5, "CSF": -1},
        )
        written = read_image(out / name).data[0]
        assert np.array_equal(written, renderer.render_volume(controls))
        assert len(np.unique(written)) > 1
    assert not np.array_equal(voxels(out / NAMES[1]), voxels(out / NAMES[2]))


def test_entropy_is_of_the_marginal_over_the_samples(
    image: Path, model: Path, tmp_path: Path
) -> None:
    predict(image, model, tmp_path / "three", samples=3, seed=1, temperature=2)
    distribution = Predictor(*load_model(model)).predict(read_image(image))
    expected = summarise(distribution, noises_of(1, 3), [2.0] * len(CLASSES)).entropy
    written = read_image(tmp_path / "three" / "entropy.nii.gz").data[0]
    np.testing.assert_allclose(written, expected, atol=1e-5)
    assert 0 <= written.min() < written.max() <= np.log(len(CLASSES)) + 1e-6

    predict(image, model, tmp_path / "none", samples=0)
    probability = distribution.mean().softmax(dim=0)
    expected = torch.special.entr(probability).sum(dim=0)
    written = read_image(tmp_path / "none" / "entropy.nii.gz").data[0]
    np.testing.assert_allclose(written, expected, atol=1e-5)
    assert not list((tmp_path / "none").glob("sample*"))


def test_a_deterministic_model_has_equal_samples(image: Path, tmp_path: Path) -> None:
    point = tiny_model(tmp_path / "unet.safetensors", head=HeadSpec(kind="point"))
    predict(image, point, tmp_path / "results", samples=2)
    mean, first, second = (voxels(tmp_path / "results" / name) for name in NAMES[1:])
    assert np.array_equal(mean, first)
    assert np.array_equal(mean, second)


def test_channels_in_one_file_or_in_several(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "two.safetensors", channels=2)
    first, second = blob(*SHAPE), blob(*SHAPE, seed=1)
    both = save(tmp_path / "both.nii.gz", np.stack([first, second], axis=-1), OBLIQUE)
    one, other = (
        save(tmp_path / f"{name}.nii", data, OBLIQUE)
        for name, data in (("one", first), ("other", second))
    )
    assert run(both, "--model", model, "--out", tmp_path / "4d", "--samples", 1) == 0
    assert run(one, other, "--model", model, "--out", tmp_path / "files", "--samples", 1) == 0
    for name in NAMES[:3]:
        written = voxels(tmp_path / "files" / name)
        assert written.shape == SHAPE
        assert np.array_equal(written, voxels(tmp_path / "4d" / name))
    recipe = read_recipe(tmp_path / "files" / "recipe.json")
    assert [one.name for one in recipe.images] == ["one.nii", "other.nii"]


@pytest.mark.parametrize("name", ["slice.nii.gz", "slice.png"])
def test_two_dimensions(name: str, tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "flat.safetensors", dimensions=2)
    path = tmp_path / name
    pixels = (blob(24, 20) // 4).astype(np.uint8)
    if name.endswith("png"):
        from skimage.io import imsave

        imsave(path, pixels, check_contrast=False)
        opened = read_png(path)
    else:
        opened = read_image(save(path, pixels))
    assert run(path, "--model", model, "--out", tmp_path / "results", "--samples", 1) == 0
    distribution = Predictor(*load_model(model)).predict(opened)
    labels = render_labels(distribution, None, make_controls([one.name for one in CLASSES]))
    # As stored: column, row.
    stored = voxels(tmp_path / "results" / "mean.nii.gz").reshape(opened.spatial_shape[::-1])
    expected = opened.geometry.to_file(labels).reshape(stored.shape)
    assert np.array_equal(stored, expected)
    assert len(np.unique(stored)) > 1


# The recipe.


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
    assert {file.name for file in (tmp_path / "again").iterdir()} == {*of_old, "recipe.json"}
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


# Folders.


def test_earlier_results_stay_unless_told_otherwise(
    image: Path, model: Path, tmp_path: Path, capsys
) -> None:
    out = tmp_path / "out"
    predict(image, model, out, samples=3)
    mine = out / "notes.txt"
    mine.write_text("mine")
    says = ("already holds results", "--overwrite")
    refused(capsys, image, "--model", model, "--out", out, says=says)
    assert run(image, "--model", model, "--out", out, "--samples", 1, "--overwrite") == 0
    left = sorted(path.name for path in out.iterdir())
    assert left == sorted([*NAMES[:3], "recipe.json", "notes.txt"])


def test_an_image_is_never_overwritten(model: Path, tmp_path: Path, capsys) -> None:
    image = save(tmp_path / "mean.nii.gz", blob(*SHAPE))
    before = image.read_bytes()
    says = ("never overwritten",)
    refused(capsys, image, "--model", model, "--out", tmp_path, "--overwrite", says=says)
    assert image.read_bytes() == before


def test_folder_that_cannot_be_written(image: Path, model: Path, tmp_path: Path, capsys) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    for out in (blocked, blocked / "below"):
        refused(capsys, image, "--model", model, "--out", out, says=("Cannot write", str(out)))


# Input that cannot be used.


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--class-scale", "tumour=1"), ("Unknown class 'tumour'", "Grey matter")),
        (("--class-scale", "CSF"), ("needs NAME=VALUE", "'CSF'")),
        (("--class-scale", "CSF=wide"), ("needs NAME=VALUE", "'CSF=wide'")),
        (("--class-scale", "CSF=4"), ("--class-scale of CSF", "less than or equal to 3")),
        (("--class-scale", "CSF=nan"), ("--class-scale of CSF", "finite")),
        (("--class-scale", "CSF=1", "--class-scale", "CSF=2"), ("'CSF' twice",)),
        (("--temperature", "4"), ("temperature", "less than or equal to 3")),
        (("--temperature", "-1"), ("temperature", "greater than or equal to 0")),
        (("--temperature", "inf"), ("temperature", "finite")),
        (("--samples", "-1"), ("number of samples", "-1")),
        (("--samples", "few"), ("few",)),
        (("--samples", "1000000000"), ("number of samples", "up to 100000")),
        (("--threads", "0"), ("number of threads", "0")),
        # The system refuses so many, and torch then ends the process.
        (("--threads", "100000"), ("number of threads", "up to 1024")),
        (("--slice", "z:1000000000000000000"), ("--slice", "at most 9 digits")),
        (("--slice", "z:1", "--box", f"0:{10**18},0:2"), ("--box needs",)),
        (("--seed", "-1"), ("seed", "greater than or equal to 0")),
        (("--device", "abacus"), ("no device 'abacus'", "cpu")),
    ],
)
def test_options_out_of_range(options, says, image: Path, model: Path, capsys) -> None:
    out = image.parent / "out"
    refused(capsys, image, "--model", model, "--out", out, *options, says=says)
    assert not out.exists()


def test_an_empty_name_is_no_folder(
    image: Path, model: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    assert run(image, "--model", model, "--out", "") == 2
    assert "--out, but it is empty" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="but it is empty"):
        predict(image, model, "")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("changes", [{"threads": 100_000}, {"samples": 10**9}])
def test_a_recipe_cannot_ask_for_what_the_options_refuse(
    changes: dict[str, int], image: Path, model: Path, tmp_path: Path, capsys
) -> None:
    recipe = predict(image, model, tmp_path / "first", samples=0)
    path = tmp_path / "altered.json"
    path.write_text(recipe.model_copy(update=changes).model_dump_json())
    out = tmp_path / "again"
    says = ("is not a recipe of this version", next(iter(changes)), "less than or equal to")
    refused(capsys, "--recipe", path, image, "--out", out, says=says)
    assert not out.exists()


def test_samples_beyond_the_disk_are_refused_before_anything_is_computed(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    shape = (int((free / 1000) ** (1 / 3)) * 12,) * 3
    with pytest.raises(InputError, match=r"1000 samples take at least .* GB are free"):
        check_disk(tmp_path, shape, 1000)
    check_disk(tmp_path, (20, 18, 12), 1000)


def test_unknown_options_and_values_of_another_kind(image: Path, model: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"no option 'sample'\. The options are: .*samples"):
        predict(image, model, tmp_path / "out", sample=3)
    with pytest.raises(ConfigError, match=r"Invalid options\. samples: .*'many'"):
        predict(image, model, tmp_path / "out", samples="many")


def test_images_that_cannot_be_used(model: Path, tmp_path: Path, capsys) -> None:
    good = blob(*SHAPE)
    truncated = save(tmp_path / "short.nii", good)
    truncated.write_bytes(truncated.read_bytes()[:-1000])
    holes = good.astype(np.float32)
    holes[3, 4, 5], holes[0, 0, 0] = np.nan, np.inf
    cases = {
        tmp_path / "missing.nii": ("There is no file",),
        tmp_path: ("is a folder",),
        truncated: ("cut short",),
        save(tmp_path / "holes.nii", holes): ("2 of 4320 voxels are NaN or infinite",),
        save(tmp_path / "singular.nii", good, srow_z=[0, 0, 0, 0], sform_code=1): ("affine",),
        save(tmp_path / "4d.nii", np.stack([good, good], -1)): ("expects 1 channel", "has 2"),
        save(tmp_path / "slice.nii", good[..., :1]): ("works on 3-D images", "2 spatial"),
        save(tmp_path / "5d.nii", np.zeros((4, 4, 4, 2, 2), np.uint8)): ("at most 4 axes",),
    }
    for path, says in cases.items():
        refused(capsys, path, "--model", model, "--out", tmp_path / "out", says=says)
    other = save(tmp_path / "other.nii", blob(8, 8, 8))
    one = save(tmp_path / "one.nii", good)
    two = tiny_model(tmp_path / "two.safetensors", channels=2)
    says = ("must lie on one voxel grid", "other.nii")
    refused(capsys, one, other, "--model", two, "--out", tmp_path / "out", says=says)


def test_a_2d_model_refuses_a_volume(image: Path, tmp_path: Path, capsys) -> None:
    model = tiny_model(tmp_path / "flat.safetensors", dimensions=2)
    says = ("works on 2-D images", "Mark slices of it", "--slice")
    refused(capsys, image, "--model", model, "--out", tmp_path / "out", says=says)


def test_an_image_beyond_memory_is_refused_before_it_is_allocated(
    model: Path, tmp_path: Path, capsys
) -> None:
    # A sparse file: it has the size that its header promises, and takes no room on disk.
    path = save(
        tmp_path / "huge.nii", np.zeros((2, 2, 2), np.uint8), dim=[3, *[10_000] * 3, *[1] * 4]
    )
    with path.open("r+b") as file:
        file.truncate(352 + 10_000**3)
    says = ("needs about", "GB of memory")
    refused(capsys, path, "--model", model, "--out", tmp_path / "out", says=says)


def test_a_distribution_beyond_memory_is_refused_before_it_is_allocated(
    tmp_path: Path, capsys
) -> None:
    # A small image for a model of 10 micrometre voxels.
    model = tiny_model(tmp_path / "fine.safetensors", spacing=(0.01,) * 3)
    image = save(tmp_path / "T1.nii.gz", blob(*SHAPE))
    says = ("Running 'fine' on 'T1'", "GB of memory")
    refused(capsys, image, "--model", model, "--out", tmp_path / "out", says=says)


def test_models_that_cannot_be_used(image: Path, tmp_path: Path, capsys) -> None:
    pickled = tmp_path / "model.pt"
    torch.save({"weight": torch.zeros(2)}, pickled)
    disguised = tmp_path / "model.safetensors"
    disguised.write_bytes(pickled.read_bytes())
    cases = {
        pickled: ("pickled", "refused"),
        disguised: ("pickled", "refused"),
        tmp_path / "none.safetensors": ("no model called", "Shipped models"),
        image: ("not a safetensors file",),
    }
    for path, says in cases.items():
        refused(capsys, image, "--model", path, "--out", tmp_path / "out", says=says)
    refused(capsys, image, "--out", tmp_path / "out", says=("No model was given",))


def test_no_image(model: Path, tmp_path: Path, capsys) -> None:
    refused(capsys, "--model", model, "--out", tmp_path / "out", says=("IMAGE",))


def test_the_program_itself_prints_a_message_and_no_traceback(tmp_path: Path) -> None:
    program = [sys.executable, "-m", "napari_structseg.cli", "predict", str(tmp_path / "no.nii")]
    options = ["--model", str(tmp_path / "no.safetensors"), "--out", str(tmp_path / "out")]
    finished = subprocess.run([*program, *options], capture_output=True, text=True, check=False)
    assert finished.returncode == 2
    assert finished.stderr.splitlines()[-1].startswith("error: There is no model called")
    assert "Traceback" not in finished.stderr
    assert finished.stdout == ""


def test_noise_of_sample_k_is_that_of_the_viewer(image: Path, model: Path, tmp_path: Path) -> None:
    predict(image, model, tmp_path / "out", samples=2, seed=3)
    distribution = Predictor(*load_model(model)).predict(read_image(image))
    controls = make_controls([one.name for one in CLASSES])
    expected = render_labels(distribution, Noise(3, 2), controls)
    assert np.array_equal(read_image(tmp_path / "out" / "sample-002.nii.gz").data[0], expected)
