"""From a stroke of the real dock to the painted slice. Run as a program by `bench.correct`."""

from __future__ import annotations

import json
import sys
import tempfile
from functools import partial
from pathlib import Path

import napari

from napari_structseg.bench.correct import CorrectSettings, after_warm_up, dabs
from napari_structseg.bench.frames import Frames, find_canvas, wait_until
from napari_structseg.bench.painted import random_image, random_model
from napari_structseg.bench.timing import WINDOW_SIZE, percentiles
from napari_structseg.widgets.explore import ExploreWidget


def measure(settings: CorrectSettings) -> dict[str, float]:
    """Set the strokes of the state, as the strokes layer does, with one dab more each time.

    Returns
    -------
    dict
        Percentiles in ms.
    """
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
    correction = dock.state.correction
    seconds = [
        frames.seconds(partial(setattr, correction, "strokes", strokes))
        for strokes in dabs(settings.shape, settings.strokes)
    ]
    viewer.close()
    return percentiles(after_warm_up(seconds))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(CorrectSettings.from_command_line())))
