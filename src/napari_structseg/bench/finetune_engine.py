"""Sliders of the engine, without a window, while a model learns. A part of `bench.finetune`."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from napari_structseg.bench.finetune import FinetuneSettings
from napari_structseg.bench.finetune_in_turn import Training, measure_in_turn
from napari_structseg.bench.ours import VOXEL_ML, EngineViewer, random_distribution
from napari_structseg.bench.timing import moved
from napari_structseg.controls import Controls
from napari_structseg.session.engine import Engine
from napari_structseg.session.messages import View


def measure(settings: FinetuneSettings) -> dict[str, Any]:
    """From a request until the labels of the visible slice are there."""
    engine = Engine(random_distribution(settings.shape), VOXEL_ML)
    viewer = EngineViewer(engine, settings.shape)
    view = View(0, settings.shape[0] // 2)
    controls = Controls(sample=1)
    viewer.wait_for_slice(controls, view)

    def move(what: str, value: float) -> float:
        nonlocal controls
        controls = moved(controls, what, value)
        return viewer.wait_for_slice(controls, view)

    with tempfile.TemporaryDirectory() as folder:
        training = Training(Path(folder), settings)
        try:
            found = measure_in_turn(training, move, time.sleep, settings)
        finally:
            training.close()
    # What the engine still computes must not run into the end of the program.
    viewer.wait_until_idle()
    engine.close()
    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(FinetuneSettings.from_command_line())))
