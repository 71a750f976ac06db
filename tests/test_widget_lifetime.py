from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from qtpy.QtWidgets import QApplication

from dock_helpers import Dock, brain, dock, exploring  # noqa: F401 -- fixtures
from napari_structseg import render_labels
from napari_structseg.models import BackboneSpec, HeadSpec
from napari_structseg.session.messages import Show
from napari_structseg.widgets.panels.source_panel import RunState
from napari_structseg.widgets.sessions import session_of
from napari_structseg.widgets.shortcuts import SHORTCUTS
from tiny_models import tiny_model

# Seconds of work, half of it after the visible slice: there is time to do something meanwhile.
LARGE = (64, 128, 128)
SLOW = BackboneSpec(widths=(16, 16), convolutions=(4, 1), norm="weight")


def expected_labels(dock) -> np.ndarray:
    controls = dock.widget.controls
    return render_labels(dock.distribution, controls.noise, controls)


def names(dock) -> list[str]:
    return [layer.name for layer in dock.viewer.layers]


def start_long_run(dock) -> None:
    dock.widget.source.choose_image(dock.add_image(brain(LARGE), name="large"))
    dock.choose(backbone=SLOW)
    dock.widget.source.run_button.click()
    dock.wait(lambda: dock.widget.source.progress.maximum() > 1)
    assert dock.widget.source.state is RunState.RUNNING
    assert dock.widget.source.run_button.text() == "Cancel"


@pytest.mark.parametrize("show", list(Show))
def test_a_deleted_layer_comes_back_when_something_is_moved(exploring, show) -> None:
    exploring.widget.show_panel.choose(show)
    exploring.settle()
    before = names(exploring)
    for layer in exploring.widget.layers.all:
        if layer in exploring.viewer.layers:
            exploring.viewer.layers.remove(layer)
    exploring.viewer.dims.set_current_step(0, 2)
    exploring.settle()
    assert names(exploring) == ["T1"]
    exploring.widget.spread.temperature_slider.slider.setValue(1.8)
    exploring.settle()
    assert set(names(exploring)) <= set(before)
    assert len(names(exploring)) == 2
    assert np.array_equal(exploring.labels, expected_labels(exploring))


def test_layers_deleted_while_they_are_computed(exploring) -> None:
    exploring.widget.strip.select(4)
    for layer in exploring.widget.layers.all:
        if layer in exploring.viewer.layers:
            exploring.viewer.layers.remove(layer)
    exploring.settle()
    assert names(exploring) == ["T1"]
    assert np.array_equal(exploring.labels, expected_labels(exploring))


def test_the_image_deleted_after_the_run(exploring) -> None:
    exploring.viewer.layers.remove("T1")
    exploring.widget.strip.select(2)
    exploring.settle()
    assert np.array_equal(exploring.labels, expected_labels(exploring))
    assert exploring.widget.source.image_layer is None
    assert not exploring.widget.source.run_button.isEnabled()
    engine = exploring.widget.engine
    exploring.viewer.layers.clear()
    assert not exploring.widget.is_exploring()
    assert exploring.widget.welcome.isVisibleTo(exploring.widget)
    assert engine.join(60)
    exploring.widget.show_panel.choose(Show.CONTOURS)
    exploring.widget.strip.select(3)
    exploring.settle()
    assert names(exploring) == []
    exploring.add_image(name="again")
    exploring.run()
    assert exploring.widget.state.controls.sample == 3
    assert np.array_equal(exploring.labels, expected_labels(exploring))


def test_what_the_user_hides_stays_hidden(exploring) -> None:
    segmentation = exploring.widget.layers.segmentation
    segmentation.visible = False
    exploring.widget.strip.select(2)
    exploring.settle()
    assert not segmentation.visible
    segmentation.visible = True
    assert np.array_equal(exploring.labels, expected_labels(exploring))


def test_a_second_image_and_a_second_model(exploring) -> None:
    exploring.widget.strip.select(3)
    second = exploring.add_image(brain((10, 12, 14), seed=1), name="T2")
    exploring.widget.source.choose_image(second)
    assert exploring.widget.state.controls.sample == 3
    exploring.run()
    assert exploring.labels.shape == (10, 12, 14)
    assert np.array_equal(exploring.labels, expected_labels(exploring))
    assert exploring.widget.state.controls.sample == 3
    assert names(exploring) == ["T1", "Segmentation", "T2", "Segmentation [1]"]

    path = tiny_model(exploring.folder / "unet.safetensors", head=HeadSpec(kind="point"))
    exploring.widget.source.choose_model(path)
    exploring.run()
    assert exploring.widget.state.controls.sample == 0
    assert np.array_equal(exploring.labels, expected_labels(exploring))
    assert names(exploring) == ["T1", "Segmentation", "T2", "Segmentation [1]"]


def test_the_same_image_again_keeps_layers_and_sliders(exploring) -> None:
    widget = exploring.widget
    widget.strip.select(2)
    widget.spread.rows[1].scale.set_value(-1)
    exploring.settle()
    layers, labels = widget.layers, exploring.labels.copy()
    exploring.run()
    assert widget.layers is layers
    assert widget.controls.class_scale == (1, -1, 1, 1)
    assert np.array_equal(exploring.labels, labels)


def test_cancel(dock) -> None:
    start_long_run(dock)
    dock.widget.source.run_button.click()
    assert dock.widget.source.run_button.text() == "Cancelling…"
    assert not dock.widget.source.run_button.isEnabled()
    dock.settle()
    assert dock.widget.source.state is RunState.READY
    assert dock.widget.status.hint.text() == "Cancelled"
    assert not dock.widget.is_exploring()
    assert names(dock) == ["large"]


