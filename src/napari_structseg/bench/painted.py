"""Our way with a window: from a slider of the real dock to a frame on the screen.

Run as a program by `bench.explore`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import napari
import numpy as np
import numpy.typing as npt
import torch

from napari_structseg.bench.frames import Frames, find_canvas, wait_until
from napari_structseg.bench.timing import (
    N_CLASSES,
    RANK,
    WINDOW_SIZE,
    Settings,
    percentiles,
    slider_values,
)
from napari_structseg.io.weights import save_weights
from napari_structseg.models import BackboneSpec, ClassSpec, HeadSpec, ModelSpec, build_network
from napari_structseg.widgets.explore import ExploreWidget

_COLORS = ("#000000", "#4477aa", "#228833", "#ee6677")
_WARM_UP_MOVES = 10


def measure(settings: Settings) -> dict[str, Any]:
    """Move the dock's sliders; in turn with it, let napari repaint the same labels by itself.

    Returns
    -------
    dict
        ``painted_frame``: percentiles of both, and their ratio.
    """
    viewer = napari.Viewer()
    viewer.window.resize(*WINDOW_SIZE)
    viewer.add_image(_random_image(settings.shape), name="random")
    dock = ExploreWidget(viewer)
    viewer.window.add_dock_widget(dock, name="Explore")
    with tempfile.TemporaryDirectory() as folder:
        dock.source.choose_model(_random_model(Path(folder), settings.shape))
        dock.source.run_button.click()
        wait_until(lambda: dock.is_exploring() and not dock.is_busy(), "The model")
    dock.strip.select(1)
    wait_until(lambda: not dock.is_busy(), "The sample")
    if dock.layers is None:
        raise RuntimeError(f"the dock shows nothing: {dock.banner.message}")
    layer = dock.layers.segmentation
    frames = Frames(find_canvas())
    frames.watch(layer)
    sliders = {
        "temperature": dock.spread.temperature_slider.slider,
        "class_scale": dock.spread.rows[2].scale.slider,
    }
    region = (settings.shape[0] // 2,)
    ours, floor = [], []
    before = layer.data[region].copy()
    for what, value in slider_values(_WARM_UP_MOVES + settings.moves):
        ours.append(frames.seconds(lambda w=what, v=value: sliders[w].setValue(v)))  # type: ignore[misc]
        after = layer.data[region].copy()

        def write(labels: npt.NDArray[np.uint8] = before) -> None:
            layer.data[region] = labels
            layer.refresh(extent=False, thumbnail=False, highlight=False)

        floor.append(frames.seconds(write))
        before = after
    wait_until(lambda: not dock.is_busy(), "The last sample")
    viewer.close()
    painted, alone = (percentiles(one[_WARM_UP_MOVES:]) for one in (ours, floor))
    return {
        "painted_frame": {
            **painted,
            "napari_floor_p50_ms": alone["p50_ms"],
            "napari_floor_p95_ms": alone["p95_ms"],
            "p95_over_floor": round(painted["p95_ms"] / alone["p95_ms"], 3),
        }
    }


def _random_image(shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(1, 255, shape, dtype=np.uint8)


def _random_model(folder: Path, shape: tuple[int, ...]) -> Path:
    """A network of one layer with random weights: its parameters are random, and soon there."""
    spec = ModelSpec(
        name="random",
        dimensions=3,
        channels=("random",),
        classes=tuple(
            ClassSpec(name=f"class {label}", color=color) for label, color in enumerate(_COLORS)
        ),
        patch=tuple(min(64, size) for size in shape),
        backbone=BackboneSpec(widths=(N_CLASSES,), convolutions=(1,), norm="none"),
        head=HeadSpec(rank=RANK),
    )
    torch.manual_seed(0)
    path = folder / "random.safetensors"
    save_weights(path, build_network(spec), spec)
    return path


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(Settings.from_command_line())))
