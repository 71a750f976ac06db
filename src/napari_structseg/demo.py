"""The demo: a brain in napari with the Explore dock; with nobody watching, its results as files."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import napari
import numpy as np
from napari.layers import Labels, Layer
from skimage.io import imsave

from napari_structseg.bench.frames import Frames, find_canvas, wait_until
from napari_structseg.controls import MEAN
from napari_structseg.errors import InputError
from napari_structseg.image import Image
from napari_structseg.io.atomic import atomic_path
from napari_structseg.io.channels import read_channels
from napari_structseg.io.nifti import write_volume
from napari_structseg.models import ModelSpec
from napari_structseg.named_controls import make_controls
from napari_structseg.prediction.predictor import Predictor
from napari_structseg.reader import image_layers
from napari_structseg.render.summaries import DEFAULT_SAMPLES, noises_of
from napari_structseg.render.volumes import sample_volumes
from napari_structseg.results.batch import load_model
from napari_structseg.sample_data import load_mni152
from napari_structseg.session.messages import Show
from napari_structseg.widgets.explore import ExploreWidget
from napari_structseg.widgets.viewer.layer_making import RESULT_KEY

# As in napari's menu, which then shows and hides this dock instead of opening another.
_DOCK_NAME = "Explore segmentations (StructSeg)"
LABELS_NAME = "labels.nii.gz"
_WINDOW_SIZE = (1440, 900)
_MOVES = 60
_STEP = 0.05
_PACKAGES = ("napari-structseg", "napari", "torch", "numpy")

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Stage:
    """The window with everything in it."""

    viewer: napari.Viewer
    dock: ExploreWidget
    image: Image


def open_demo(model: str, path: Path | None) -> None:
    """Open napari with an image and the dock, run the model, and stay until the user leaves.

    Parameters
    ----------
    model
        Name of a shipped model, or a file.
    path
        The image; None: the MNI152 brain.

    Raises
    ------
    StructSegError
        If the image or the model cannot be used. No window was opened.
    """
    image, _ = _load(model, path)
    stage = _set_up(model, image)
    stage.dock.source.run_button.click()
    napari.run()


def record_demo(model: str, path: Path | None, out: Path, tell: Tell) -> dict[str, Any]:
    """Drive the dock as a user would, and write what there is to see.

    Written are ``screenshot.png`` and ``labels.nii.gz`` of the mean, ``sample.png``,
    ``contours.png`` and ``entropy.png``, and ``report.json``.

    Parameters
    ----------
    model, path
        As for :func:`open_demo`.
    out
        Folder for the files, made if it is missing.
    tell
        Told what is being done.

    Returns
    -------
    dict
        What was written as ``report.json``.

    Raises
    ------
    StructSegError
        If the image or the model cannot be used, or the folder cannot be written to.
    """
    started = time.perf_counter()
    image, spec = _load(model, path)
    _make_folder(out, path)
    tell("Opening the window")
    stage = _set_up(model, image)
    stage.viewer.window.resize(*_WINDOW_SIZE)
    try:
        report = _record(stage, spec, out, tell)
    finally:
        # Qt does not survive the end of the program with a window open.
        stage.viewer.close()
    if path is not None:
        report["image"] = path.name
    report["seconds"] = round(time.perf_counter() - started, 3)
    with atomic_path(out / "report.json") as temporary:
        temporary.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return report


def _record(stage: _Stage, spec: ModelSpec, out: Path, tell: Tell) -> dict[str, Any]:
    dock = stage.dock
    tell("Running the model")
    started = time.perf_counter()
    first_paint = _run(stage)
    complete = time.perf_counter() - started
    tell("Moving the sliders")
    latency = _move_sliders(stage)
    _save_picture(stage, out / "sample.png")
    dock.spread.reset()
    for show in (Show.CONTOURS, Show.ENTROPY):
        dock.show_panel.choose(show)
        _save_picture(stage, out / f"{show.value}.png")
    dock.show_panel.choose(Show.LABELS)
    dock.strip.select(MEAN)
    _save_picture(stage, out / "screenshot.png")
    labels = _segmentation(dock).data
    write_volume(out / LABELS_NAME, labels, stage.image.geometry, dtype=np.uint8)
    tell("Counting volumes")
    return {
        "model": spec.name,
        "image": stage.image.name,
        "volumes_ml" if stage.image.has_spacing else "volumes_voxels": _volumes(stage, spec),
        "seconds_to_first_paint": round(first_paint, 3),
        "slider_latency_ms": latency,
        "slider_moves": _MOVES,
        "labels": "mean",
        "samples": DEFAULT_SAMPLES,
        "seed": dock.state.controls.seed,
        "cpus": os.cpu_count(),
        "seconds_to_complete": round(complete, 3),
        "versions": {package: version(package) for package in _PACKAGES},
    }


def _load(model: str, path: Path | None) -> tuple[Image, ModelSpec]:
    """Read the image, and make sure that the model can work on it."""
    network, spec = load_model(model, "cpu")
    image = load_mni152() if path is None else read_channels([path])
    Predictor(network, spec).check(image)
    return image, spec


def _make_folder(out: Path, path: Path | None) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"Cannot write to the folder {out}: {error.strerror or error}. Choose another one."
        ) from error
    if path is not None and path.resolve() == (out / LABELS_NAME).resolve():
        raise InputError(f"The image {path} would be overwritten. Choose another folder for --out.")


def _set_up(model: str, image: Image) -> _Stage:
    viewer = napari.Viewer()
    for layer in image_layers(image):
        viewer.add_layer(Layer.create(*layer))
    dock = ExploreWidget(viewer)
    viewer.window.add_dock_widget(dock, name=_DOCK_NAME)
    dock.source.choose_model(model)
    return _Stage(viewer, dock, image)


def _run(stage: _Stage) -> float:
    """Press Run, and wait until all is done; seconds until the first labels were painted."""
    dock = stage.dock
    frames = Frames(find_canvas())

    def watch_labels(event: Any) -> None:  # noqa: ANN401 -- napari's events are untyped
        layer = event.value
        if isinstance(layer, Labels) and RESULT_KEY in layer.metadata:
            frames.watch(layer, when=lambda: bool(layer.data.any()))

    stage.viewer.layers.events.inserted.connect(watch_labels)
    seconds = frames.seconds(dock.source.run_button.click, or_until=lambda: not dock.is_busy())
    _wait_until_idle(stage)
    stage.viewer.layers.events.inserted.disconnect(watch_labels)
    return seconds


def _move_sliders(stage: _Stage) -> dict[str, float] | None:
    """Move temperature and the scale of the largest class in turn, up and back.

    Returns
    -------
    dict or None
        ``p50`` and ``p95``, in ms from the move to the painted frame; None where the model is
        deterministic, and has nothing to move.
    """
    dock = stage.dock
    if dock.engine is None or not dock.engine.distribution.is_stochastic:
        return None
    layer = _segmentation(dock)
    largest = int(np.bincount(layer.data.reshape(-1), minlength=2)[1:].argmax()) + 1
    dock.strip.select(1)
    _wait_until_idle(stage)
    frames = Frames(find_canvas())
    frames.watch(layer)
    seconds = []
    sliders = (dock.spread.temperature_slider.slider, dock.spread.rows[largest].scale.slider)
    for move in range(_MOVES):
        slider = sliders[move % 2]
        step = _STEP if move < _MOVES // 2 else -_STEP

        def change(slider: Any = slider, step: float = step) -> None:  # noqa: ANN401
            slider.setValue(slider.value() + step)

        seconds.append(frames.seconds(change))
    p50, p95 = np.percentile(seconds, (50, 95)) * 1e3
    return {"p50": round(float(p50), 2), "p95": round(float(p95), 2)}


def _save_picture(stage: _Stage, path: Path) -> None:
    """Save a picture of the whole window, once everything in it is done."""
    _wait_until_idle(stage)
    pixels = stage.viewer.screenshot(canvas_only=False, flash=False)
    with atomic_path(path) as temporary:
        imsave(temporary, pixels, check_contrast=False)


def _volumes(stage: _Stage, spec: ModelSpec) -> dict[str, dict[str, float]]:
    """Volumes over samples, every slider where it starts: in mL, or voxels of an unknown size."""
    engine = stage.dock.engine
    if engine is None:
        return {}
    controls = make_controls(spec.class_names, spec.calibrated, seed=stage.dock.state.controls.seed)
    noises = noises_of(controls.seed, DEFAULT_SAMPLES)
    volumes = sample_volumes(
        engine.distribution,
        [controls.tempered(noise, engine.distribution) for noise in noises],
        controls.weights_of(engine.distribution),
        stage.image.voxel_volume_ml if stage.image.has_spacing else 1.0,
    )
    low, high = np.percentile(volumes, (5, 95), axis=0)
    columns = zip(spec.class_names, volumes.mean(axis=0), low, high, strict=True)
    return {
        name: {"mean": round(mean, 3), "p5": round(p5, 3), "p95": round(p95, 3)}
        for name, mean, p5, p95 in columns
    }


def _segmentation(dock: ExploreWidget) -> Labels:
    if dock.layers is None:
        raise InputError(dock.banner.message)
    return dock.layers.segmentation


def _wait_until_idle(stage: _Stage) -> None:
    dock = stage.dock
    wait_until(lambda: not dock.is_busy(), "The dock")
    if dock.banner.message:
        raise InputError(dock.banner.message)
