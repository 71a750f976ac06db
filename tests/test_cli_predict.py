"""None"""

from __future__ import annotations

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
)
from napari_structseg.io.png import read_png
from napari_structseg.models import HeadSpec
from napari_structseg.render.summaries import noises_of, summarise
from napari_structseg.results.recipe_files import read_recipe
from nifti_files import save
from predict_helpers import NAMES, OBLIQUE, SHAPE, blob, image, model, run, voxels  # noqa: F401
from tiny_models import CLASSES, tiny_model


def test_results_overlay_the_image(image: Path, model: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "new" / "results"
    assert run(image, "--model", model, "--out", out, "--samples", 2, "--seed", 5) == 0
    assert sorted(path.name for path in out.iterdir()) == sorted(
        [*NAMES, "recipe.json", "volumes.csv"]
    )
    original = nib.load(image)
    for name in NAMES:
        nifti = nib.load(out / name)
        assert nifti.shape == original.shape
        assert np.array_equal(nifti.affine, original.affine)
        is_map = name == "entropy.nii.gz"
        assert nifti.get_data_dtype() == (np.float32 if is_map else np.uint8)
        assert int(nifti.header["intent_code"]) == (0 if is_map else 1002)
    assert "4 images, volumes.csv and recipe.json" in capsys.readouterr().err


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


def test_noise_of_sample_k_is_that_of_the_viewer(image: Path, model: Path, tmp_path: Path) -> None:
    predict(image, model, tmp_path / "out", samples=2, seed=3)
    distribution = Predictor(*load_model(model)).predict(read_image(image))
    controls = make_controls([one.name for one in CLASSES])
    expected = render_labels(distribution, Noise(3, 2), controls)
    assert np.array_equal(read_image(tmp_path / "out" / "sample-002.nii.gz").data[0], expected)
