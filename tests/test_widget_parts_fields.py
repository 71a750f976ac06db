"""Fields of the dock: the wheel scrolls past them, and no number in them is clipped."""

from __future__ import annotations

import pytest
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import (
    QAbstractSlider,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QFileDialog,
    QScrollBar,
    QSpinBox,
    QWidget,
)

from dock_helpers import Dock
from napari_structseg.widgets.parts.fields import DecimalField
from napari_structseg.widgets.parts.iteration_slider import IterationSlider
from napari_structseg.widgets.parts.scale_slider import ScaleSlider

NOTCH = 120


def turn_wheel(widget: QWidget, notches: int) -> None:
    """Turn the wheel over a widget: who does not take it leaves it to its parent."""
    receiver: QWidget | None = widget
    while receiver is not None:
        middle = QPointF(receiver.rect().center())
        event = QWheelEvent(
            middle,
            receiver.mapToGlobal(middle),
            QPoint(),
            QPoint(0, notches * NOTCH),
            Qt.MouseButton.NoButton,
            Qt.KeyboardModifier.NoModifier,
            Qt.ScrollPhase.NoScrollPhase,
            False,
        )
        # Qt itself hands on only what comes from a real mouse.
        if QApplication.sendEvent(receiver, event) and event.isAccepted():
            return
        receiver = receiver.parentWidget()


def shown_value(widget: QWidget) -> object:
    return widget.currentIndex() if isinstance(widget, QComboBox) else widget.value()


@pytest.fixture
def shown(make_napari_viewer, qtbot, tmp_path):
    """The dock in a window on the screen, everything in it unfolded."""
    viewer = make_napari_viewer(show=True)
    made = Dock(viewer, qtbot, tmp_path)
    made.add_image(name="T1")
    made.choose()
    made.run()
    for section in made.widget.sections:
        section.set_open(True)
    made.settle()
    yield made
    engine = made.widget.engine
    made.widget.shut_down()
    assert engine.join(60)


def test_the_wheel_scrolls_the_dock_and_changes_nothing(shown) -> None:
    shown.viewer.window.resize(1000, 500)
    QApplication.processEvents()
    page, bar = shown.widget.scroll_area.widget(), shown.widget.scroll_area.verticalScrollBar()
    assert bar.maximum() > 0
    kinds = (QComboBox, QAbstractSpinBox, QAbstractSlider)
    found = (one for kind in kinds for one in page.findChildren(kind))
    fields = [one for one in found if one.isVisible() and not isinstance(one, QScrollBar)]
    assert len(fields) > 15
    before = [shown_value(one) for one in fields]
    controls = shown.widget.controls
    for field in fields:
        for notches, start in ((-1, 0), (1, bar.maximum())):
            bar.setValue(start)
            turn_wheel(field, notches)
            assert bar.value() != start, field.accessibleName()
    assert [shown_value(one) for one in fields] == before
    assert shown.widget.controls == controls
    assert not shown.widget.findChildren(QFileDialog)
    # Qt gives the focus, and with it the wheel, to fields with another policy.
    assert all(one.focusPolicy() != Qt.FocusPolicy.WheelFocus for one in fields)


def test_a_slider_with_focus_takes_the_wheel(qtbot) -> None:
    scale = ScaleSlider(0, 3, name="Temperature", tip="")
    iterations = IterationSlider(10, name="Iterations", tip="")
    for part in (scale, iterations):
        qtbot.addWidget(part)
        part.show()
        before = part.value
        turn_wheel(part.slider, 1)
        assert part.value == before
        part.activateWindow()
        part.slider.setFocus()
        qtbot.waitUntil(part.slider.hasFocus)
        turn_wheel(part.slider, 1)
        assert part.value > before
        reached = part.value
        turn_wheel(part.box, 1)
        assert part.value == reached


def room_for_text(box: QAbstractSpinBox) -> int:
    """Pixels that the text may be wide, in a field as wide as it is now."""
    # Two on either side are Qt's own.
    return box.lineEdit().contentsRect().width() - 4


@pytest.mark.parametrize("font_size", [7, 9, 12, 18])
def test_no_number_in_a_field_is_clipped(shown, font_size) -> None:
    page = shown.widget.scroll_area.widget()
    page.setStyleSheet(f"* {{ font-size: {font_size}pt; }}")
    QApplication.processEvents()
    fields = [box for box in page.findChildren(QAbstractSpinBox) if box.isVisible()]
    assert len(fields) >= 8
    for box in fields:
        for end in (box.minimum(), box.maximum()):
            text = f"{box.prefix()}{box.textFromValue(end)}{box.suffix()}"
            width = box.fontMetrics().horizontalAdvance(text)
            assert width <= room_for_text(box), (box.accessibleName(), text)


def test_a_field_without_limits_grows_with_what_is_typed(qtbot) -> None:
    box = DecimalField(is_open=True)
    qtbot.addWidget(box)
    box.setButtonSymbols(QSpinBox.ButtonSymbols.NoButtons)
    box.setRange(-1e9, 1e9)
    box.show()
    narrow = box.minimumWidth()
    box.setValue(-123456789.12)
    assert box.minimumWidth() > narrow
    box.resize(box.minimumWidth(), box.height())
    assert box.fontMetrics().horizontalAdvance(box.text()) <= room_for_text(box)
