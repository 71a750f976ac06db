"""A real window with the dock in it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from napari.layers import Image as ImageLayer

from napari_structseg.widgets.correct import CorrectWidget, make_correct_widget
from napari_structseg.widgets.explore import ExploreWidget, make_explore_widget
from napari_structseg.widgets.panels.source_panel import RunState
from tiny_models import tiny_model

SHAPE = (12, 20, 16)
TIMEOUT_MS = 60_000


def brain(shape: tuple[int, ...] = SHAPE, seed: int = 0) -> np.ndarray:
    """Noise with a dark frame around it, as a skull-stripped brain has."""
    image = np.random.default_rng(seed).normal(100, 30, shape).clip(1).astype(np.float32)
    image[:, :2] = 0
    return image


class Dock:
    """The dock in a viewer, driven as a user would."""

    def __init__(self, viewer, qtbot, folder: Path) -> None:
        self.viewer = viewer
        self.qtbot = qtbot
        self.widget: ExploreWidget = make_explore_widget(viewer)
        self.docked = viewer.window.add_dock_widget(self.widget, name="Explore segmentations")
        self.folder = folder

    def add_image(self, data: np.ndarray | None = None, **settings) -> ImageLayer:
        return self.viewer.add_image(brain() if data is None else data, **settings)

    def choose(self, **fields) -> Path:
        path = self.folder / "tiny.safetensors"
        tiny_model(path, **fields)
        self.widget.source.choose_model(path)
        return path

    def run(self) -> None:
        self.widget.source.run_button.click()
        self.settle()

    def settle(self) -> None:
        """Wait until everything is computed and painted."""
        self.wait(lambda: not self.widget.is_busy())

    def wait(self, condition: Callable[[], bool]) -> None:
        self.qtbot.waitUntil(condition, timeout=TIMEOUT_MS)

    @contextmanager
    def held_after_first_slice(self) -> Iterator[None]:
        """A run that is begun inside goes no further than its first slice before the end."""
        runs = self.widget._session.runs
        shown, may_go_on = threading.Event(), threading.Event()

        def hold(_state: RunState) -> None:
            if runs.state is RunState.RUNNING:
                runs.job.run.first_ready.connect(lambda _outcome: shown.set())
                runs.job.run.progressed.connect(wait)

        def wait(*_steps: int) -> None:
            if shown.is_set():
                may_go_on.wait(TIMEOUT_MS / 1000)

        runs.changed.connect(hold)
        try:
            yield
        finally:
            runs.changed.disconnect(hold)
            may_go_on.set()

    @property
    def labels(self) -> np.ndarray:
        assert self.widget.layers is not None, self.widget.banner.message
        return self.widget.layers.segmentation.data

    @property
    def distribution(self):
        assert self.widget.engine is not None, self.widget.banner.message
        return self.widget.engine.distribution


@pytest.fixture
def dock(make_napari_viewer_proxy, qtbot, tmp_path):
    """The dock, nothing chosen yet."""
    made = Dock(make_napari_viewer_proxy(), qtbot, tmp_path)
    yield made
    # A test that leaves work behind would disturb the next one.
    engine = made.widget.engine
    made.widget.shut_down()
    assert engine is None or engine.join(60)


@pytest.fixture
def exploring(dock):
    """The dock after a run on a small image."""
    dock.add_image(name="T1", scale=(2, 1, 1))
    dock.choose()
    dock.run()
    assert dock.widget.is_exploring(), dock.widget.banner.message
    return dock


class CorrectDock(Dock):
    """The Correct dock beside the other, in the same viewer."""

    def __init__(self, dock: Dock) -> None:
        self.__dict__.update(dock.__dict__)
        self.correct: CorrectWidget = make_correct_widget(dock.viewer)
        dock.viewer.window.add_dock_widget(self.correct, name="Correct the segmentation")

    @property
    def strokes(self):
        """What was said, as the state has it."""
        return self.widget.state.correction.strokes

    @property
    def book(self):
        return self.correct.correcting.book

    @property
    def result(self) -> np.ndarray:
        """The user's own labels."""
        return self.book.correction.result.labels

    @contextmanager
    def held_actions(self) -> Iterator[None]:
        """Corrections that are asked for inside are not done before the end."""
        may_go_on = threading.Event()
        self.correct.correcting._actions.do(
            lambda: may_go_on.wait(TIMEOUT_MS / 1000), lambda _error: None
        )
        try:
            yield
        finally:
            may_go_on.set()

    def drag(self, layer, *places: tuple[int, ...]) -> None:
        """Paint as a drag of the mouse over places of a layer does."""
        with layer.block_history():
            for place in places:
                layer.paint(place, layer.selected_label if layer.mode != "erase" else 0)


@pytest.fixture
def correcting(exploring):
    """Both docks after a run on a small image."""
    made = CorrectDock(exploring)
    yield made
    made.correct.shut_down()