def test_a_cancelled_run_gives_the_last_result_back(exploring) -> None:
    exploring.choose(backbone=SLOW)
    exploring.run()
    exploring.widget.strip.select(1)
    exploring.settle()
    labels = exploring.labels.copy()
    start_long_run(exploring)
    # Until the first slice of the new run is on the screen.
    exploring.wait(lambda: exploring.labels.shape == LARGE)
    first, second = (layer for layer in exploring.viewer.layers if "Segm" in layer.name)
    assert not first.visible
    assert second.data.shape == LARGE
    exploring.widget.source.run_button.click()
    exploring.settle()
    assert names(exploring) == ["T1", "Segmentation", "large"]
    assert not exploring.widget.is_exploring()
    exploring.widget.source.choose_image(exploring.viewer.layers["T1"])
    exploring.settle()
    assert first.visible
    assert np.array_equal(exploring.labels, labels)
    # The background has no volume.
    marked = [row.plot.mark_ml is not None for row in exploring.widget.spread.rows]
    assert marked == [False, True, True, True]


def test_the_visible_slice_comes_before_the_run_is_done(dock) -> None:
    start_long_run(dock)
    dock.viewer.dims.set_current_step(0, 24)
    dock.wait(dock.widget.is_exploring)
    assert dock.widget.source.state is RunState.RUNNING
    dock.wait(lambda: bool(dock.labels[24].any()))
    dock.viewer.dims.set_current_step(0, 40)
    dock.widget.strip.select(1)
    dock.settle()
    assert np.array_equal(dock.labels, expected_labels(dock))


def test_a_slice_moved_to_grows_before_the_run_is_done(dock) -> None:
    start_long_run(dock)
    dock.wait(dock.widget.is_exploring)
    # Far from the visible slice: in none of the pieces that came first.
    place = (dock.viewer.dims.current_step[0] + LARGE[0] // 2) % LARGE[0]
    dock.viewer.dims.set_current_step(0, place)
    session = session_of(dock.viewer)
    dock.wait(lambda: not session.controller.current.is_busy())
    seen = dock.labels[place].copy()
    changes = []

    def has_grown() -> bool:
        if not np.array_equal(dock.labels[place], seen):
            changes.append(dock.widget.source.state)
        return bool(changes)

    dock.wait(has_grown)
    assert changes == [RunState.RUNNING]
    dock.settle()
    assert np.array_equal(dock.labels, expected_labels(dock))


def test_the_image_deleted_while_the_run_is_on(dock) -> None:
    start_long_run(dock)
    dock.viewer.layers.clear()
    dock.settle()
    assert names(dock) == []
    assert not dock.widget.is_exploring()
    assert not dock.widget.banner.message


def test_another_image_added_while_the_run_is_on(dock) -> None:
    start_long_run(dock)
    dock.add_image(name="other")
    dock.settle()
    assert dock.labels.shape == LARGE


def test_the_dock_closed_while_the_run_is_on(dock) -> None:
    start_long_run(dock)
    run = dock.widget._session.runs.job.run
    dock.viewer.window.remove_dock_widget(dock.docked)
    assert run.join(60)
    QApplication.processEvents()
    assert names(dock) == ["large"]


def test_the_dock_closed_while_it_renders(exploring) -> None:
    engine = exploring.widget.engine
    viewer = exploring.viewer
    n_bound = len(viewer.keymap)
    exploring.widget.strip.select(4)
    viewer.window.remove_dock_widget(exploring.docked)
    assert len(viewer.keymap) == n_bound - len(SHORTCUTS)
    assert engine.join(60)
    QApplication.processEvents()
    # Nobody listens now.
    viewer.dims.set_current_step(0, 1)
    viewer.layers["T1"].contrast_limits = (0, 50)
    viewer.layers["T1"].name = "renamed"
    viewer.add_image(brain())
    viewer.layers.clear()
    assert engine.is_idle()


def test_the_window_closed_while_the_run_is_on(make_napari_viewer, qtbot, tmp_path) -> None:
    dock = Dock(make_napari_viewer(), qtbot, tmp_path)
    start_long_run(dock)
    run = dock.widget._session.runs.job.run
    dock.viewer.close()
    assert run.join(60)
    QApplication.processEvents()
    assert not dock.viewer.layers
    dock.widget.shut_down()


@pytest.mark.parametrize("doing", ["running", "rendering"])
def test_python_ends_while_something_is_computed(doing, tmp_path) -> None:
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path.cwd() / "tests")!r})
import napari
from pathlib import Path
from qtpy.QtWidgets import QApplication
from dock_helpers import brain
from napari_structseg.widgets.explore import ExploreWidget
from tiny_models import tiny_model

viewer = napari.Viewer(show=False)
viewer.add_image(brain({LARGE}))
dock = ExploreWidget(viewer)
viewer.window.add_dock_widget(dock)
dock.source.choose_model(tiny_model(Path({str(tmp_path)!r}) / "tiny.safetensors"))
dock.run()
while dock.source.progress.maximum() <= 1:
    QApplication.processEvents()
if {doing == "rendering"}:
    while dock.is_busy():
        QApplication.processEvents()
    dock.strip.select(1)
viewer.close()
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr


def test_opening_and_closing_leaves_nothing_behind(make_napari_viewer, qtbot, tmp_path) -> None:
    viewer = make_napari_viewer()
    before = len(viewer.dims.events.point.callbacks), len(viewer.layers.events.removed.callbacks)
    for _ in range(3):
        dock = Dock(viewer, qtbot, tmp_path)
        viewer.window.remove_dock_widget(dock.docked)
    QApplication.processEvents()
    after = len(viewer.dims.events.point.callbacks), len(viewer.layers.events.removed.callbacks)
    assert after == before
