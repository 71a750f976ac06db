"""A slider over iterations that shows, as a player does, how far they are there already."""

from __future__ import annotations

import math

from qtpy.QtCore import QPointF, QRectF, Qt, Signal
from qtpy.QtGui import QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen, QWheelEvent
from qtpy.QtWidgets import QHBoxLayout, QSpinBox, QToolButton, QWidget
from superqt import QDoubleSlider

from napari_structseg.widgets.colors import line_color, muted_color

_PAGE = 5
_KEY_STEPS = {
    Qt.Key.Key_Left: -1,
    Qt.Key.Key_Down: -1,
    Qt.Key.Key_Right: 1,
    Qt.Key.Key_Up: 1,
    Qt.Key.Key_PageDown: -_PAGE,
    Qt.Key.Key_PageUp: _PAGE,
    Qt.Key.Key_Home: -math.inf,
    Qt.Key.Key_End: math.inf,
}
# Of a mouse wheel, in the eighths of a degree that Qt counts.
_NOTCH = 120
_HANDLE = 14
_GROOVE = 4.0
_STYLE = (
    "QSlider { min-height: 18px; }"
    f"QSlider::groove:horizontal {{ height: {_GROOVE:g}px; border: none;"
    " background: transparent; }"
    f"QSlider::handle:horizontal {{ width: {_HANDLE}px; margin: -5px 0px;"
    f" border-radius: {_HANDLE // 2}px; }}"
    "QSlider::sub-page:horizontal, QSlider::add-page:horizontal"
    " { background: transparent; }"
)


class IterationSlider(QWidget):
    """A whole number that can be dragged, typed, wheeled and keyed, and that knows its default.

    Parameters
    ----------
    high
        The largest number; the smallest is 0.
    name
        For screen readers.
    tip
        What it does, in one sentence.
    """

    changed = Signal(int)

    def __init__(self, high: int, *, name: str, tip: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._default = 0
        self._shown = 0
        self._tip = tip
        self.slider = _Track(high)
        self.slider.doubleClicked.connect(self.reset)
        self.box = QSpinBox()
        self.box.setRange(0, high)
        # A number that is being typed is not yet one to show.
        self.box.setKeyboardTracking(False)
        self.box.setButtonSymbols(QSpinBox.ButtonSymbols.NoButtons)
        self.box.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.box.setStyleSheet("QSpinBox { min-width: 40px; padding: 1px 2px; }")
        self.reset_button = QToolButton()
        self.reset_button.setText("↺")
        self.reset_button.setAutoRaise(True)
        self.reset_button.setAccessibleName(f"Reset {name}")
        self.reset_button.clicked.connect(self.reset)
        for widget in (self.slider, self.box):
            widget.setToolTip(tip)
            widget.setAccessibleName(name)
            widget.valueChanged.connect(self.set_value)
        self.set_default(0)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(6)
        row.addWidget(self.slider, 1)
        row.addWidget(self.box)
        row.addWidget(self.reset_button)

    @property
    def value(self) -> int:
        """The number."""
        return int(self.box.value())

    @property
    def default(self) -> int:
        """What the reset button, or a double click, sets."""
        return self._default

    @property
    def reached(self) -> int:
        """How far the iterations are there already."""
        return self.slider.reached

    def set_default(self, default: int) -> None:
        """Take another default, and go there without saying so."""
        self._default = default
        self.slider.mark = default
        self.slider.update()
        self.reset_button.setToolTip(f"Back to {default} (also: double-click the slider).")
        blocked = self.blockSignals(True)
        self.set_value(default)
        self.blockSignals(blocked)

    def set_value(self, value: float) -> None:
        """Set the number, to the nearest within its range."""
        wanted = round(min(max(value, 0), self.box.maximum()))
        for widget in (self.slider, self.box):
            blocked = widget.blockSignals(True)
            if widget.value() != wanted:
                widget.setValue(wanted)
            widget.blockSignals(blocked)
        before, self._shown = self._shown, wanted
        self.reset_button.setEnabled(wanted != self._default)
        if wanted != before:
            self.changed.emit(wanted)

    def step(self, distance: int) -> None:
        """Change the number by so much."""
        self.set_value(self.value + distance)

    def reset(self) -> None:
        """Back to the default."""
        self.set_value(self._default)

    def show_progress(self, reached: int, target: int) -> None:
        """Show that ``reached`` of ``target`` iterations are there."""
        self.slider.reached = reached
        self.slider.update()
        self.slider.setToolTip(
            f"{self._tip}\n{reached} of {target} iterations computed."
            if reached < target
            else self._tip
        )


class _Track(QDoubleSlider):
    """A slider of whole numbers with a mark at the default and a bar up to what is computed."""

    doubleClicked = Signal()  # noqa: N815 -- as Qt's own signals

    def __init__(self, high: int) -> None:
        super().__init__(Qt.Orientation.Horizontal)  # type: ignore[no-untyped-call] # superqt
        self.mark = 0
        self.reached = 0
        self._turned = 0.0
        self.setRange(0, high)
        self.setStyleSheet(_STYLE)

    def setValue(self, value: float) -> None:  # type: ignore[override] # superqt's is unbound
        # The handle snaps.
        super().setValue(round(min(max(value, self.minimum()), self.maximum())))

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        if event is None:
            return
        if event.key() not in _KEY_STEPS:
            super().keyPressEvent(event)
        elif event.modifiers() & ~Qt.KeyboardModifier.KeypadModifier:
            # The dock's own shortcuts.
            event.ignore()
        else:
            self.setValue(self.value() + _KEY_STEPS[Qt.Key(event.key())])

    def wheelEvent(self, event: QWheelEvent | None) -> None:
        """One iteration for each notch, and for as much on a touch pad."""
        if event is None:
            return
        delta = event.angleDelta()
        self._turned += (delta.y() or delta.x()) / _NOTCH
        whole = math.trunc(self._turned)
        self._turned -= whole
        self.setValue(self.value() + whole)
        event.accept()

    def mouseDoubleClickEvent(self, event: QMouseEvent | None) -> None:
        self.doubleClicked.emit()

    def paintEvent(self, event: QPaintEvent | None) -> None:
        if event is None:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        middle = self.height() / 2
        painter.setPen(QPen(muted_color(self), 1))
        mark = self._x(self.mark)
        painter.drawLine(QPointF(mark, middle - 7), QPointF(mark, middle + 7))
        painter.setPen(Qt.PenStyle.NoPen)
        groove = QRectF(0, middle - _GROOVE / 2, self.width(), _GROOVE)
        painter.setBrush(line_color(self))
        painter.drawRect(groove)
        if self.reached:
            groove.setRight(self._x(self.reached))
            painter.setBrush(muted_color(self))
            painter.drawRect(groove)
        painter.end()
        super().paintEvent(event)

    def _x(self, value: int) -> float:
        """Where the middle of the handle is at a number."""
        return _HANDLE / 2 + value / self.maximum() * (self.width() - _HANDLE)
