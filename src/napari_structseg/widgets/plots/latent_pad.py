"""A plane through the latent space: the prior, the samples, and a position that can be dragged."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QEvent, QLineF, QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import (
    QColor,
    QHelpEvent,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPainterPath,
    QPaintEvent,
    QPen,
)
from qtpy.QtWidgets import QToolTip, QWidget

from napari_structseg.controls import LATENT_MAX, MEAN
from napari_structseg.widgets.parts.colors import line_color, muted_color, text_color

Vector = npt.NDArray[np.float64]

_SIDE = 184
_RADIUS = 5.0
# Standard deviations from the centre to the edge; more where a high temperature needs them.
_EXTENT = 3.3
_EXTENT_PER_TEMPERATURE = 2.2
_DOT = 3.0
_KNOB = 6.0
# Half of the length of the marks at 1 and 2 standard deviations, where there is one axis.
_TICK = 8.0
_KNOB_COLOR = QColor("#3a86e8")
# How near in pixels a dot is hit, and how far it must be dragged to leave it.
_NEAR = 7.0
_DRAGGED = 4.0
_KEY_STEP = 0.1
_STEPS = {
    Qt.Key.Key_Left: (-1, 0),
    Qt.Key.Key_Right: (1, 0),
    Qt.Key.Key_Up: (0, 1),
    Qt.Key.Key_Down: (0, -1),
}


class LatentPad(QWidget):
    """Positions are vectors in standard deviations of the prior, before temperature.

    What is painted is their projection on two orthogonal directions, times temperature: there
    the prior's ellipses are circles. Moving changes these two coordinates and leaves the others.
    """

    moved = Signal()
    sample_chosen = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._axes: Vector = np.zeros((2, 0))
        self._position: Vector = np.zeros(0)
        self._samples: dict[int, Vector] = {}
        self._sample: int | None = MEAN
        self._temperature = 1.0
        self._pressed: QPointF | None = None
        self.setFixedSize(QSize(_SIDE, _SIDE))
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setCursor(Qt.CursorShape.CrossCursor)
        self.setAccessibleName("Position in the latent space")

    @property
    def position(self) -> Vector:
        """Where in the latent space the picture is from, ``(L,)``."""
        return self._position

    @property
    def coordinates(self) -> tuple[float, float]:
        """The position as it is painted, in standard deviations."""
        across, up = self._project(self._position)
        return across, up

    @property
    def beside(self) -> float:
        """How far the position is from the plane that is painted, in standard deviations."""
        rest = self._position - self._axes.T @ (self._axes @ self._position)
        return self._temperature * float(np.linalg.norm(rest))

    @property
    def is_line(self) -> bool:
        """Whether it has one axis, and no height to move in."""
        return not self._axes[1].any()

    def set_axes(self, axes: Vector) -> None:
        """Paint other directions.

        Parameters
        ----------
        axes
            Orthogonal unit vectors across and up, ``(2, L)``; the second is zero where only one
            direction changes anything: then there is a line to move along.
        """
        self._axes = axes
        self.update()

    def set_temperature(self, temperature: float) -> None:
        """Widen or narrow the prior."""
        self._temperature = temperature
        self.update()

    def show_samples(self, samples: Mapping[int, Vector]) -> None:
        """Show where samples are, each ``(L,)``."""
        self._samples = dict(samples)
        self.update()

    def show_position(self, position: Vector, sample: int | None) -> None:
        """Show where the picture is from, and of which sample it is; None: of no sample."""
        self._position = position
        self._sample = sample
        self.update()

    def place(self, position: Vector) -> QPointF:
        """Where a position is painted."""
        return self._place(*self._project(position))

    def sizeHint(self) -> QSize:
        """Half of a dock of usual width."""
        return QSize(_SIDE, _SIDE)

    def event(self, event: QEvent | None) -> bool:
        """Name the sample pointed at."""
        if isinstance(event, QHelpEvent) and event.type() == QEvent.Type.ToolTip:
            sample = self._sample_at(QPointF(event.pos()))
            text = self.toolTip() if sample is None else f"Sample {sample}"
            QToolTip.showText(event.globalPos(), text, self)
            return True
        return bool(super().event(event))

    def mousePressEvent(self, event: QMouseEvent | None) -> None:
        """Choose a sample, or go anywhere else."""
        if event is None or event.button() != Qt.MouseButton.LeftButton:
            return
        sample = self._sample_at(event.position())
        if sample is None:
            self._go_to(event.position())
        else:
            self._pressed = event.position()
            self.sample_chosen.emit(sample)

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:
        """Follow the mouse."""
        if event is None or not event.buttons() & Qt.MouseButton.LeftButton:
            return
        if self._pressed is not None:
            if QLineF(self._pressed, event.position()).length() < _DRAGGED:
                return
            self._pressed = None
        self._go_to(event.position())

    def mouseReleaseEvent(self, event: QMouseEvent | None) -> None:
        """Let go."""
        self._pressed = None

    def mouseDoubleClickEvent(self, event: QMouseEvent | None) -> None:
        """Back to the mean."""
        if event is None or event.button() != Qt.MouseButton.LeftButton:
            return
        # As after a press on a dot: it takes more than a tremor to leave it.
        self._pressed = event.position()
        self.sample_chosen.emit(MEAN)

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Move with the arrow keys; Home is the mean."""
        step = None if event is None else _STEPS.get(Qt.Key(event.key()))
        if event is None or event.modifiers() & ~Qt.KeyboardModifier.KeypadModifier:
            # The dock's own shortcuts.
            super().keyPressEvent(event)
        elif event.key() == Qt.Key.Key_Home:
            self.sample_chosen.emit(MEAN)
        elif step is not None:
            across, up = self.coordinates
            self._move_to(across + _KEY_STEP * step[0], up + _KEY_STEP * step[1])
        else:
            super().keyPressEvent(event)

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw the prior, the samples and the position."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        frame = QRectF(self.rect()).adjusted(1, 1, -1, -1)
        outline = QPainterPath()
        outline.addRoundedRect(frame, _RADIUS, _RADIUS)
        has_focus = self.hasFocus()
        painter.setPen(QPen(muted_color(self) if has_focus else line_color(self), 1.5))
        painter.drawPath(outline)
        painter.setClipPath(outline)
        self._draw_prior(painter, frame)
        painter.setPen(Qt.PenStyle.NoPen)
        for sample, position in self._samples.items():
            is_shown = sample == self._sample
            painter.setBrush(text_color(self) if is_shown else muted_color(self))
            painter.drawEllipse(self.place(position), _DOT, _DOT)
        painter.setPen(QPen(text_color(self), 1.5))
        painter.setBrush(_KNOB_COLOR)
        painter.drawEllipse(self.place(self._position), _KNOB, _KNOB)

    def _draw_prior(self, painter: QPainter, frame: QRectF) -> None:
        centre = self._place(0, 0)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.setPen(QPen(line_color(self), 1))
        painter.drawLine(QLineF(frame.left(), centre.y(), frame.right(), centre.y()))
        if not self.is_line:
            painter.drawLine(QLineF(centre.x(), frame.top(), centre.x(), frame.bottom()))
        font = self.font()
        font.setPixelSize(10)
        painter.setFont(font)
        for offsets in (1, 2):
            radius = offsets * self._temperature * self._unit
            painter.setPen(QPen(muted_color(self), 1, Qt.PenStyle.DashLine))
            if self.is_line:
                for side in (-radius, radius):
                    top, bottom = QPointF(side, -_TICK), QPointF(side, _TICK)
                    painter.drawLine(QLineF(centre + top, centre + bottom))
                if self._temperature > 0:
                    below = centre + QPointF(radius - _TICK, 2.5 * _TICK)
                    painter.drawText(below, f"{offsets} σ")
                continue
            painter.drawEllipse(centre, radius, radius)
            if self._temperature > 0:
                # On the circle, where no axis is.
                corner = radius * math.sqrt(0.5)
                painter.drawText(centre + QPointF(corner + 2, -corner - 2), f"{offsets} σ")

    @property
    def _unit(self) -> float:
        """Pixels to a standard deviation at temperature 1."""
        return _SIDE / 2 / max(_EXTENT, _EXTENT_PER_TEMPERATURE * self._temperature)

    def _project(self, position: Vector) -> tuple[float, float]:
        across, up = self._temperature * (self._axes @ position)
        return float(across), float(up)

    def _place(self, across: float, up: float) -> QPointF:
        return QPointF(_SIDE / 2 + across * self._unit, _SIDE / 2 - up * self._unit)

    def _sample_at(self, point: QPointF) -> int | None:
        """The sample whose dot is nearest to a point, if one is near."""
        distances = {
            sample: QLineF(point, self.place(position)).length()
            for sample, position in self._samples.items()
        }
        nearest = min(distances, key=distances.__getitem__, default=None)
        return nearest if nearest is not None and distances[nearest] < _NEAR else None

    def _go_to(self, point: QPointF) -> None:
        half, unit = _SIDE / 2, self._unit
        self._move_to((point.x() - half) / unit, (half - point.y()) / unit)

    def _move_to(self, across: float, up: float) -> None:
        """Move in the plane; at temperature 0 there is but the mean."""
        if self._temperature == 0 or not self._axes.size:
            return
        change = np.array([across, up]) / self._temperature - self._axes @ self._position
        moved = np.clip(self._position + self._axes.T @ change, -LATENT_MAX, LATENT_MAX)
        self.show_position(moved, None)
        self.moved.emit()
