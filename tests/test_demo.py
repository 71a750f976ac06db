from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from skimage.io import imread

from napari_structseg import Predictor, load_model, make_controls, read_image, render_labels
from napari_structseg.cli import main
from napari_structseg.errors import ConfigError
from napari_structseg.models import HeadSpec
from napari_structseg.render.summaries import noises_of
from napari_structseg.render.volumes import sample_volumes
from napari_structseg.screen import check_screen
from nifti_files import save
from tiny_models import CLASSES, tiny_model

SHAPE = (20, 24, 16)
AFFINE = np.array([[-1.0, 0, 0.2, 10], [0, 1.5, 0, -20], [0.1, 0, 2, 5], [0, 0, 0, 1]])
NAMES = [one.name for one in CLASSES]
REQUIRED = {"model", "image", "volumes_ml", "seconds_to_first_paint", "slider_latency_ms"}
PICTURES = ("screenshot.png", "sample.png", "contours.png", "entropy.png")


@pytest.fixture
def _screen() -> None:
    try:
        check_screen()
    except ConfigError as error:
        pytest.skip(str(error))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    return save(tmp_path / "T1.nii.gz", rng.integers(1, 200, SHAPE, dtype=np.int16), AFFINE)


def record(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the demo as a user does."""
    program = [sys.executable, "-m", "napari_structseg.cli", "demo", "--headless"]
    return subprocess.run(
        [*program, *map(str, arguments)], capture_output=True, text=True, check=False
    )


@pytest.mark.usefixtures("_screen")
def test_headless_writes_what_there_is_to_see(image: Path, tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "tiny.safetensors")
    out = tmp_path / "demo"
    finished = record("--image", image, "--model", model, "--out", out)
    assert finished.returncode == 0, finished.stderr
    assert "First paint after" in finished.stderr

    for name in PICTURES:
        picture = imread(out / name)
        assert picture.shape[0] >= 800
        assert picture.shape[1] >= 1280
        assert len(np.unique(picture.reshape(-1, picture.shape[-1]), axis=0)) > 100

    original, labels = nib.load(image), nib.load(out / "labels.nii.gz")
    assert labels.shape == original.shape
    assert labels.get_data_dtype() == np.uint8
    assert np.array_equal(labels.affine, original.affine)
    opened = read_image(image)
    distribution = Predictor(*load_model(model)).predict(opened)
    expected = render_labels(distribution, None, make_controls(NAMES))
    assert np.array_equal(read_image(out / "labels.nii.gz").data[0], expected)
    assert len(np.unique(expected)) > 1

    report = json.loads((out / "report.json").read_text())
    assert set(report) >= REQUIRED
    assert report["model"] == "tiny"
    assert report["image"] == "T1.nii.gz"
    assert report["seconds_to_first_paint"] > 0
    assert 0 < report["slider_latency_ms"]["p50"] <= report["slider_latency_ms"]["p95"]
    volumes = sample_volumes(distribution, noises_of(7, 20), [1.0] * 4, opened.voxel_volume_ml)
    assert list(report["volumes_ml"]) == NAMES
    for label, name in enumerate(NAMES):
        said = report["volumes_ml"][name]
        assert said["mean"] == pytest.approx(volumes[:, label].mean(), abs=1e-3)
        assert said["p5"] == pytest.approx(np.percentile(volumes[:, label], 5), abs=1e-3)
        assert said["p95"] == pytest.approx(np.percentile(volumes[:, label], 95), abs=1e-3)


@pytest.mark.usefixtures("_screen")
def test_headless_with_a_deterministic_model_and_no_voxel_size(tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).integers(1, 200, SHAPE, dtype=np.int16)
    image = save(tmp_path / "array.nii.gz", voxels, np.eye(4))
    model = tiny_model(tmp_path / "unet.safetensors", head=HeadSpec(kind="point"))
    finished = record("--image", image, "--model", model, "--out", tmp_path / "demo")
    assert finished.returncode == 0, finished.stderr
    report = json.loads((tmp_path / "demo" / "report.json").read_text())
    assert report["slider_latency_ms"] is None
    # Voxels are counted, since nobody knows how large they are.
    assert "volumes_ml" not in report
    counted = report["volumes_voxels"].values()
    assert sum(volume["mean"] for volume in counted) == np.prod(SHAPE)
    for volume in counted:
        assert volume["mean"] == volume["p5"] == volume["p95"]


def test_volumes_count_every_voxel_of_every_sample(image: Path, tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "tiny.safetensors")
    opened = read_image(image)
    distribution = Predictor(*load_model(model)).predict(opened)
    noises = noises_of(3, 4)
    fractions: list[float] = []
    volumes = sample_volumes(
        distribution, noises, [2.0, 2.0, 1.0, 2.0], opened.voxel_volume_ml, fractions.append
    )
    controls = make_controls(NAMES, temperature=2, class_scale={"Grey matter": 0.5})
    for noise, row in zip(noises, volumes, strict=True):
        labels = render_labels(distribution, noise, controls)
        counted = np.bincount(labels.reshape(-1), minlength=4) * opened.voxel_volume_ml
        np.testing.assert_allclose(row, counted)
    assert fractions[-1] == 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="screens are found by DISPLAY")
def test_without_a_screen_the_message_says_what_to_do(monkeypatch, capsys) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    for arguments in (["demo"], ["demo", "--headless"]):
        assert main(arguments) == 2
        message = capsys.readouterr().err
        assert "There is no screen" in message
        assert "xvfb-run" in message


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="screens are found by DISPLAY")
def test_a_screen_that_does_not_answer(monkeypatch, capsys) -> None:
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("DISPLAY", ":98765")
    assert main(["demo", "--headless"]) == 2
    assert "Qt cannot open a window here" in capsys.readouterr().err


def test_a_platform_without_opengl(monkeypatch, capsys) -> None:
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    assert main(["demo"]) == 2
    message = capsys.readouterr().err
    assert "'offscreen'" in message
    assert "OpenGL" in message


def test_files_are_for_headless(tmp_path: Path, capsys) -> None:
    assert main(["demo", "--out", str(tmp_path / "demo")]) == 2
    assert "add --headless" in capsys.readouterr().err


@pytest.mark.usefixtures("_screen")
def test_what_cannot_be_shown_is_refused_before_a_window_opens(
    image: Path, tmp_path: Path, capsys
) -> None:
    model = tiny_model(tmp_path / "tiny.safetensors")
    flat = tiny_model(tmp_path / "flat.safetensors", dimensions=2)
    own = save(tmp_path / "labels.nii.gz", np.ones(SHAPE, np.int16))
    cases = [
        (("--image", tmp_path / "none.nii", "--model", model), "There is no file"),
        (("--image", image, "--model", tmp_path / "none"), "no model called"),
        (("--image", image, "--model", flat), "works on 2-D images"),
        (("--image", own, "--model", model), "would be overwritten"),
        (("--image", image, "--model", model, "--out", image), "Cannot write"),
    ]
    for arguments, says in cases:
        out = () if "--out" in arguments else ("--out", tmp_path)
        assert main(["demo", "--headless", *map(str, arguments), *map(str, out)]) == 2
        assert says in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "report.json").exists()
