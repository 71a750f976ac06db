"""A slider over iterations that shows, as a player does, how far they are there already."""

from __future__ import annotations

import math

from qtpy.QtCore import QRectF, Qt, Signal
from qtpy.QtGui import QPainter, QWheelEvent
from qtpy.QtWidgets import QWidget

from napari_structseg.widgets.parts.colors import line_color, muted_color
from napari_structseg.widgets.parts.fields import NumberField
from napari_structseg.widgets.parts.number_slider import HANDLE, MarkedSlider, NumberSlider

_PAGE = 5
# Of a mouse wheel, in the eighths of a degree that Qt counts.
_NOTCH = 120
_GROOVE = 4.0
_STYLE = (
    "QSlider { min-height: 18px; }"
    f"QSlider::groove:horizontal {{ height: {_GROOVE:g}px; border: none;"
    " background: transparent; }"
    f"QSlider::handle:horizontal {{ width: {HANDLE}px; margin: -5px 0px;"
    f" border-radius: {HANDLE // 2}px; }}"
    "QSlider::sub-page:horizontal, QSlider::add-page:horizontal"
    " { background: transparent; }"
)


class IterationSlider(NumberSlider):
    """A whole number, and how far what it stands for is computed.

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
        self._tip = tip
        self._track = _Track(high)
        box = NumberField()
        box.setRange(0, high)
        super().__init__(self._track, box, default=0, name=name, tip=tip, parent=parent)

    @property
    def value(self) -> int:
        """The number."""
        return int(self.box.value())

    @property
    def reached(self) -> int:
        """How far the iterations are there already."""
        return self._track.reached

    def snapped(self, value: float) -> int:
        """The nearest whole number within the range."""
        return round(min(max(value, 0), self.box.maximum()))

    def show_progress(self, reached: int, target: int) -> None:
        """Show that ``reached`` of ``target`` iterations are there."""
        self._track.reached = reached
        self._track.update()
        self._track.setToolTip(
            f"{self._tip}\n{reached} of {target} iterations computed."
            if reached < target
            else self._tip
        )


class _Track(MarkedSlider):
    """A slider of whole numbers with a bar up to what is computed."""

    def __init__(self, high: int) -> None:
        super().__init__(0, high, step=1, page=_PAGE)
        self.reached = 0
        self._turned = 0.0
        self.setStyleSheet(_STYLE)

    def setValue(self, value: float) -> None:  # type: ignore[override] # superqt's is unbound
        # The handle snaps.
        super().setValue(round(min(max(value, self.minimum()), self.maximum())))

    def wheelEvent(self, event: QWheelEvent | None) -> None:
        """With focus, one iteration for each notch, and for as much on a touch pad."""
        if event is None or not self.hasFocus():
            super().wheelEvent(event)
            return
        delta = event.angleDelta()
        self._turned += (delta.y() or delta.x()) / _NOTCH
        whole = math.trunc(self._turned)
        self._turned -= whole
        self.setValue(self.value() + whole)
        event.accept()

    def paint_under(self, painter: QPainter) -> None:
        """Draw the mark, the groove and what of it is computed."""
        super().paint_under(painter)
        painter.setPen(Qt.PenStyle.NoPen)
        groove = QRectF(0, (self.height() - _GROOVE) / 2, self.width(), _GROOVE)
        painter.setBrush(line_color(self))
        painter.drawRect(groove)
        if self.reached:
            groove.setRight(self.place(self.reached))
            painter.setBrush(muted_color(self))
            painter.drawRect(groove)
