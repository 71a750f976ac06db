"""For one recipe the dock, the command line and Python give one labelling, voxel by voxel."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dock_helpers import SHAPE, brain, dock  # noqa: F401 -- a fixture
from napari_structseg import (
    Noise,
    PointLogits,
    Predictor,
    load_model,
    make_controls,
    predict,
    prior_for,
    read_image,
    render_labels,
)
from napari_structseg.cli import main
from napari_structseg.errors import ConfigError
from napari_structseg.priors import PriorSpec
from napari_structseg.reader import read_layers
from nifti_files import save
from tiny_models import CLASSES, tiny_model

OBLIQUE = np.array([[-1.5, 0.2, 0, 40], [0.2, 1, 0, -25], [0, 0, 3.0, 12], [0, 0, 0, 1]])
NAMES = [one.name for one in CLASSES]
CHOSEN = {"temperature": 1.5, "class_scale": {"CSF": 2.0}, "iterations": 3, "mrf_strength": 1.5}
FILES = {0: "mean.nii.gz", 1: "sample-001.nii.gz", 2: "sample-002.nii.gz"}


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return save(tmp_path / "T1.nii.gz", brain(SHAPE), OBLIQUE)


def in_python(image: Path, model: Path, **changed: object) -> list[np.ndarray]:
    opened = read_image(image)
    distribution = Predictor(*load_model(model)).predict(opened)
    controls = make_controls(NAMES, **{**CHOSEN, **changed})
    noises = [None, Noise(7, 1), Noise(7, 2)]
    return [render_labels(distribution, noise, controls) for noise in noises]


def written(folder: Path) -> list[np.ndarray]:
    return [read_image(folder / name).data[0] for name in FILES.values()]


def test_python_and_the_command_line(image: Path, tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "tiny.safetensors", prior=PriorSpec())
    labels = in_python(image, model)
    predict(image, model, tmp_path / "python", samples=2, **CHOSEN)
    options = ["--temperature", "1.5", "--class-scale", "CSF=2", "--iterations", "3"]
    options += ["--mrf-strength", "1.5", "--samples", "2", "--model", str(model)]
    assert main(["predict", str(image), "--out", str(tmp_path / "typed"), *options]) == 0
    for folder in ("python", "typed"):
        for one, other in zip(labels, written(tmp_path / folder), strict=True):
            assert np.array_equal(one, other)
    # The MRF has a say, and so do the samples.
    for one, other in zip(labels, in_python(image, model, iterations=0), strict=True):
        assert not np.array_equal(one, other)
    assert not np.array_equal(labels[1], labels[2])


def test_the_dock(dock, image: Path, tmp_path: Path) -> None:
    ((data, settings, _),) = read_layers(image)
    dock.add_image(data, **settings)
    model = dock.choose(prior=PriorSpec())
    dock.run()
    widget = dock.widget
    widget.spread.temperature_slider.slider.setValue(1.5)
    widget.spread.rows[1].scale.slider.setValue(2.0)
    widget.neighbours.iteration_slider.set_value(3)
    widget.neighbours.strength_slider.set_value(1.5)
    for sample, expected in enumerate(in_python(image, model)):
        widget.strip.select(sample)
        dock.settle()
        assert np.array_equal(dock.labels, expected), FILES[sample]


def test_a_region_is_that_region_of_the_whole(image: Path, tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "tiny.safetensors", prior=PriorSpec())
    distribution = Predictor(*load_model(model)).predict(read_image(image))
    controls = make_controls(NAMES, **CHOSEN)
    slab = (slice(2, 5), slice(None), slice(3, 9))
    whole = render_labels(distribution, Noise(7, 1), controls)
    assert np.array_equal(render_labels(distribution, Noise(7, 1), controls, slab), whole[slab])


def test_iterations_without_an_mrf_are_refused(image: Path, tmp_path: Path) -> None:
    controls = make_controls(NAMES, iterations=3)
    opened = read_image(image)
    plain = Predictor(*load_model(tiny_model(tmp_path / "plain.safetensors"))).predict(opened)
    for distribution in (plain, PointLogits(torch.zeros(4, *opened.spatial_shape))):
        with pytest.raises(ConfigError, match=r"3 iterations of mean field, but .* no MRF"):
            render_labels(distribution, None, controls)
    lender, _ = load_model(tiny_model(tmp_path / "lender.safetensors", prior=PriorSpec()))
    refined = render_labels(plain, None, controls, prior=prior_for(lender, opened))
    assert not np.array_equal(refined, render_labels(plain, None, make_controls(NAMES)))


def test_in_bfloat16(dock, image: Path, tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "tiny.safetensors")
    opened = read_image(image)
    exact = Predictor(*load_model(model)).predict(opened).mean()
    rough = Predictor(*load_model(model), precision="bfloat16").predict(opened)
    # Or the two ways below would agree whatever is computed.
    assert not torch.equal(rough.mean(), exact)
    expected = render_labels(rough, Noise(7, 1), make_controls(NAMES))
    predict(image, model, tmp_path / "out", samples=1, precision="bfloat16")
    written_labels = read_image(tmp_path / "out" / "sample-001.nii.gz").data[0]
    np.testing.assert_array_equal(written_labels, expected)
    recipe = json.loads((tmp_path / "out" / "recipe.json").read_text())
    assert recipe["precision"] == "bfloat16"
    assert " ".join(recipe["command"]).count("--precision bfloat16") == 1
    ((data, settings, _),) = read_layers(image)
    dock.add_image(data, **settings)
    dock.widget.source.choose_model(model)
    dock.widget.state.source.precision = "bfloat16"
    dock.run()
    dock.widget.strip.select(1)
    dock.settle()
    np.testing.assert_array_equal(dock.labels, expected)
