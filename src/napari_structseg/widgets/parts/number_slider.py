"""A slider with a field to type in and a reset: what every number of the dock has."""

from __future__ import annotations

import math

from qtpy.QtCore import QPointF, Qt, Signal
from qtpy.QtGui import QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen
from qtpy.QtWidgets import QHBoxLayout, QSpinBox, QToolButton, QWidget
from superqt import QDoubleSlider

from napari_structseg.widgets.parts.colors import muted_color
from napari_structseg.widgets.parts.fields import CalmWheel, DecimalField, NumberField

HANDLE = 14
_MARK = 7


class MarkedSlider(CalmWheel, QDoubleSlider):
    """A slider with a mark at the default, which a double click restores.

    Parameters
    ----------
    low, high
        Its range.
    step, page
        How far an arrow key and a page key go.
    """

    doubleClicked = Signal()  # noqa: N815 -- as Qt's own signals

    def __init__(self, low: float, high: float, *, step: float, page: float) -> None:
        super().__init__(Qt.Orientation.Horizontal)  # type: ignore[no-untyped-call] # superqt
        self.mark = low
        self.setRange(low, high)
        self.setSingleStep(step)
        self.setPageStep(page)
        self._key_steps = {
            Qt.Key.Key_Left: -step,
            Qt.Key.Key_Down: -step,
            Qt.Key.Key_Right: step,
            Qt.Key.Key_Up: step,
            Qt.Key.Key_PageDown: -page,
            Qt.Key.Key_PageUp: page,
            Qt.Key.Key_Home: -math.inf,
            Qt.Key.Key_End: math.inf,
        }

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Take arrows and page keys, which superqt's sliders of real numbers do not."""
        if event is None:
            return
        if event.key() not in self._key_steps:
            super().keyPressEvent(event)
        elif event.modifiers() & ~Qt.KeyboardModifier.KeypadModifier:
            # The dock's own shortcuts.
            event.ignore()
        else:
            self.setValue(self.value() + self._key_steps[Qt.Key(event.key())])

    def mouseDoubleClickEvent(self, event: QMouseEvent | None) -> None:
        """Say so."""
        self.doubleClicked.emit()

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw what lies under the handle, then the slider."""
        if event is None:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        self.paint_under(painter)
        painter.end()
        super().paintEvent(event)

    def paint_under(self, painter: QPainter) -> None:
        """Draw the mark."""
        x, middle = self.place(self.mark), self.height() / 2
        painter.setPen(QPen(muted_color(self), 1))
        painter.drawLine(QPointF(x, middle - _MARK), QPointF(x, middle + _MARK))

    def place(self, value: float) -> float:
        """Where the middle of the handle is at a number, in pixels from the left."""
        fraction = (value - self.minimum()) / (self.maximum() - self.minimum())
        return float(HANDLE / 2 + fraction * (self.width() - HANDLE))


class NumberSlider(QWidget):
    """A number that can be dragged, typed, keyed and, with focus, wheeled; it has a default.

    Parameters
    ----------
    slider, box
        To drag and to type in, of the same range.
    default
        What the reset button, or a double click, sets.
    name
        For screen readers.
    tip
        What it does, in one sentence.
    """

    changed = Signal(float)

    def __init__(
        self,
        slider: MarkedSlider,
        box: NumberField | DecimalField,
        *,
        default: float,
        name: str,
        tip: str,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._default = self._shown = default
        self.slider = slider
        self.slider.doubleClicked.connect(self.reset)
        self.box = box
        # A number that is being typed is not yet one to show.
        self.box.setKeyboardTracking(False)
        self.box.setButtonSymbols(QSpinBox.ButtonSymbols.NoButtons)
        self.box.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.box.setStyleSheet("QAbstractSpinBox { min-width: 40px; padding: 1px 2px; }")
        self.reset_button = QToolButton()
        self.reset_button.setText("↺")
        self.reset_button.setAutoRaise(True)
        self.reset_button.setAccessibleName(f"Reset {name}")
        self.reset_button.clicked.connect(self.reset)
        for widget in (self.slider, self.box):
            widget.setToolTip(tip)
            widget.setAccessibleName(name)
            widget.valueChanged.connect(self.set_value)
        self.set_default(default)
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(0, 0, 0, 0)
        self._row.setSpacing(6)
        self._row.addWidget(self.slider, 1)
        self._row.addWidget(self.box)
        self._row.addWidget(self.reset_button)

    def add_ends(self, low: QWidget, high: QWidget) -> None:
        """Put widgets at the two ends of the slider, for example what they mean."""
        self._row.insertWidget(0, low)
        self._row.insertWidget(2, high)

    @property
    def value(self) -> float:
        """The number."""
        return float(self.box.value())

    @property
    def default(self) -> float:
        """What the reset button, or a double click, sets."""
        return self._default

    def set_default(self, default: float, why: str = "") -> None:
        """Take another default, and go there without saying so.

        Parameters
        ----------
        default
            It.
        why
            What is said of it behind the number, for example where it comes from.
        """
        self._default = default
        self.slider.mark = default
        self.slider.update()
        self.reset_button.setToolTip(f"Back to {default:g}{why} (also: double-click the slider).")
        self.show_value(default)

    def show_value(self, value: float) -> None:
        """Show a number that is set elsewhere, and do not say so."""
        blocked = self.blockSignals(True)
        self.set_value(value)
        self.blockSignals(blocked)

    def set_value(self, value: float) -> None:
        """Set the number, within its range."""
        before, wanted = self._shown, self.snapped(value)
        for widget in (self.slider, self.box):
            blocked = widget.blockSignals(True)
            if widget.value() != wanted:
                widget.setValue(wanted)  # type: ignore[arg-type] # whole, for whole numbers
            widget.blockSignals(blocked)
        self._shown = now = self.value
        self.reset_button.setEnabled(now != self._default)
        if now != before:
            self.changed.emit(now)

    def snapped(self, value: float) -> float:
        """The number to set for one that is asked for."""
        return value

    def step(self, distance: float) -> None:
        """Change the number by so much."""
        self.set_value(self.value + distance)

    def reset(self) -> None:
        """Back to the default."""
        self.set_value(self._default)
