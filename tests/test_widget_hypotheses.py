"""Hypotheses in the dock: rows that show samples, pictures of pairs, and what keeps up to date."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QImage, QMouseEvent
from qtpy.QtWidgets import QApplication, QLabel, QVBoxLayout, QWidget

from dock_helpers import Dock, dock, exploring  # noqa: F401 -- fixtures
from napari_structseg import render_labels
from napari_structseg.controls import MEAN, Controls
from napari_structseg.models import ClassSpec, HeadSpec
from napari_structseg.render.hypotheses import Hypotheses, find_hypotheses
from napari_structseg.session.messages import Modes
from napari_structseg.session.state import ExplorerState
from napari_structseg.widgets.panels.hypotheses_panel import HypothesesPanel
from napari_structseg.widgets.panels.sample_strip import COLUMNS, MAX_SAMPLES
from napari_structseg.widgets.parts.measure import Measure

CLASSES = (
    ClassSpec(name="Background", color="#000000"),
    ClassSpec(name="nodule", color="#ee7a1c"),
)
CONTROLS = Controls(seed=3)
# Of twelve samples, by their area: nothing, small and large.
AREAS = np.array([0, 20, 0, 0, 100, 21, 0, 22, 0, 0, 102, 0])


def hypotheses(areas: np.ndarray = AREAS, n_modes: int | None = None, **options) -> Hypotheses:
    smaller, larger = (
        choose(areas[:, None], areas[None]).astype(float) for choose in (np.minimum, np.maximum)
    )
    overlap = np.divide(smaller, larger, out=np.ones_like(smaller), where=larger > 0)
    return find_hypotheses(1 - overlap, areas[:, None] / 1000.0, n_modes, **options)


@pytest.fixture
def state() -> ExplorerState:
    made = ExplorerState()
    made.controls.take(CONTROLS)
    return made


@pytest.fixture
def panel(qtbot, state) -> HypothesesPanel:
    made = HypothesesPanel(state)
    qtbot.addWidget(made)
    made.set_model(CLASSES, Measure(), is_stochastic=True)
    made.resize(370, 600)
    made.show()
    return made


@pytest.fixture
def received(state) -> list[int]:
    """Samples chosen."""
    samples: list[int] = []
    state.controls.events.chosen.connect(lambda: samples.append(state.controls.sample))
    return samples


def shown(panel: HypothesesPanel) -> list[tuple[str, str, str]]:
    return [(row.mode.name, row.percentage, row.size_text) for row in panel.rows]


@pytest.mark.parametrize("modes", [Modes.AUTO, Modes.FOUR])
def test_rows_that_come_push_nothing(qtbot, state, modes) -> None:
    state.display.modes = modes
    page = QWidget()
    layout = QVBoxLayout(page)
    panel, below = HypothesesPanel(state), QLabel("below")
    layout.addWidget(panel)
    layout.addWidget(below)
    layout.addStretch(1)
    page.resize(370, 700)
    qtbot.addWidget(page)
    panel.set_model(CLASSES, Measure(), is_stochastic=True)
    page.show()
    places = []

    def note_place() -> None:
        QApplication.processEvents()
        places.append(below.y())

    note_place()
    n_modes = 2 if modes is Modes.AUTO else int(modes)
    panel.show_hypotheses(hypotheses(n_modes=n_modes), CONTROLS)
    assert len(panel.rows) == n_modes
    note_place()
    assert panel.rows[-1].mapTo(page, panel.rows[-1].rect().bottomLeft()).y() < below.y()
    # As before a run of another model, and when all its samples are alike.
    panel.set_model(CLASSES, Measure(), is_stochastic=True)
    note_place()
    panel.show_hypotheses(hypotheses(np.full(12, 5)), CONTROLS)
    note_place()
    assert len(set(places)) == 1, places


def test_rows_say_how_frequent_and_how_large(panel) -> None:
    panel.show_hypotheses(hypotheses(), CONTROLS)
    assert shown(panel) == [
        ("Nothing", "58 %", "0 mL"),
        ("Small", "25 %", "0.02 mL"),
        ("Large", "17 %", "0.10 mL"),
    ]
    assert panel.note.isHidden()
    assert panel.caption.text().startswith("12 samples · well apart")
    assert "Here it is 0.9" in panel.caption.toolTip()
    tip = panel.rows[1].toolTip()
    assert "3 of 12 samples" in tip
    assert "95 % interval" in tip
    assert "Nodule: 0.02 mL" in tip


def test_areas_of_pictures_with_two_axes(panel) -> None:
    panel.set_model(CLASSES, Measure("mm²", 1000.0), is_stochastic=True)
    panel.show_hypotheses(hypotheses(), CONTROLS)
    assert [row.size_text for row in panel.rows] == ["0 mm²", "21.0 mm²", "101 mm²"]


def test_what_is_said_of_one_mode(panel) -> None:
    panel.show_hypotheses(hypotheses(np.zeros(12, int)), CONTROLS)
    assert "alike" in panel.note.text()
    gradual = find_hypotheses(1 - np.eye(12), np.ones((12, 1)), exact=False)
    panel.show_hypotheses(gradual, CONTROLS)
    assert "gradually" in panel.note.text()
    assert not panel.note.isHidden()
    assert panel.caption.text() == "12 samples · estimated"


def test_a_click_chooses_the_representative(panel, state, qtbot) -> None:
    panel.show_hypotheses(hypotheses(), CONTROLS)
    qtbot.mouseClick(panel.rows[2], Qt.MouseButton.LeftButton)
    assert state.controls.sample == panel.rows[2].mode.representative
    assert panel.chosen == 2
    # What is marked follows from the sample that is shown.
    for sample, row in ((2, 1), (5, 2), (11, 2)):
        if sample in panel.rows[row].mode.samples:
            state.controls.sample = sample
            assert panel.chosen == row
    state.controls.sample = MEAN
    assert panel.chosen is None


def test_rows_by_keys(panel, received, qtbot) -> None:
    panel.step(1)
    assert received == []
    panel.show_hypotheses(hypotheses(), CONTROLS)
    panel.rows[0].setFocus()
    qtbot.keyClick(panel.rows[0], Qt.Key.Key_Down)
    assert received == [panel.rows[0].mode.representative]
    qtbot.keyClick(panel.rows[0], Qt.Key.Key_Up)
    assert received[-1] == panel.rows[2].mode.representative
    qtbot.keyClick(panel.rows[1], Qt.Key.Key_Space)
    assert received[-1] == panel.rows[1].mode.representative
    # With Shift the arrows are the dock's.
    qtbot.keyClick(panel.rows[1], Qt.Key.Key_Down, Qt.KeyboardModifier.ShiftModifier)
    assert len(received) == 3


def test_modes_of_other_samples_are_pale(panel, state) -> None:
    panel.show_hypotheses(hypotheses(), CONTROLS)
    for update in ({"sample": 3}, {"iterations": 4}):
        state.controls.take(CONTROLS.model_copy(update=update))
        assert not any(row.is_stale for row in panel.rows)
    for update in ({"temperature": 2.0}, {"seed": 4}, {"class_scale": (1.0, 2.0)}):
        state.controls.take(CONTROLS.model_copy(update=update))
        assert all(row.is_stale for row in panel.rows)
    state.controls.take(CONTROLS)
    assert not any(row.is_stale for row in panel.rows)


def picture_of(widget) -> np.ndarray:
    image = widget.grab().toImage().convertToFormat(QImage.Format.Format_RGB888)
    pointer = image.constBits()
    pointer.setsize(image.sizeInBytes())
    rows = np.frombuffer(pointer, np.uint8).reshape(image.height(), image.bytesPerLine())
    return rows[:, : 3 * image.width()].reshape(image.height(), image.width(), 3).copy()


def test_outlines_of_the_representative(panel) -> None:
    panel.show_hypotheses(hypotheses(), CONTROLS)
    labels = np.zeros((30, 40), np.uint8)
    labels[10:20, 10:30] = 1
    empty = np.zeros_like(labels)
    nothing, small, _ = panel.rows
    pictures = {small.mode.representative: labels, nothing.mode.representative: empty}
    panel.show_slices(pictures, np.full((30, 40), 90, np.uint8), 4 / 3)
    # Two for each pixel along the sides, and the corners.
    assert small.n_outline_segments == 2 * (10 + 20)
    assert nothing.n_outline_segments == 0
    colored = picture_of(small)[:, :70].astype(int)
    orange = (colored[..., 0] > 150) & (colored[..., 2] < 100)
    rows, columns = np.nonzero(orange)
    assert len(rows) > 20
    # The picture is 66 x 49.5 in the frame of 66 x 50 that begins at 4.
    assert rows.min() == pytest.approx(4 + 10 * 50 / 30, abs=2)
    assert columns.max() == pytest.approx(4 + 30 * 66 / 40, abs=2)


def test_the_pairs(panel, received, qtbot) -> None:
    picture = panel.picture
    panel.pairs_button.click()
    assert not picture.isHidden()
    blank = picture_of(picture)
    found = hypotheses()
    panel.show_hypotheses(found, CONTROLS)
    assert not np.array_equal(picture_of(picture), blank)
    assert "Point at" in picture.text
    square = picture.square
    unit = square.width() / 12

    def centre(row: int, column: int) -> QPoint:
        return QPoint(
            round(square.left() + (column + 0.5) * unit), round(square.top() + (row + 0.5) * unit)
        )

    def point_at(row: int, column: int) -> None:
        place = QPointF(centre(row, column))
        event = QMouseEvent(
            QMouseEvent.Type.MouseMove,
            place,
            picture.mapToGlobal(place),
            Qt.MouseButton.NoButton,
            Qt.MouseButton.NoButton,
            Qt.KeyboardModifier.NoModifier,
        )
        QApplication.sendEvent(picture, event)

    point_at(0, 11)
    first, last = found.order[0], found.order[-1]
    assert picture.text == f"Samples {first} and {last}: 1 − IoU is 1.00"
    point_at(11, 10)
    assert picture.text.endswith(f"{1 - 100 / 102:.2f}")
    qtbot.mouseClick(picture, Qt.MouseButton.LeftButton, pos=centre(11, 10))
    assert received == [last]
    qtbot.keyClick(picture, Qt.Key.Key_Right)
    qtbot.keyClick(picture, Qt.Key.Key_Right)
    assert picture.place == (11, 11)
    qtbot.keyClick(picture, Qt.Key.Key_Up)
    qtbot.keyClick(picture, Qt.Key.Key_Return)
    assert received == [last, found.order[10]]
    # Like modes are dark, unlike ones bright, in the order of the modes.
    pixels = picture_of(picture).astype(int).sum(axis=-1)
    dark, bright = centre(2, 4), centre(2, 9)
    assert pixels[dark.y(), dark.x()] < 60
    assert pixels[bright.y(), bright.x()] > 500


def test_modes_of_a_model(exploring, qtbot) -> None:
    widget = exploring.widget
    panel = widget.hypotheses
    assert panel.isHidden()
    assert panel.rows == ()
    widget.hypotheses_section.header.click()
    exploring.settle()
    assert panel.rows
    assert sum(len(row.mode.samples) for row in panel.rows) == 60
    panel.number_box.setCurrentIndex(panel.number_box.findData(Modes.FOUR))
    exploring.settle()
    assert len(panel.rows) == 4
    assert all(row.n_outline_segments for row in panel.rows)
    for row in panel.rows:
        qtbot.mouseClick(row, Qt.MouseButton.LeftButton)
        exploring.settle()
        controls = widget.controls
        assert controls.sample == row.mode.representative
        assert row.isChecked()
        expected = render_labels(exploring.distribution, controls.noise, controls)
        assert np.array_equal(exploring.labels, expected)
        assert f"Sample {controls.sample} " in widget.status.hint.text()


def test_modes_follow_the_temperature_while_they_are_seen(exploring) -> None:
    widget = exploring.widget
    panel = widget.hypotheses
    widget.hypotheses_section.set_open(True)
    exploring.settle()
    before = panel.picture.hypotheses.distances
    widget.strip.select(1)
    widget.spread.temperature_slider.set_value(2)
    exploring.settle()
    after = panel.picture.hypotheses.distances
    assert not np.array_equal(before, after)
    widget.hypotheses_section.set_open(False)
    widget.spread.temperature_slider.set_value(0.5)
    exploring.settle()
    assert panel.picture.hypotheses.distances is after
    assert all(row.is_stale for row in panel.rows)
    widget.hypotheses_section.set_open(True)
    exploring.settle()
    assert panel.picture.hypotheses.distances.mean() < after.mean()
    assert not any(row.is_stale for row in panel.rows)


def test_pictures_follow_the_slice(exploring) -> None:
    widget = exploring.widget
    widget.hypotheses_section.set_open(True)
    exploring.viewer.dims.set_current_step(0, 2)
    exploring.settle()
    before = picture_of(widget.hypotheses.rows[0])
    exploring.viewer.dims.set_current_step(0, 9)
    exploring.settle()
    assert not np.array_equal(picture_of(widget.hypotheses.rows[0]), before)


def test_the_key_opens_the_section_and_goes_round(exploring, qtbot) -> None:
    widget = exploring.widget
    panel = widget.hypotheses
    panel.number_box.setCurrentIndex(panel.number_box.findData(Modes.TWO))

    def press() -> None:
        qtbot.keyClick(widget, Qt.Key.Key_H, Qt.KeyboardModifier.ShiftModifier)
        exploring.settle()

    press()
    assert widget.state.controls.sample == MEAN
    assert widget.hypotheses_section.is_open
    representatives = [row.mode.representative for row in panel.rows]
    assert len(representatives) == 2
    seen = []
    for _ in range(3):
        press()
        seen.append(widget.state.controls.sample)
    first = seen[0]
    assert seen == [first, next(one for one in representatives if one != first), first]


def test_a_sample_beyond_the_strip(exploring) -> None:
    strip = exploring.widget.strip
    strip.select(57)
    exploring.settle()
    assert exploring.widget.state.controls.sample == 57
    assert strip.n_samples == 2 * COLUMNS - 1
    assert not any(one.isChecked() for one in strip.thumbnails)
    controls = exploring.widget.controls
    expected = render_labels(exploring.distribution, controls.noise, controls)
    assert np.array_equal(exploring.labels, expected)
    strip.next.click()
    assert exploring.widget.state.controls.sample == 58
    strip.thumbnails[4].click()
    assert exploring.widget.state.controls.sample == 4
    # The strip grows towards a sample, and then shows it.
    strip.select(MAX_SAMPLES - 2)
    while strip.more.isEnabled():
        strip.more.click()
    assert strip.thumbnails[MAX_SAMPLES - 2].isChecked()
    exploring.settle()


def test_a_deterministic_model_has_one_hypothesis(dock) -> None:
    dock.add_image()
    dock.choose(head=HeadSpec(kind="point"))
    dock.run()
    widget = dock.widget
    widget.hypotheses_section.set_open(True)
    dock.settle()
    assert widget.hypotheses.rows == ()
    assert "deterministic" in widget.hypotheses.note.text()
    assert not widget.hypotheses.tools.isEnabled()


def test_another_model_has_other_hypotheses(exploring: Dock) -> None:
    widget = exploring.widget
    widget.hypotheses_section.set_open(True)
    exploring.settle()
    first = widget.hypotheses.rows
    exploring.run()
    assert widget.hypotheses.rows
    assert not set(first) & set(widget.hypotheses.rows)
