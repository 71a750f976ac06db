"""Our way with a window: from a slider of the real dock to a frame on the screen.

Run as a program by `bench.explore`.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import napari
import numpy as np
import numpy.typing as npt
import torch
from napari.layers import Labels
from qtpy.QtWidgets import QApplication
from superqt import QDoubleSlider

from napari_structseg.bench.frames import Frames, find_canvas, wait_until
from napari_structseg.bench.memory import megabytes, resident_bytes
from napari_structseg.bench.timing import (
    N_CLASSES,
    RANK,
    WINDOW_SIZE,
    Settings,
    percentiles,
    slider_values,
)
from napari_structseg.io.weights import save_weights
from napari_structseg.models import BackboneSpec, ClassSpec, LowRankSpec, ModelSpec, build_network
from napari_structseg.widgets.explore import ExploreWidget

_COLORS = ("#000000", "#4477aa", "#228833", "#ee6677")
_MOVES_PER_DRAG = 10
_SETTLING_MOVES = 500
_MOVES_PER_FRAME = 10


def measure(settings: Settings) -> dict[str, Any]:
    """Move the dock's sliders; in turn with it, let napari repaint the same labels by itself.

    Returns
    -------
    dict
        ``painted_frame``: percentiles of both, and their ratio; ``memory_growth_mb``.
    """
    viewer = napari.Viewer()
    viewer.window.resize(*WINDOW_SIZE)
    viewer.add_image(random_image(settings.shape), name="random")
    dock = ExploreWidget(viewer)
    viewer.window.add_dock_widget(dock, name="Explore")
    with tempfile.TemporaryDirectory() as folder:
        dock.source.choose_model(random_model(Path(folder), settings.shape))
        dock.state.source.device = settings.device
        dock.source.run_button.click()
        wait_until(lambda: dock.is_exploring() and not dock.is_busy(), "The model")
    dock.strip.select(1)
    wait_until(lambda: not dock.is_busy(), "The sample")
    if dock.layers is None:
        raise RuntimeError(f"the dock shows nothing: {dock.banner.message}")
    layer = dock.layers.segmentation
    sliders = {
        "temperature": dock.spread.temperature_slider.slider,
        "class_scale": dock.spread.rows[2].scale.slider,
    }
    painted, floor = _paint(dock, layer, sliders, settings)
    growth = _growth(dock, sliders, settings.memory_moves)
    viewer.close()
    ours, alone = percentiles(painted), percentiles(floor)
    return {
        "painted_frame": {
            **ours,
            "napari_floor_p50_ms": alone["p50_ms"],
            "napari_floor_p95_ms": alone["p95_ms"],
            "p95_over_floor": round(ours["p95_ms"] / alone["p95_ms"], 3),
        },
        "memory_growth_mb": megabytes(growth),
    }


def _paint(
    dock: ExploreWidget,
    layer: Labels,
    sliders: Mapping[str, QDoubleSlider],
    settings: Settings,
) -> tuple[list[float], list[float]]:
    """Seconds from a slider's move to its frame, and of napari alone with the same labels.

    In turn: a drag of some moves, then napari alone with the labels it gave, so that both see
    the same machine.
    """
    frames = Frames(find_canvas())
    frames.watch(layer)
    region = (settings.shape[0] // 2,)
    ours: list[float] = []
    floor: list[float] = []
    moves = slider_values(_MOVES_PER_DRAG + settings.moves)
    while drag := list(itertools.islice(moves, _MOVES_PER_DRAG)):
        pictures = []
        for what, value in drag:
            ours.append(frames.seconds(partial(sliders[what].setValue, value)))
            pictures.append(layer.data[region].copy())
        # What the engine does behind the slice is no part of napari's floor.
        wait_until(lambda: not dock.is_busy(), "The volume")
        floor.extend(frames.seconds(partial(_write, layer, region, p)) for p in pictures)
    # The first drag warms up.
    return ours[_MOVES_PER_DRAG:], floor[_MOVES_PER_DRAG:]


def _write(layer: Labels, region: tuple[int], labels: npt.NDArray[np.uint8]) -> None:
    """The least that napari needs to show other labels."""
    layer.data[region] = labels
    layer.refresh(extent=False, thumbnail=False, highlight=False)


def _growth(dock: ExploreWidget, sliders: Mapping[str, QDoubleSlider], n_moves: int) -> int:
    """Bytes that slider moves leave behind; they come faster than frames, as from a hand."""
    sizes = []
    for count in (_SETTLING_MOVES, n_moves):
        for number, (what, value) in enumerate(slider_values(count)):
            sliders[what].setValue(value)
            if number % _MOVES_PER_FRAME == 0:
                QApplication.processEvents()
        wait_until(lambda: not dock.is_busy(), "The last move")
        sizes.append(resident_bytes())
    return sizes[1] - sizes[0]


def random_image(shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Random intensities, none of them 0."""
    return np.random.default_rng(0).integers(1, 255, shape, dtype=np.uint8)


def random_model(folder: Path, shape: tuple[int, ...]) -> Path:
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
        head=LowRankSpec(rank=RANK),
    )
    torch.manual_seed(0)
    path = folder / "random.safetensors"
    save_weights(path, build_network(spec), spec)
    return path


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(Settings.from_command_line())))
