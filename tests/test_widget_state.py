"""One state, many views: what is set in one place is seen everywhere, and asked for once."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import Qt

from dock_helpers import Dock, brain, dock, exploring  # noqa: F401 -- fixtures
from napari_structseg import render_labels
from napari_structseg.controls import Controls
from napari_structseg.priors import PriorSpec
from napari_structseg.session.messages import Show
from napari_structseg.session.state import ExplorerState
from napari_structseg.widgets.shortcuts import SHORTCUTS


def requests(exploring) -> list[object]:
    """Everything that is asked for from now on."""
    asked: list[object] = []
    exploring.widget._controller.asked.connect(asked.append)
    return asked


def test_what_a_script_sets_moves_the_widgets(exploring) -> None:
    widget, state = exploring.widget, exploring.widget.state
    state.controls.temperature = 1.437
    state.controls.class_scale = (1, 0.5, 1, -2)
    state.controls.sample = 3
    state.controls.seed = 11
    state.display.show = Show.ENTROPY
    state.display.n_thumbnails = 14
    # What is shown is rounded, what was set is not.
    assert state.controls.temperature == 1.437
    assert widget.spread.temperature_slider.value == pytest.approx(1.44)
    assert [row.scale.value for row in widget.spread.rows] == [1, 0.5, 1, -2]
    assert widget.strip.thumbnails[3].isChecked()
    assert widget.strip.seed_box.value() == 11
    assert widget.strip.n_samples == 14
    assert widget.show_panel.buttons[Show.ENTROPY].isChecked()
    exploring.settle()


def test_an_action_is_one_request(exploring) -> None:
    state, asked = exploring.widget.state, requests(exploring)
    state.controls.take(Controls(temperature=2.0, sample=4, class_scale=(1, 1, 0, 1)))
    assert len(asked) == 1
    state.restore(ExplorerState(source=state.source).model_dump_json())
    assert len(asked) == 2
    exploring.widget.spread.temperature_slider.slider.setValue(1.5)
    assert len(asked) == 3
    # The mean has no spread: a sample took its place in the same action.
    assert state.controls.sample == 1
    exploring.settle()
    controls = exploring.widget.controls
    expected = render_labels(exploring.distribution, controls.noise, controls)
    assert np.array_equal(exploring.labels, expected)


def test_two_docks_of_one_viewer_move_together(exploring) -> None:
    second = Dock(exploring.viewer, exploring.qtbot, exploring.folder)
    one, other = exploring.widget, second.widget
    assert other.state is one.state
    assert other.is_exploring()
    assert other.layers is one.layers
    assert len(other.spread.rows) == 4
    one.spread.rows[1].scale.slider.setValue(-1.5)
    assert other.spread.rows[1].scale.value == -1.5
    other.strip.thumbnails[2].click()
    assert one.strip.thumbnails[2].isChecked()
    exploring.settle()
    assert other.strip.thumbnails[2].picture == one.strip.thumbnails[2].picture is not None
    # One goes, the other goes on.
    exploring.viewer.window.remove_dock_widget(second.docked)
    one.state.controls.sample = 5
    exploring.settle()
    controls = one.controls
    expected = render_labels(exploring.distribution, controls.noise, controls)
    assert np.array_equal(exploring.labels, expected)


def test_two_viewers_have_two_states(exploring, make_napari_viewer, qtbot, tmp_path) -> None:
    other = Dock(make_napari_viewer(), qtbot, tmp_path)
    other.widget.state.controls.temperature = 2
    assert exploring.widget.state.controls.temperature == 1
    other.widget.shut_down()


def test_results_belong_to_their_image(exploring) -> None:
    widget, viewer = exploring.widget, exploring.viewer
    widget.strip.select(2)
    exploring.settle()
    labels, first = exploring.labels.copy(), widget.layers.segmentation
    widget.source.choose_image(exploring.add_image(brain(seed=3), name="T2"))
    assert not first.visible
    assert not widget.is_exploring()
    assert not widget.sections[0].isVisibleTo(widget)
    exploring.run()
    assert widget.layers.segmentation is not first
    second = exploring.labels.copy()
    assert not np.array_equal(second, labels)
    runs = []
    widget._session.runs.changed.connect(runs.append)
    for name, wanted in (("T1", labels), ("T2", second)):
        widget.source.choose_image(viewer.layers[name])
        exploring.settle()
        assert widget.layers.segmentation.visible
        assert np.array_equal(exploring.labels, wanted)
    assert not first.visible
    assert not runs


def test_sliders_are_undone_by_keys_and_strokes_in_their_layer(exploring, qtbot) -> None:
    widget, viewer = exploring.widget, exploring.viewer
    state, keys = widget.state, {str(key): act for key, act in viewer.keymap.items()}
    widget.spread.temperature_slider.set_value(2)
    widget.neighbours.iteration_slider.set_value(0)
    widget.spread.rows[1].scale.set_value(0.5)
    keys["Ctrl+Z"](viewer)
    assert widget.spread.rows[1].scale.value == 1
    assert state.controls.sample == 1
    keys["Ctrl+Z"](viewer)
    assert state.controls.temperature == widget.spread.temperature_slider.value == 1
    assert state.controls.sample == 0
    keys["Ctrl+Z"](viewer)
    assert widget.status.hint.text() == "Nothing to undo"
    keys["Ctrl+Y"](viewer)
    assert widget.spread.temperature_slider.value == 2
    exploring.settle()
    expected = render_labels(exploring.distribution, widget.controls.noise, widget.controls)
    assert np.array_equal(exploring.labels, expected)
    # Strokes in a labels layer of the user's are undone first; sliders stay.
    mine = viewer.add_labels(np.zeros((4, 4), np.uint8), name="mine")
    viewer.layers.selection.active = mine
    mine.fill((0, 0), 3)
    qtbot.keyClick(widget, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert not mine.data.any()
    assert state.controls.temperature == 2


def test_the_key_resets_every_slider(exploring) -> None:
    widget = exploring.widget
    exploring.choose(prior=PriorSpec(iterations=4))
    exploring.run()
    widget.spread.temperature_slider.set_value(2)
    widget.neighbours.strength_slider.set_value(0.5)
    widget.neighbours.iteration_slider.set_value(9)
    asked = requests(exploring)
    next(one for one in SHORTCUTS if one.key == "Shift-R").act(widget)
    assert len(asked) == 1
    controls = widget.state.controls
    assert (controls.temperature, controls.mrf_strength, controls.iterations) == (1, 1, 4)
    exploring.settle()
