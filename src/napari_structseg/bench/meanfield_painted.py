"""From a moved strength to the first iteration on the screen. Run by `bench.meanfield`."""

from __future__ import annotations

import itertools
import json
import sys
from functools import partial
from pathlib import Path

import napari
import numpy as np

from napari_structseg.bench.frames import Frames, find_canvas, wait_until
from napari_structseg.bench.meanfield import IMAGE, MODEL, MeanFieldSettings
from napari_structseg.bench.timing import WINDOW_SIZE, percentiles
from napari_structseg.session.messages import Result, SliceLabels
from napari_structseg.widgets.explore import ExploreWidget

_WARM_UP_MOVES = 5
_STRENGTHS = (0.5, 0.75, 1.25, 1.5, 1.75, 1.0)


def measure(settings: MeanFieldSettings) -> dict[str, float]:
    """Move the strength on the demo brain, each time once the slice has all its iterations.

    What the engine does behind the slice goes on, as it does while somebody works.

    Returns
    -------
    dict
        Percentiles in ms.
    """
    viewer = napari.Viewer()
    viewer.window.resize(*WINDOW_SIZE)
    image = np.load(Path(settings.folder) / IMAGE)
    viewer.add_image(image, name="MNI152 T1")
    viewer.dims.set_current_step(0, settings.shape[0] // 2)
    dock = ExploreWidget(viewer)
    viewer.window.add_dock_widget(dock, name="Explore")
    dock.source.choose_model(MODEL)
    dock.state.source.device = settings.device
    dock.source.run_button.click()
    wait_until(lambda: dock.is_exploring() and not dock.is_busy(), "The model")
    if dock.layers is None or dock.engine is None:
        raise RuntimeError(f"the dock shows nothing: {dock.banner.message}")
    finished: list[SliceLabels] = []

    def note(result: Result) -> None:
        if isinstance(result, SliceLabels) and result.is_final:
            finished.append(result)

    dock.engine.result.connect(note)
    frames = Frames(find_canvas())
    frames.watch(dock.layers.segmentation)
    strengths = itertools.cycle(_STRENGTHS)
    seconds = []
    for _ in range(_WARM_UP_MOVES + settings.moves):
        move = partial(dock.neighbours.strength_slider.set_value, next(strengths))
        finished.clear()
        seconds.append(frames.seconds(move))
        wait_until(lambda: bool(finished), "The slice")
    viewer.close()
    return percentiles(seconds[_WARM_UP_MOVES:])


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(MeanFieldSettings.from_command_line())))
