"""Loss and validation of a run over its steps: a small plot that grows."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pyqtgraph as pg
from qtpy.QtCore import QEvent, QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPen, QWheelEvent
from qtpy.QtWidgets import QFrame, QSizePolicy, QWidget

from napari_structseg.finetuning.course import Course
from napari_structseg.training.checkpoint import ValidationScore
from napari_structseg.widgets.parts.colors import edge_color, line_color, muted_color, text_color

_HEIGHT = 104
_FONT = 11
_STROKE, _GAP = 14, 5
# Of the box the curves are in: the legend above, steps below.
_SIDE, _TOP, _BOTTOM = 4, 17, 14
_MARGIN = 0.06
_SCORE = QColor("#3f7fe0")
# The loss of single steps is noisy: what is drawn is their mean over so many.
_SMOOTHING = 15
_TIP = (
    "Loss: of the corrected voxels, in nats per voxel, smoothed. Dice: on what is held out of the "
    "corrections; the dotted line is the model before. Each has an axis of its own."
)


class TuningPlot(QWidget):
    """Two curves, each as high as the plot; no interaction. The legend has their last values."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setFixedHeight(_HEIGHT)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setToolTip(_TIP)
        self.setAccessibleName("Loss and validation")
        self._course = Course()
        # A view box alone, as for volumes: pyqtgraph's ready-made plot brings menus.
        self._view = pg.GraphicsView(self, background=None)
        self._view.setFrameShape(QFrame.Shape.NoFrame)
        self._view.setStyleSheet("background: transparent; padding: 0px;")
        self._view.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self._box = pg.ViewBox(enableMouse=False, enableMenu=False)
        self._box.setYRange(0, 1, padding=_MARGIN)
        self._view.setCentralItem(self._box)
        self._loss = pg.PlotCurveItem(antialias=True)
        self._score = pg.PlotCurveItem(antialias=True)
        self._before = pg.InfiniteLine(angle=0, movable=False)
        self._dots = pg.ScatterPlotItem(size=6, pen=None)
        for item in (self._before, self._loss, self._score, self._dots):
            self._box.addItem(item, ignoreBounds=True)
        self._take_theme()

    @property
    def curves(self) -> dict[str, npt.NDArray[np.float64]]:
        """Steps and values of what is drawn, ``(N, 2)`` each."""
        losses = [one for one in self._course.losses if math.isfinite(one[1])]
        scores = [(one.step, one.mean_dice) for one in self._scores]
        return {
            "Loss": _smoothed(np.reshape(np.array(losses, np.float64), (-1, 2))),
            "Dice": np.reshape(np.array(scores, np.float64), (-1, 2)),
        }

    @property
    def readout(self) -> dict[str, str]:
        """Names and last values of the legend."""
        said = {
            name: f"{values[-1, 1]:.3g}" if len(values) else ""
            for name, values in self.curves.items()
        }
        before = self._course.before
        if before is not None and said["Dice"]:
            said["Dice"] = f"{self._scores[-1].mean_dice:.3f} (was {before.mean_dice:.3f})"
        return said

    def show_course(self, course: Course | None) -> None:
        """Show a run; None: empty axes."""
        self._course = Course() if course is None else course
        self._draw()

    def sizeHint(self) -> QSize:
        """As wide as the dock."""
        return QSize(240, _HEIGHT)

    def wheelEvent(self, event: QWheelEvent | None) -> None:
        """Scroll the dock, not the plot."""
        if event is not None:
            event.ignore()

    def resizeEvent(self, event: object) -> None:
        """Keep the curves in their frame."""
        self._view.setGeometry(self._frame().toRect())

    def changeEvent(self, event: QEvent | None) -> None:
        """Follow the theme."""
        super().changeEvent(event)
        if event is not None and event.type() == QEvent.Type.StyleChange:
            self._take_theme()

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw axes and legend; the curves are above them."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        font = self.font()
        font.setPixelSize(_FONT)
        painter.setFont(font)
        frame = self._frame()
        painter.setPen(QPen(line_color(self), 1))
        for y in (frame.top(), frame.bottom()):
            painter.drawLine(QPointF(frame.left(), y), QPointF(frame.right(), y))
        painter.setPen(muted_color(self))
        below = QRectF(frame.left(), frame.bottom(), frame.width(), _BOTTOM)
        painter.drawText(below, int(Qt.AlignmentFlag.AlignLeft), "0")
        painter.drawText(below, int(Qt.AlignmentFlag.AlignHCenter), "step")
        painter.drawText(below, int(Qt.AlignmentFlag.AlignRight), str(self._course.steps or ""))
        left = 0.0
        pens = {"Loss": self._loss_pen(), "Dice": self._score_pen()}
        for (name, value), share in zip(self.readout.items(), (0.36, 0.64), strict=True):
            width = self.width() * share
            painter.setPen(pens[name])
            middle = _TOP / 2 - 1
            painter.drawLine(QPointF(left + 1, middle), QPointF(left + _STROKE, middle))
            place = QRectF(left + _STROKE + _GAP, 0, width - _STROKE - _GAP, _TOP - 2)
            painter.setPen(muted_color(self))
            text = painter.fontMetrics().elidedText(
                f"{name} {value}", Qt.TextElideMode.ElideRight, int(place.width())
            )
            painter.drawText(place, int(Qt.AlignmentFlag.AlignVCenter), text)
            left += width

    @property
    def _scores(self) -> list[ValidationScore]:
        return self._course.scores

    def _frame(self) -> QRectF:
        return QRectF(self.rect()).adjusted(_SIDE, _TOP, -_SIDE, -_BOTTOM)

    def _draw(self) -> None:
        curves, before = self.curves, self._course.before
        losses, scores = curves["Loss"], curves["Dice"]
        self._loss.setData(losses[:, 0], _heights(losses[:, 1]))
        known = scores[:, 1] if before is None else np.append(scores[:, 1], before.mean_dice)
        heights = _heights(known)
        self._score.setData(scores[:, 0], heights[: len(scores)])
        spots = [
            {"pos": (step, height), "brush": self._score_pen().color()}
            for step, height in zip(scores[:, 0], heights, strict=False)
        ]
        self._dots.setData(spots)
        self._before.setVisible(before is not None)
        if before is not None:
            self._before.setValue(float(heights[-1]))
        self._box.setXRange(0, max(self._course.steps, 1), padding=0.01)
        self.update()

    def _loss_pen(self) -> QPen:
        pen: QPen = pg.mkPen(text_color(self), width=1.5)
        return pen

    def _score_pen(self) -> QPen:
        pen: QPen = pg.mkPen(edge_color(_SCORE, self), width=2)
        return pen

    def _take_theme(self) -> None:
        self._loss.setPen(self._loss_pen())
        self._score.setPen(self._score_pen())
        dotted = pg.mkPen(edge_color(_SCORE, self), width=1, style=Qt.PenStyle.DotLine)
        self._before.setPen(dotted)
        self._draw()


def _heights(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Where values are between the bottom (0) and the top (1)."""
    if not values.size:
        return values
    low, high = float(values.min()), float(values.max())
    # Equal ones lie in the middle.
    heights: npt.NDArray[np.float64] = (
        (values - low) / (high - low) if high > low else np.full_like(values, 0.5)
    )
    return heights


def _smoothed(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Each value the mean of those around it, fewer at both ends."""
    n = len(points)
    reach = min(_SMOOTHING, n) // 2
    if reach < 1:
        return points
    sums = np.concatenate([[0.0], np.cumsum(points[:, 1])])
    places = np.arange(n)
    # The same on both sides, so that the ends are not pulled.
    half = np.minimum(reach, np.minimum(places, n - 1 - places))
    means = (sums[places + half + 1] - sums[places - half]) / (2 * half + 1)
    return np.column_stack([points[:, 0], means])
