"""A slider with a field to type in and a reset: temperature, and the scale of each class."""

from __future__ import annotations

import math

from qtpy.QtCore import QPointF, Qt, Signal
from qtpy.QtGui import QColor, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen
from qtpy.QtWidgets import QDoubleSpinBox, QHBoxLayout, QToolButton, QWidget
from superqt import QDoubleSlider

from napari_structseg.widgets.colors import muted_color

_STEP = 0.05
_PAGE = 0.5
_KEY_STEPS = {
    Qt.Key.Key_Left: -_STEP,
    Qt.Key.Key_Down: -_STEP,
    Qt.Key.Key_Right: _STEP,
    Qt.Key.Key_Up: _STEP,
    Qt.Key.Key_PageDown: -_PAGE,
    Qt.Key.Key_PageUp: _PAGE,
    Qt.Key.Key_Home: -math.inf,
    Qt.Key.Key_End: math.inf,
}
_HANDLE = 14
_DECIMALS = 2


class ScaleSlider(QWidget):
    """A number that can be dragged, typed, wheeled and keyed, and that knows its default.

    Parameters
    ----------
    low, high
        Its range.
    default
        What the reset button, or a double click, sets.
    name
        For screen readers.
    tip
        What it does, in one sentence.
    color
        Of the handle; None: the theme's.
    """

    changed = Signal(float)

    def __init__(
        self,
        low: float,
        high: float,
        *,
        default: float = 1.0,
        name: str,
        tip: str,
        color: QColor | None = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._default = default
        self._shown = default
        self.slider = _MarkedSlider(low, high, default)
        self.slider.doubleClicked.connect(self.reset)
        self.slider.setStyleSheet(_slider_style(color))
        self.box = QDoubleSpinBox()
        self.box.setRange(low, high)
        self.box.setDecimals(_DECIMALS)
        self.box.setSingleStep(_STEP)
        # A number that is being typed is not yet one to show.
        self.box.setKeyboardTracking(False)
        self.box.setButtonSymbols(QDoubleSpinBox.ButtonSymbols.NoButtons)
        self.box.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.box.setStyleSheet("QDoubleSpinBox { min-width: 40px; padding: 1px 2px; }")
        self.reset_button = QToolButton()
        self.reset_button.setText("↺")
        self.reset_button.setAutoRaise(True)
        self.reset_button.setToolTip(f"Back to {default:g} (also: double-click the slider).")
        self.reset_button.setAccessibleName(f"Reset {name}")
        self.reset_button.clicked.connect(self.reset)
        for widget in (self.slider, self.box):
            widget.setValue(default)
            widget.setToolTip(tip)
            widget.setAccessibleName(name)
            widget.valueChanged.connect(self.set_value)
        self.reset_button.setEnabled(False)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(6)
        row.addWidget(self.slider, 1)
        row.addWidget(self.box)
        row.addWidget(self.reset_button)

    @property
    def value(self) -> float:
        """The number."""
        return float(self.box.value())

    def set_value(self, value: float) -> None:
        """Set the number, within its range."""
        before = self._shown
        for widget in (self.slider, self.box):
            blocked = widget.blockSignals(True)
            if widget.value() != value:
                widget.setValue(value)
            widget.blockSignals(blocked)
        self._shown = self.value
        self.reset_button.setEnabled(self.value != self._default)
        if self.value != before:
            self.changed.emit(self.value)

    def step(self, distance: float) -> None:
        """Change the number by so much."""
        self.set_value(self.value + distance)

    def reset(self) -> None:
        """Back to the default."""
        self.set_value(self._default)


class _MarkedSlider(QDoubleSlider):
    """A slider with a mark at the default, which a double click restores."""

    doubleClicked = Signal()  # noqa: N815 -- as Qt's own signals

    def __init__(self, low: float, high: float, mark: float) -> None:
        super().__init__(Qt.Orientation.Horizontal)  # type: ignore[no-untyped-call] # superqt
        self.setRange(low, high)
        self.setSingleStep(_STEP)
        self.setPageStep(_PAGE)
        self._mark = mark

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        # superqt's sliders of real numbers take no keys.
        if event is None:
            return
        if event.key() not in _KEY_STEPS:
            super().keyPressEvent(event)
        elif event.modifiers() & ~Qt.KeyboardModifier.KeypadModifier:
            # The dock's own shortcuts.
            event.ignore()
        else:
            self.setValue(self.value() + _KEY_STEPS[Qt.Key(event.key())])

    def mouseDoubleClickEvent(self, event: QMouseEvent | None) -> None:
        self.doubleClicked.emit()

    def paintEvent(self, event: QPaintEvent | None) -> None:
        if event is None:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        fraction = (self._mark - self.minimum()) / (self.maximum() - self.minimum())
        x = _HANDLE / 2 + fraction * (self.width() - _HANDLE)
        middle = self.height() / 2
        painter.setPen(QPen(muted_color(self), 1))
        painter.drawLine(QPointF(x, middle - 7), QPointF(x, middle + 7))
        painter.end()
        super().paintEvent(event)


def _slider_style(color: QColor | None) -> str:
    """A thin groove, the same on both sides of the handle: the scale has no empty end."""
    handle = f"width: {_HANDLE}px; margin: -5px 0px; border-radius: {_HANDLE // 2}px;"
    if color is not None:
        # The border, which counts in addition to the width, parts white from a light theme.
        handle = (
            f"width: {_HANDLE - 2}px; margin: -5px 0px; border-radius: {_HANDLE // 2}px;"
            f" background-color: {color.name()}; border: 1px solid rgba(128, 128, 128, 110);"
        )
    return (
        "QSlider { min-height: 18px; }"
        "QSlider::groove:horizontal { height: 4px; }"
        f"QSlider::handle:horizontal {{ {handle} }}"
        "QSlider::sub-page:horizontal { background: none; }"
    )
