"""The controls of a prior, by themselves: what is set is read back, what is shown is painted."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QHelpEvent, QImage, QWheelEvent
from qtpy.QtWidgets import QApplication, QToolTip

from napari_structseg.controls import (
    ITERATIONS_MAX,
    MRF_STRENGTH_MAX,
    NUDGE_MAX,
    USEFUL_NUDGE,
    USEFUL_STRENGTH,
    Controls,
    Nudge,
)
from napari_structseg.models import ClassSpec
from napari_structseg.priors import EnergyPrior
from napari_structseg.refine.changes import Changes
from napari_structseg.refine.convergence import Convergence
from napari_structseg.session.state import ExplorerState
from napari_structseg.widgets.panels.neighbours_panel import NeighboursPanel
from napari_structseg.widgets.panels.neighbours_words import CHANGES, UPDATES
from napari_structseg.widgets.parts.section import Section
from napari_structseg.widgets.plots.compatibility_picture import CompatibilityPicture
from tiny_models import CLASSES

WIDTH = 370
CONTROLS = {f"controls.{name}" for name in Controls.model_fields}
N_ITERATIONS = 12


def pixels(widget) -> np.ndarray:
    image = widget.grab().toImage().convertToFormat(QImage.Format.Format_RGB888)
    pointer = image.constBits()
    pointer.setsize(image.sizeInBytes())
    rows = np.frombuffer(pointer, np.uint8).reshape(image.height(), image.bytesPerLine())
    return rows[:, : 3 * image.width()].reshape(image.height(), image.width(), 3).copy()


def n_colors(widget) -> int:
    picture = pixels(widget)
    return len(np.unique(picture.reshape(-1, 3), axis=0))


def compatibility(n_classes: int = len(CLASSES), dimensions: int = 3) -> np.ndarray:
    """The weights of a prior for which unlike classes repel."""
    return EnergyPrior(dimensions, n_classes).compatibility().numpy()


def classes(n_classes: int) -> tuple[ClassSpec, ...]:
    return tuple(
        ClassSpec(name=f"structure {label}", color=f"#{40 + 17 * label:02x}80a0")
        for label in range(n_classes)
    )


def convergence(*, with_energy: bool = True) -> Convergence:
    iterations = np.arange(1, N_ITERATIONS + 1)
    return Convergence(
        residual=0.5 * 0.4**iterations,
        changed=np.where(iterations < 9, 0.1 * 0.3**iterations, 0),
        free_energy=1234.5 + 100 * 0.5**iterations if with_energy else None,
    )


def wheel(widget, delta: int) -> None:
    place = QPointF(5, 5)
    event = QWheelEvent(
        place,
        widget.mapToGlobal(place),
        QPoint(),
        QPoint(0, delta),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(widget, event)


@pytest.fixture
def state() -> ExplorerState:
    made = ExplorerState()
    made.controls.iterations = 10
    return made


@pytest.fixture
def panel(qtbot, state) -> NeighboursPanel:
    """The panel with a prior used with ten iterations."""
    made = NeighboursPanel(state)
    qtbot.addWidget(made)
    qtbot.addWidget(made.reset_button)
    made.set_model(CLASSES, iterations=10)
    made.show_compatibility(compatibility())
    made.resize(WIDTH, 500)
    made.show()
    return made


@pytest.fixture
def heard(state) -> list[int]:
    """The iterations at each action."""
    changes: list[int] = []

    def hear(touched: frozenset[str]) -> None:
        if touched & {"display.stop_when_converged", *CONTROLS}:
            changes.append(state.controls.iterations)

    state.settled.connect(hear)
    return changes


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
    panel.damping_slider.set_value(-99)
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


def test_iterations_are_dragged_typed_wheeled_keyed_and_reset(panel, heard, qtbot, state) -> None:
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
    assert heard == [7, 23, 24, 23, 28, 50, 0, 1, 2, 1, 10, 6, 10]
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


def test_every_control_says_that_it_changed(panel, heard, state) -> None:
    panel.strength_slider.set_value(2)
    assert state.controls.mrf_strength == 2
    panel.damping_slider.set_value(0.5)
    assert state.controls.damping == 0.5
    for kind in ("coloured", "proximal", "parallel"):
        panel.update_choice.buttons[kind].click()
        assert state.controls.update_rule == kind
    panel.stop_box.click()
    assert state.display.stop_when_converged
    assert len(heard) == 6
    assert not panel.is_default


def test_a_proximal_step_has_no_damping(panel) -> None:
    panel.update_choice.choose("proximal")
    assert not panel.damping_slider.isEnabled()
    panel.update_choice.choose("coloured")
    assert panel.damping_slider.isEnabled()


def test_changes_are_chosen_apart(panel, heard, state) -> None:
    for changes in (Changes.START, Changes.PREVIOUS, Changes.NONE):
        panel.changes_choice.buttons[changes].click()
        assert state.display.changes is changes
    assert heard == []


def test_reset_all_is_one_change(panel, heard, state) -> None:
    panel.changes_choice.choose(Changes.START)
    panel.iteration_slider.set_value(3)
    panel.strength_slider.set_value(2)
    panel.damping_slider.set_value(0.4)
    panel.update_choice.choose("proximal")
    panel.stop_box.setChecked(True)
    panel.picture.select(1, 2)
    panel.picture.slider.set_value(1)
    heard.clear()
    panel.reset_button.click()
    assert heard == [10]
    assert panel.is_default
    assert panel.damping_slider.isEnabled()
    assert state.display.changes is Changes.START
    panel.reset_button.click()
    assert heard == [10]


def test_another_model_says_nothing(panel, heard, state) -> None:
    state.controls.iterations = 5
    panel.show_convergence(convergence())
    panel.show_progress(12, 30)
    heard.clear()
    panel.set_model(CLASSES[:3], iterations=5)
    assert heard == []
    assert panel.plot.iteration == 5
    assert panel.is_default
    assert panel.plot.convergence is None
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
        panel.damping_slider,
        panel.update_choice,
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


def test_convergence_is_read_at_the_iteration_marked(panel) -> None:
    curves = convergence()
    panel.show_convergence(curves)
    panel.iteration_slider.set_value(2)
    assert panel.plot.convergence is curves
    assert panel.plot.iteration == 2
    assert panel.plot.readout == {"Residual": "0.08", "Changed": "0.9 %", "Energy": "1,260"}
    panel.iteration_slider.set_value(9)
    assert panel.plot.readout["Changed"] == "0 %"
    assert panel.plot.readout["Residual"] == "1.3e−4"
    panel.iteration_slider.set_value(0)
    assert set(panel.plot.readout.values()) == {""}
    # Beyond what is computed: the last that is.
    panel.iteration_slider.set_value(40)
    assert panel.plot.readout["Energy"] == "1,235"
    panel.show_convergence(convergence(with_energy=False))
    assert set(panel.plot.readout) == {"Residual", "Changed"}


@pytest.mark.parametrize(
    ("curves", "extent"),
    [(None, 10), (convergence(), 20), (convergence(with_energy=False), 20)],
)
def test_the_plot_is_painted(panel, curves, extent) -> None:
    panel.iteration_slider.set_value(5)
    empty = pixels(panel.plot)
    panel.show_convergence(curves)
    assert panel.plot.extent == extent
    assert n_colors(panel.plot) > 10
    assert (curves is None) == np.array_equal(pixels(panel.plot), empty)
    assert panel.plot.height() <= 90


def test_the_mark_moves_over_the_plot(panel) -> None:
    panel.show_convergence(convergence())
    panel.iteration_slider.set_value(3)
    before = pixels(panel.plot)
    panel.iteration_slider.set_value(8)
    assert not np.array_equal(before, pixels(panel.plot))


@pytest.mark.parametrize(
    "curves",
    [
        Convergence(np.zeros(0), np.zeros(0), np.zeros(0)),
        Convergence(np.array([0.3]), np.array([0.0]), np.array([-2e6])),
        Convergence(np.zeros(4), np.zeros(4), np.full(4, 7.0)),
        Convergence(np.full(50, 1e-30), np.full(50, 1e-9)),
    ],
)
def test_curves_of_every_kind_are_drawn(panel, curves) -> None:
    panel.show_convergence(curves)
    panel.iteration_slider.set_value(1)
    assert n_colors(panel.plot) > 10
    if curves.n_iterations == 1:
        assert panel.plot.readout["Energy"] == "−2,000,000"
    if curves.n_iterations == 50:
        assert panel.plot.readout == {"Residual": "1.0e−30", "Changed": "<0.001 %"}


def test_weights_are_folded_away_until_wanted(panel, heard) -> None:
    assert panel.picture.isHidden()
    panel.weights_button.click()
    assert not panel.picture.isHidden()
    assert n_colors(panel.picture.grid) > 20
    panel.weights_button.click()
    assert panel.picture.isHidden()
    assert heard == []


def test_a_pair_is_clicked_nudged_marked_and_reset(panel, heard, qtbot, state) -> None:
    panel.weights_button.click()
    grid, slider = panel.picture.grid, panel.picture.slider
    assert not slider.isEnabled()
    slider.set_value(2)
    assert state.controls.nudges == ()
    slider.reset()

    qtbot.mouseClick(
        grid, Qt.MouseButton.LeftButton, pos=grid.places.cell((3, 2)).center().toPoint()
    )
    assert grid.selected == (3, 2)
    assert panel.picture.pair.text() == "White matter and Grey matter"
    before = pixels(grid)
    slider.set_value(-1.5)
    assert state.controls.nudges == (Nudge(first=2, second=3, amount=-1.5),)
    # The pair is marked in both its cells.
    for pair in ((3, 2), (2, 3)):
        cell = grid.places.cell(pair).toRect()
        window = slice(cell.top(), cell.bottom()), slice(cell.left(), cell.right())
        assert not np.array_equal(pixels(grid)[window], before[window])
        assert grid.tip(pair).endswith("Nudged to touch less by 1.50.")

    panel.picture.select(1, 1)
    assert slider.value == 0
    assert panel.picture.pair.text() == "CSF and itself"
    slider.set_value(0.5)
    panel.picture.select(2, 3)
    assert slider.value == -1.5
    assert [nudge.first for nudge in state.controls.nudges] == [1, 2]
    slider.reset_button.click()
    assert state.controls.nudges == (Nudge(first=1, second=1, amount=0.5),)
    panel.picture.clear_button.click()
    assert state.controls.nudges == ()
    assert not panel.picture.clear_button.isEnabled()
    assert len(heard) == 4


def test_cells_are_reached_by_keys(panel, qtbot) -> None:
    panel.weights_button.click()
    grid = panel.picture.grid
    grid.setFocus()
    # From the top left; the background is last.
    qtbot.keyClick(grid, Qt.Key.Key_Up)
    assert grid.selected == (1, 1)
    for key in ("Right", "Right", "Right", "Right", "Down"):
        qtbot.keyClick(grid, getattr(Qt.Key, f"Key_{key}"))
    assert grid.selected == (2, 0)
    qtbot.keyClick(grid, Qt.Key.Key_Left, Qt.KeyboardModifier.ShiftModifier)
    assert grid.selected == (2, 0)


def test_cells_explain_themselves(panel) -> None:
    panel.weights_button.click()
    grid = panel.picture.grid
    table = np.full((4, 4, 3, 3, 3), -0.25, np.float32)
    table[2, 3] = 0.31
    table[:, :, 1, 1, 1] = 0
    panel.show_compatibility(table)
    assert grid.average((2, 3)) == pytest.approx(0.31)
    assert grid.tip((2, 3)) == (
        "Grey matter beside White matter: each such neighbour raises the log-likelihood of "
        "Grey matter by 0.31 on average."
    )
    assert "lowers the log-likelihood of CSF by 0.25" in grid.tip((1, 2))

    def shown_at(place: QPointF) -> str:
        event = QHelpEvent(
            QHelpEvent.Type.ToolTip, place.toPoint(), grid.mapToGlobal(place.toPoint())
        )
        QApplication.sendEvent(grid, event)
        return QToolTip.text()

    cell = grid.places.cell((2, 3))
    assert shown_at(cell.center()) == grid.tip((2, 3))
    assert shown_at(QPointF(5, cell.center().y())) == "Grey matter"
    assert shown_at(QPointF(cell.center().x(), 5)) == "White matter"
    QToolTip.hideText()


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("n_classes", [2, 4, 8, 12])
@pytest.mark.parametrize("width", [300, WIDTH])
def test_the_picture_fits(qtbot, dimensions, n_classes, width) -> None:
    picture = CompatibilityPicture()
    qtbot.addWidget(picture)
    picture.show_compatibility(classes(n_classes), compatibility(n_classes, dimensions))
    picture.resize(width, picture.heightForWidth(width))
    picture.show()
    assert picture.minimumSizeHint().width() <= width
    grid = picture.grid
    assert grid.height() == grid.places.height
    for pair in ((0, 0), (1, 0), (0, 1), (1, 1)):
        cell = grid.places.cell(pair)
        assert grid.rect().contains(cell.toRect())
        for corner in (0, 2):
            plane = min(corner, grid.places.n_planes - 1)
            assert cell.contains(grid.places.square(pair, plane, corner, corner))
    # What attracts is another colour than what repels.
    shown = pixels(grid)
    middles = []
    for pair in ((1, 1), (0, 1)):
        place = grid.places.square(pair, 0, 0, 0).center()
        middles.append(shown[int(place.y()), int(place.x())].astype(int))
    assert middles[0][0] > middles[0][2]
    assert middles[1][0] < middles[1][2]


def test_no_weights_no_picture(qtbot) -> None:
    picture = CompatibilityPicture()
    qtbot.addWidget(picture)
    picture.show()
    qtbot.keyClick(picture.grid, Qt.Key.Key_Right)
    qtbot.mouseClick(picture.grid, Qt.MouseButton.LeftButton)
    assert picture.grid.selected is None
    picture.show_compatibility(CLASSES, np.zeros((4, 4, 3, 3), np.float32))
    assert n_colors(picture.grid) > 5


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
    widgets = (panel.plot, panel.stop_box, panel.reset_button, panel.iteration_slider.slider)
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
