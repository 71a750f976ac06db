"""From a dab of the brush in the real dock to the painted slice. Run by `bench.correct`."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import napari
from napari.layers import Labels

from napari_structseg.bench.correct import DAB, CorrectSettings, after_warm_up, places
from napari_structseg.bench.frames import Frames, find_canvas, wait_until
from napari_structseg.bench.painted import random_image, random_model
from napari_structseg.bench.timing import N_CLASSES, WINDOW_SIZE, percentiles
from napari_structseg.correction.folders import VARIABLE as SESSIONS
from napari_structseg.widgets.correct import CorrectWidget
from napari_structseg.widgets.explore import ExploreWidget


def measure(settings: CorrectSettings) -> dict[str, Any]:
    """Click with the brush of the strokes layer, one dab more each time, the session saved.

    Returns
    -------
    dict
        ``p50_ms`` and ``p95_ms`` from before the event of the mouse to the frame; ``event``, the
        same of the event alone, in which the window answers to nothing else.
    """
    with tempfile.TemporaryDirectory() as folder:
        # What is painted is saved as it is while somebody works, but not among his sessions.
        os.environ[SESSIONS] = folder
        return _measure(settings, Path(folder))


def _measure(settings: CorrectSettings, folder: Path) -> dict[str, Any]:
    viewer = napari.Viewer()
    viewer.window.resize(*WINDOW_SIZE)
    viewer.add_image(random_image(settings.shape), name="random")
    viewer.dims.set_current_step(0, settings.shape[0] // 2)
    dock, correct = ExploreWidget(viewer), CorrectWidget(viewer)
    viewer.window.add_dock_widget(correct, name="Correct")
    viewer.window.add_dock_widget(dock, name="Explore")
    dock.source.choose_model(random_model(folder, settings.shape))
    dock.source.run_button.click()
    wait_until(lambda: dock.is_exploring() and not dock.is_busy(), "The model")
    dock.strip.select(1)
    correct.strokes.class_buttons[0].click()
    wait_until(lambda: not dock.is_busy(), "The sample")
    layer, brush = dock.layers, viewer.layers.selection.active
    if layer is None or not isinstance(brush, Labels):
        raise RuntimeError(f"the dock shows nothing: {dock.banner.message}")
    brush.brush_size = DAB
    frames = Frames(find_canvas())
    frames.watch(layer.segmentation)
    seconds, in_event = [], []

    def dab(number: int, first: tuple[int, int, int]) -> None:
        middle, top, left = first
        started = time.perf_counter()
        with brush.block_history():
            brush.paint((middle, top + DAB // 2, left + DAB // 2), number % N_CLASSES + 1)
        in_event.append(time.perf_counter() - started)

    for number, first in enumerate(places(settings.shape, settings.strokes)):
        seconds.append(frames.seconds(partial(dab, number, first)))
    wait_until(lambda: not (dock.is_busy() or correct.correcting.is_busy()), "What was said")
    correct.shut_down()
    dock.shut_down()
    viewer.close()
    return {
        **percentiles(after_warm_up(seconds)),
        "event": percentiles(after_warm_up(in_event)),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(CorrectSettings.from_command_line())))
