"""Sliders of the real dock while a model learns. Run as a program by `bench.finetune`."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import napari

from napari_structseg.bench.finetune import FinetuneSettings
from napari_structseg.bench.finetune_in_turn import Training, measure_in_turn
from napari_structseg.bench.frames import Frames, find_canvas, wait_until
from napari_structseg.bench.painted import random_image, random_model
from napari_structseg.bench.timing import WINDOW_SIZE
from napari_structseg.widgets.explore import ExploreWidget


def measure(settings: FinetuneSettings) -> dict[str, Any]:
    """From a slider of the dock to a frame on the screen."""
    viewer = napari.Viewer()
    viewer.window.resize(*WINDOW_SIZE)
    viewer.add_image(random_image(settings.shape), name="random")
    viewer.dims.set_current_step(0, settings.shape[0] // 2)
    dock = ExploreWidget(viewer)
    viewer.window.add_dock_widget(dock, name="Explore")
    with tempfile.TemporaryDirectory() as folder:
        dock.source.choose_model(random_model(Path(folder), settings.shape))
        dock.source.run_button.click()
        wait_until(lambda: dock.is_exploring() and not dock.is_busy(), "The model")
        dock.strip.select(1)
        wait_until(lambda: not dock.is_busy(), "The sample")
        if dock.layers is None:
            raise RuntimeError(f"the dock shows nothing: {dock.banner.message}")
        frames = Frames(find_canvas())
        frames.watch(dock.layers.segmentation)
        sliders = {
            "temperature": dock.spread.temperature_slider.slider,
            "class_scale": dock.spread.rows[2].scale.slider,
        }

        def move(what: str, value: float) -> float:
            return frames.seconds(partial(sliders[what].setValue, value))

        training = Training(Path(folder), settings)
        try:
            found = measure_in_turn(training, move, _rest, settings)
        finally:
            training.close()
    viewer.close()
    return found


def _rest(seconds: float) -> None:
    until = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() >= until, "A rest")


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(FinetuneSettings.from_command_line())))
