"""What the colours and lines over the image mean, in one line under the choice of what to show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from napari.utils import Colormap
from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QLinearGradient, QPainter, QPaintEvent, QPen
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_structseg.models import ClassSpec
from napari_structseg.session.messages import Show
from napari_structseg.widgets.parts.colors import (
    display_name,
    edge_color,
    line_color,
    muted_color,
    uncertainty_colormap,
)

_SWATCH = 9
_STROKE = 18
_GAP = 5
_BETWEEN = 14
_BAR_HEIGHT = 8


@dataclass(frozen=True)
class _Entry:
    """A mark and its name."""

    name: str
    color: QColor | None = None
    style: Qt.PenStyle = Qt.PenStyle.SolidLine


class Legend(QWidget):
    """A painted legend."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._show = Show.LABELS
        self._classes: tuple[ClassSpec, ...] = ()
        self._n_outlines = 0
        self._chosen = ""

    def explain(
        self, show: Show, classes: Sequence[ClassSpec], n_outlines: int, chosen: str = ""
    ) -> None:
        """Say what is shown.

        Parameters
        ----------
        show
            The kind of picture.
        classes
            Of the model, in label order.
        n_outlines
            How many samples are outlined.
        chosen
            What else is outlined, or which of them, and drawn stronger; empty: none is.
        """
        self._show = show
        self._classes = tuple(classes)
        self._n_outlines = n_outlines
        self._chosen = chosen
        self.update()

    @property
    def ends(self) -> tuple[str, str]:
        """What the two ends of the bar of a map mean."""
        return ("all agree", "none") if self._show is Show.AGREEMENT else ("certain", "uncertain")

    @property
    def names(self) -> tuple[str, ...]:
        """What is written beside marks, in order; none for a map."""
        if self._show in (Show.ENTROPY, Show.AGREEMENT):
            return ()
        return tuple(entry.name for entry in self._entries())

    def sizeHint(self) -> QSize:
        """One line of text."""
        return QSize(240, self.fontMetrics().height() + 4)

    def minimumSizeHint(self) -> QSize:
        """As high as one line of text."""
        return QSize(120, self.sizeHint().height())

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw marks with names, or a bar of colours with its ends."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if self._show in (Show.ENTROPY, Show.AGREEMENT):
            self._draw_bar(painter)
        else:
            self._draw_entries(painter)

    def _draw_entries(self, painter: QPainter) -> None:
        metrics = self.fontMetrics()
        is_lines = self._show is not Show.LABELS
        mark = _STROKE if is_lines else _SWATCH
        x = 1.0
        middle = self.height() / 2
        for entry in self._entries():
            if entry.color is not None:
                if is_lines:
                    painter.setPen(QPen(entry.color, 2, entry.style))
                    painter.drawLine(QPointF(x, middle), QPointF(x + mark, middle))
                else:
                    square = QRectF(x, middle - mark / 2, mark, mark)
                    draw_swatch(painter, square, entry.color, self)
                x += mark + _GAP
            painter.setPen(muted_color(self))
            room = self.width() - x
            text = metrics.elidedText(entry.name, Qt.TextElideMode.ElideRight, int(room))
            painter.drawText(
                QRectF(x, 0, room, self.height()), int(Qt.AlignmentFlag.AlignVCenter), text
            )
            x += metrics.horizontalAdvance(entry.name) + _BETWEEN
            if x > self.width():
                return

    def _entries(self) -> list[_Entry]:
        classes = self._classes[1:]
        if self._show is Show.LABELS:
            return [_Entry(display_name(one), QColor(one.color)) for one in classes]
        if self._show is Show.OUTLINES:
            strong = f", {self._chosen} stronger" if self._chosen else ""
            return [
                _Entry(f"Samples 1–{self._n_outlines}{strong}:"),
                *(_Entry(display_name(one), QColor(one.color)) for one in classes),
            ]
        color = muted_color(self)
        return [
            _Entry("In at least"),
            _Entry("95 %", color, Qt.PenStyle.DashLine),
            _Entry("50 %", color),
            _Entry("5 % of samples", color, Qt.PenStyle.DotLine),
        ]

    def _draw_bar(self, painter: QPainter) -> None:
        low, high = self.ends
        metrics = self.fontMetrics()
        painter.setPen(muted_color(self))
        rect = QRectF(self.rect())
        painter.drawText(rect, int(Qt.AlignmentFlag.AlignVCenter), low)
        painter.drawText(
            rect, int(Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignRight), high
        )
        left = metrics.horizontalAdvance(low) + 2 * _GAP
        right = metrics.horizontalAdvance(high) + 2 * _GAP
        bar = QRectF(
            left, (self.height() - _BAR_HEIGHT) / 2, self.width() - left - right, _BAR_HEIGHT
        )
        painter.setPen(Qt.PenStyle.NoPen)
        # As over the dark of an image.
        painter.setBrush(QColor(0, 0, 0))
        painter.drawRoundedRect(bar, 2, 2)
        painter.setBrush(_gradient(bar, uncertainty_colormap(inverted=False)))
        painter.drawRoundedRect(bar, 2, 2)


def draw_swatch(painter: QPainter, rect: QRectF, color: QColor, widget: QWidget) -> None:
    """A small square in the colour of a class."""
    painter.setPen(QPen(edge_color(color, widget), 1))
    painter.setBrush(color)
    painter.drawRoundedRect(rect.adjusted(0.5, 0.5, -0.5, -0.5), 2, 2)


def draw_empty_swatch(painter: QPainter, rect: QRectF, widget: QWidget) -> None:
    """A small frame, for the class that is transparent."""
    painter.setBrush(Qt.BrushStyle.NoBrush)
    painter.setPen(QPen(line_color(widget), 1.5))
    painter.drawRoundedRect(rect.adjusted(0.75, 0.75, -0.75, -0.75), 2, 2)


def _gradient(bar: QRectF, colormap: Colormap) -> QLinearGradient:
    gradient = QLinearGradient(bar.topLeft(), bar.topRight())
    for color, place in zip(colormap.colors, colormap.controls, strict=True):
        gradient.setColorAt(float(place), QColor.fromRgbF(*(float(part) for part in color)))
    return gradient
