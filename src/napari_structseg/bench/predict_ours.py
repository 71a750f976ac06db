"""Our prediction, from the model's file to the labels. Run as a program by `bench.predict`."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from napari_structseg.bench.memory import megabytes, peak_bytes, resident_bytes
from napari_structseg.bench.predict import LABELS, PredictSettings
from napari_structseg.controls import Controls
from napari_structseg.devices import resolve_device
from napari_structseg.distributions import slice_region
from napari_structseg.io.model_files import find_model
from napari_structseg.io.weights import load_weights
from napari_structseg.prediction.predictor import Predictor
from napari_structseg.render.rendering import Renderer


def measure(settings: PredictSettings) -> dict[str, Any]:
    """From the file of the model to the labels of the mean, without an MRF.

    Returns
    -------
    dict
        ``precision`` that was computed in; ``first_slice_s`` until the labels of the middle axial
        slice are there, ``complete_s`` until those of all voxels are, and ``peak_memory_mb``.
    """
    image = settings.image()
    device = resolve_device(settings.device)
    visible = slice_region(image.spatial_shape, 0, image.spatial_shape[0] // 2)
    before, first = resident_bytes(), None
    started = time.perf_counter()
    network, spec = load_weights(find_model(settings.model), device)
    predictor = Predictor(network, spec, precision=settings.precision)
    distribution = None
    for step in predictor.stream(image, visible):
        distribution = step.distribution
        if first is None and distribution is not None:
            Renderer(distribution).visible_labels(Controls(), visible)
            first = time.perf_counter() - started
    if distribution is None or first is None:
        raise AssertionError("a stream ends with a complete prediction")
    labels = Renderer(distribution).render_volume(Controls())
    complete = time.perf_counter() - started
    peak = peak_bytes() - before
    np.save(Path(settings.folder) / LABELS.format("ours"), labels)
    return {
        "precision": predictor.precision,
        "first_slice_s": round(first, 2),
        "complete_s": round(complete, 2),
        "peak_memory_mb": megabytes(peak),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(PredictSettings.from_command_line())))
