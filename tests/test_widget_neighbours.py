"""The controls of a prior, by themselves: what is set is read back, what is shown is painted."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt

from napari_structseg.controls import (
    ITERATIONS_MAX,
    MRF_STRENGTH_MAX,
    NUDGE_MAX,
    USEFUL_NUDGE,
    USEFUL_STRENGTH,
    Controls,
    Nudge,
)
from napari_structseg.refine.changes import Changes
from napari_structseg.refine.convergence import Convergence
from napari_structseg.session.state import ExplorerState
from napari_structseg.widgets.panels.neighbours_panel import NeighboursPanel
from napari_structseg.widgets.panels.neighbours_words import CHANGES, UPDATES
from napari_structseg.widgets.parts.section import Section
from neighbours_helpers import (  # noqa: F401
    WIDTH,
    compatibility,
    convergence,
    n_colors,
    panel,
    pixels,
    received,
    state,
    wheel,
)
from tiny_models import CLASSES


def test_defaults_are_those_of_the_model(panel, state) -> None:
    default = Controls()
    assert state.controls.iterations == 10
    assert state.controls.mrf_strength == default.mrf_strength
    assert state.controls.damping == default.damping
    assert state.controls.update_rule == default.update_rule
    assert state.controls.nudges == default.nudges
    assert not state.display.stop_when_converged
    assert state.display.changes is Changes.NONE
    assert panel.is_default
    assert panel.note.isHidden()


def test_every_state_makes_valid_controls(panel, state) -> None:
    panel.iteration_slider.set_value(99)
    panel.strength_slider.set_value(99)
    panel.details.damping_slider.set_value(-99)
    panel.picture.select(0, 1)
    panel.picture.slider.set_value(-99)
    controls = Controls(
        iterations=state.controls.iterations,
        mrf_strength=state.controls.mrf_strength,
        damping=state.controls.damping,
        update_rule=state.controls.update_rule,
        nudges=state.controls.nudges,
    )
    assert controls.iterations == ITERATIONS_MAX
    assert controls.mrf_strength == MRF_STRENGTH_MAX


def test_sliders_are_dragged_where_it_is_useful_and_typed_beyond(panel, state) -> None:
    strength, nudge = panel.strength_slider, panel.picture.slider
    panel.picture.select(0, 1)
    for slider, useful, most in (
        (strength, USEFUL_STRENGTH, MRF_STRENGTH_MAX),
        (nudge, USEFUL_NUDGE, NUDGE_MAX),
    ):
        slider.slider.setValue(99)
        assert slider.value == useful
        # As a recipe or a script sets it.
        slider.set_value(most)
        assert slider.value == slider.box.value() == most
        assert slider.slider.value() == useful
    assert state.controls.mrf_strength == MRF_STRENGTH_MAX
    assert state.controls.nudges == (Nudge(first=0, second=1, amount=NUDGE_MAX),)


def test_iterations_are_dragged_typed_wheeled_keyed_and_reset(
    panel, received, qtbot, state
) -> None:
    iterations = panel.iteration_slider
    iterations.slider.setValue(7.4)
    assert state.controls.iterations == iterations.slider.value() == iterations.box.value() == 7

    iterations.box.setFocus()
    iterations.box.selectAll()
    qtbot.keyClicks(iterations.box, "23")
    assert state.controls.iterations == 7
    qtbot.keyClick(iterations.box, Qt.Key.Key_Return)
    assert state.controls.iterations == iterations.slider.value() == 23

    for key, expected in (("Right", 24), ("Down", 23), ("PageUp", 28), ("End", 50), ("Home", 0)):
        qtbot.keyClick(iterations.slider, getattr(Qt.Key, f"Key_{key}"))
        assert state.controls.iterations == expected
    # With Shift the arrows browse samples, as anywhere in the dock.
    qtbot.keyClick(iterations.slider, Qt.Key.Key_Right, Qt.KeyboardModifier.ShiftModifier)
    assert state.controls.iterations == 0

    panel.activateWindow()
    iterations.slider.setFocus()
    qtbot.waitUntil(iterations.slider.hasFocus)
    wheel(iterations.slider, 120)
    wheel(iterations.slider, 120)
    assert state.controls.iterations == 2
    # A touch pad turns by less than a notch.
    for _ in range(3):
        wheel(iterations.slider, -40)
    assert state.controls.iterations == 1

    iterations.reset_button.click()
    assert state.controls.iterations == 10
    panel.step_iterations(-4)
    qtbot.mouseDClick(iterations.slider, Qt.MouseButton.LeftButton)
    assert received == [7, 23, 24, 23, 28, 50, 0, 1, 2, 1, 10, 6, 10]
    assert not iterations.reset_button.isEnabled()


def test_iterations_follow_the_mouse(panel, qtbot, state) -> None:
    slider = panel.iteration_slider.slider
    middle = slider.height() // 2
    qtbot.mousePress(slider, Qt.MouseButton.LeftButton, pos=QPoint(slider.width() // 2, middle))
    assert state.controls.iterations == pytest.approx(ITERATIONS_MAX / 2, abs=1)
    qtbot.mouseMove(slider, QPoint(slider.width(), middle))
    qtbot.mouseRelease(slider, Qt.MouseButton.LeftButton, pos=QPoint(slider.width(), middle))
    assert state.controls.iterations == slider.value()
    assert float(slider.sliderPosition()).is_integer()


def test_every_control_says_that_it_changed(panel, received, state) -> None:
    panel.strength_slider.set_value(2)
    assert state.controls.mrf_strength == 2
    panel.details.damping_slider.set_value(0.5)
    assert state.controls.damping == 0.5
    for kind in ("coloured", "proximal", "parallel"):
        panel.details.update_choice.buttons[kind].click()
        assert state.controls.update_rule == kind
    panel.stop_box.click()
    assert state.display.stop_when_converged
    assert len(received) == 6
    assert not panel.is_default


def test_a_proximal_step_has_no_damping(panel) -> None:
    panel.details.update_choice.choose("proximal")
    assert not panel.details.damping_slider.isEnabled()
    panel.details.update_choice.choose("coloured")
    assert panel.details.damping_slider.isEnabled()


def test_changes_are_chosen_apart(panel, received, state) -> None:
    for changes in (Changes.START, Changes.PREVIOUS, Changes.NONE):
        panel.changes_choice.buttons[changes].click()
        assert state.display.changes is changes
    assert received == []


def test_reset_all_is_one_change(panel, received, state) -> None:
    panel.changes_choice.choose(Changes.START)
    panel.iteration_slider.set_value(3)
    panel.strength_slider.set_value(2)
    panel.details.damping_slider.set_value(0.4)
    panel.details.update_choice.choose("proximal")
    panel.stop_box.setChecked(True)
    panel.picture.select(1, 2)
    panel.picture.slider.set_value(1)
    received.clear()
    panel.reset_button.click()
    assert received == [10]
    assert panel.is_default
    assert panel.details.damping_slider.isEnabled()
    assert state.display.changes is Changes.START
    panel.reset_button.click()
    assert received == [10]


def test_another_model_says_nothing(panel, received, state) -> None:
    state.controls.iterations = 5
    panel.show_convergence(convergence())
    panel.show_progress(12, 30)
    received.clear()
    panel.set_model(CLASSES[:3], iterations=5)
    assert received == []
    assert panel.details.plot.iteration == 5
    assert panel.is_default
    assert panel.details.plot.convergence is None
    assert panel.iteration_slider.reached == 0
    assert panel.progress.text() == ""


def test_a_model_without_a_prior(panel, qtbot, state) -> None:
    panel.weights_button.click()
    panel.changes_choice.choose(Changes.START)
    panel.set_model(CLASSES, iterations=None)
    assert not panel.note.isHidden()
    assert "no prior" in panel.note.text()
    for widget in (
        panel.iteration_slider,
        panel.strength_slider,
        panel.details.damping_slider,
        panel.details.update_choice,
        panel.changes_choice,
        panel.stop_box,
        panel.weights_button,
        panel.reset_button,
    ):
        assert not widget.isEnabled()
    assert panel.picture.isHidden()
    assert panel.iteration_slider.value == 0
    panel.step_iterations(3)
    assert panel.iteration_slider.value == 0


def test_progress_is_painted_under_the_handle(panel) -> None:
    slider = panel.iteration_slider.slider
    panel.iteration_slider.set_value(0)
    before = pixels(slider)
    panel.show_progress(25, 50)
    after = pixels(slider)
    assert panel.iteration_slider.reached == 25
    changed = np.flatnonzero((before != after).any(axis=(0, 2)))
    assert changed.max() == pytest.approx(slider.width() / 2, abs=2)
    assert panel.progress.text() == "25 of 50"
    assert "25 of 50" in slider.toolTip()
    panel.show_progress(31, 50, is_converged=True)
    assert panel.progress.text() == "converged after 31"
    panel.show_progress(50, 50)
    assert panel.progress.text() == ""


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_the_panel_in_a_window(make_napari_viewer, theme) -> None:
    viewer = make_napari_viewer()
    viewer.theme = theme
    panel = NeighboursPanel(ExplorerState())
    section = Section("Neighbours", panel, panel.reset_button)
    viewer.window.add_dock_widget(section, name="Neighbours")
    panel.set_model(CLASSES, iterations=10)
    panel.show_compatibility(compatibility())
    panel.show_convergence(convergence())
    panel.weights_button.click()
    section.resize(WIDTH, section.heightForWidth(WIDTH))
    assert n_colors(section) > 100
    assert section.minimumSizeHint().width() <= WIDTH


def test_tips_are_sentences(panel) -> None:
    widgets = (
        panel.details.plot,
        panel.stop_box,
        panel.reset_button,
        panel.iteration_slider.slider,
    )
    tips = [widget.toolTip() for widget in widgets]
    tips += [tip for _, tip in (*UPDATES.values(), *CHANGES.values())]
    assert all(tip.endswith(".") for tip in tips)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ([0.04, 0.012, 0.006, 0.003, 0.0015, 0.001, 0.0006, 0.0004, 0.0003, 0.0002], ""),
        # Much at first, and still on the way.
        ([0.5, 0.4, 0.3, 0.25, 0.2, 0.15, 0.1, 0.06, 0.04, 0.02], ""),
        ([0.06, 0.03] + [0.026] * 8, "3% of the labels"),
        ([0.1] + [0.3] * 13, "30% of the labels"),
        # Too early to say.
        ([0.3] * 9, ""),
    ],
)
def test_iterations_that_do_not_settle_are_said(panel, changed, says) -> None:
    panel.show_convergence(Convergence(np.full(len(changed), 0.9), np.array(changed)))
    assert says in panel.warning.text()
    assert panel.warning.isHidden() == (not says)
    panel.show_convergence(None)
    assert panel.warning.isHidden()
