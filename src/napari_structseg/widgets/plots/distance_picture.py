"""The distances of all pairs of samples as a picture, mode by mode."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
from napari.utils.colormaps import ensure_colormap
from qtpy.QtCore import QEvent, QLineF, QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QImage, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_structseg.render.hypotheses import Hypotheses
from napari_structseg.widgets.parts.colors import line_color, muted_color, text_color

_LARGEST = 250
_LINE = 18
_GAP = 6
_BAR = QSize(96, 8)
# Neither is among the colours of the picture.
_BORDER = QColor("#3a86e8")
_POINTED = QColor("#2ec4b6")
_PROMPT = "Point at a square: how far apart two samples are."
_STEPS = {
    Qt.Key.Key_Left: (0, -1),
    Qt.Key.Key_Right: (0, 1),
    Qt.Key.Key_Up: (-1, 0),
    Qt.Key.Key_Down: (1, 0),
}
Place = tuple[int, int]


class DistancePicture(QWidget):
    """An N x N picture, a scale of its colours, and a line about the pair pointed at.

    A pair is pointed at with the mouse or the arrow keys; a click shows the sample of its row.
    """

    sample_chosen = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._hypotheses: Hypotheses | None = None
        self._picture: QImage | None = None
        self._palette: npt.NDArray[np.uint8] = (
            255 * np.array(ensure_colormap("magma").colors)[:, :3]
        ).astype(np.uint8)
        self.place: Place | None = None
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAccessibleName("Distances between samples")
        policy = QSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)

    @property
    def hypotheses(self) -> Hypotheses | None:
        """What is shown."""
        return self._hypotheses

    @property
    def square(self) -> QRectF:
        """Where the picture is."""
        side = min(self.width(), _LARGEST)
        return QRectF((self.width() - side) / 2, 0, side, side)

    @property
    def text(self) -> str:
        """What is said of the pair pointed at."""
        if self._hypotheses is None or self.place is None:
            return _PROMPT
        first, second = (self._hypotheses.order[index] for index in self.place)
        distance = self._hypotheses.distances[first - 1, second - 1]
        return f"Samples {first} and {second}: 1 − IoU is {distance:.2f}"

    def show_hypotheses(self, hypotheses: Hypotheses | None) -> None:
        """Show the distances between other samples; None: none."""
        self._hypotheses = hypotheses
        self.place = None
        self._picture = None
        if hypotheses is not None:
            order = np.array(hypotheses.order) - 1
            shades = np.clip(255 * hypotheses.distances[np.ix_(order, order)], 0, 255)
            pixels = self._palette[np.rint(shades).astype(np.uint8)]
            n = len(order)
            # The copy owns its pixels; the array may go.
            image = QImage(pixels.tobytes(), n, n, 3 * n, QImage.Format.Format_RGB888)
            self._picture = image.copy()
        self.update()

    def sizeHint(self) -> QSize:
        """The picture, a line and the scale."""
        return QSize(_LARGEST, self.heightForWidth(_LARGEST))

    def minimumSizeHint(self) -> QSize:
        """The smallest picture."""
        return QSize(120, self.heightForWidth(120))

    def heightForWidth(self, width: int) -> int:
        """A square and two lines."""
        return min(width, _LARGEST) + 2 * _LINE + _GAP

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:
        """Say what is pointed at."""
        if event is not None:
            self._point_at(self._place_at(event.position()))

    def leaveEvent(self, event: QEvent | None) -> None:
        """Say nothing."""
        self._point_at(None)

    def mousePressEvent(self, event: QMouseEvent | None) -> None:
        """Show the sample of the row pointed at."""
        if event is not None and event.button() == Qt.MouseButton.LeftButton:
            self._point_at(self._place_at(event.position()))
            self._choose()

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Point with the arrow keys; Return shows the sample of the row."""
        if event is None or self._hypotheses is None:
            super().keyPressEvent(event)
            return
        step = _STEPS.get(Qt.Key(event.key()))
        if event.modifiers() & ~Qt.KeyboardModifier.KeypadModifier:
            # The dock's own shortcuts.
            event.ignore()
        elif step is not None:
            last = len(self._hypotheses.order) - 1
            row, column = self.place or (0, 0)
            self._point_at((min(max(row + step[0], 0), last), min(max(column + step[1], 0), last)))
        elif event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_Space):
            self._choose()
        else:
            super().keyPressEvent(event)

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw the picture, the borders of the modes, the line and the scale."""
        if self._hypotheses is None or self._picture is None:
            return
        painter = QPainter(self)
        square = self.square
        painter.drawImage(square, self._picture)
        unit = square.width() / len(self._hypotheses.order)
        painter.setPen(QPen(_BORDER, 2))
        sizes = [len(mode.samples) for mode in self._hypotheses.modes]
        for border in list(itertools.accumulate(sizes))[:-1]:
            x, y = square.left() + border * unit, square.top() + border * unit
            painter.drawLine(QLineF(x, square.top(), x, square.bottom()))
            painter.drawLine(QLineF(square.left(), y, square.right(), y))
        if self.place is not None:
            row, column = self.place
            painter.setPen(QPen(_POINTED, 2))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRect(
                QRectF(square.left() + column * unit, square.top() + row * unit, unit, unit)
            )
        line = QRectF(0, square.bottom() + _GAP, self.width(), _LINE)
        painter.setPen(text_color(self) if self.place is not None else muted_color(self))
        painter.drawText(line, int(Qt.AlignmentFlag.AlignCenter), self.text)
        self._draw_scale(painter, line.translated(0, _LINE))

    def _draw_scale(self, painter: QPainter, line: QRectF) -> None:
        bar = QRectF(0, 0, _BAR.width(), _BAR.height())
        bar.moveCenter(line.center())
        for column in range(_BAR.width()):
            color = self._palette[round(255 * column / (_BAR.width() - 1))]
            strip = QRectF(bar.left() + column, bar.top(), 1, bar.height())
            painter.fillRect(strip, QColor(*color.tolist()))
        painter.setPen(QPen(line_color(self), 1))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawRect(bar.adjusted(-0.5, -0.5, 0.5, 0.5))
        painter.setPen(muted_color(self))
        middle = Qt.AlignmentFlag.AlignVCenter
        before = QRectF(0, line.top(), bar.left() - _GAP, line.height())
        after = QRectF(bar.right() + _GAP, line.top(), line.width(), line.height())
        painter.drawText(before, int(Qt.AlignmentFlag.AlignRight | middle), "0 alike")
        painter.drawText(after, int(Qt.AlignmentFlag.AlignLeft | middle), "1 nothing in common")

    def _place_at(self, point: QPointF) -> Place | None:
        square = self.square
        if self._hypotheses is None or not square.contains(point):
            return None
        n = len(self._hypotheses.order)
        row = int((point.y() - square.top()) * n / square.height())
        column = int((point.x() - square.left()) * n / square.width())
        return min(row, n - 1), min(column, n - 1)

    def _point_at(self, place: Place | None) -> None:
        if place != self.place:
            self.place = place
            self.update()

    def _choose(self) -> None:
        if self._hypotheses is not None and self.place is not None:
            self.sample_chosen.emit(self._hypotheses.order[self.place[0]])
