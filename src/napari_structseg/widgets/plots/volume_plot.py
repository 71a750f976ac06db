"""The distribution of one class's volume over samples, as a small curve."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyqtgraph as pg
from qtpy.QtCore import QEvent, QSize, Qt
from qtpy.QtGui import QColor, QWheelEvent
from qtpy.QtWidgets import QFrame, QWidget

from napari_structseg.widgets.parts.colors import edge_color, text_color

# Beside a line of text.
_SIZE = QSize(84, 24)
NARROWEST = 28
_POINTS = 96
_FILL_OPACITY = 0.45
# Of the axis left free beside the samples, and how empty it may get before it is fitted again:
# it stays put while a slider moves, so that the curve is seen to widen.
_MARGIN = 0.4
_TOO_EMPTY = 0.2
# A class that hardly varies is a spike, not a wall: the axis spans at least this fraction.
_LEAST_SPAN = 0.02
# Top of the vertical axis; the curve's highest point is at 1.
_HEADROOM = 1.08


class VolumePlot(pg.GraphicsView):  # type: ignore[misc] # pyqtgraph publishes no types
    """A density with a mark at the volume now; no axes, no interaction.

    A view box alone: pyqtgraph's ready-made plot brings a dozen menus that outlive it.
    """

    def __init__(self, color: QColor, parent: QWidget | None = None) -> None:
        super().__init__(parent, background=None)
        self._box = pg.ViewBox(enableMouse=False, enableMenu=False)
        self.setCentralItem(self._box)
        self._limits: tuple[float, float] | None = None
        self._volumes: npt.NDArray[np.float64] | None = None
        self._color = color
        fill = QColor(color)
        fill.setAlphaF(_FILL_OPACITY)
        self._curve = pg.PlotCurveItem(fillLevel=0, brush=fill)
        self._box.addItem(self._curve)
        self._mark = pg.InfiniteLine(angle=90, movable=False)
        self._mark.setVisible(False)
        self._box.addItem(self._mark, ignoreBounds=True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setStyleSheet("background: transparent; padding: 0px;")
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.setFixedHeight(_SIZE.height())
        self.setMinimumWidth(0)
        self.setMaximumWidth(_SIZE.width())
        self._take_theme()

    @property
    def volumes_ml(self) -> npt.NDArray[np.float64] | None:
        """The samples' volumes shown, ``(N,)``."""
        return self._volumes

    @property
    def mark_ml(self) -> float | None:
        """The volume marked."""
        return float(self._mark.value()) if self._mark.isVisible() else None

    def show_volumes(self, volumes_ml: npt.NDArray[np.float64]) -> None:
        """Show samples.

        Parameters
        ----------
        volumes_ml
            ``(N,)``.
        """
        self._volumes = volumes_ml
        self._draw()

    def show_mark(self, volume_ml: float | None) -> None:
        """Mark the volume now; None: no mark."""
        self._mark.setVisible(volume_ml is not None)
        if volume_ml is not None:
            self._mark.setValue(volume_ml)
            self._draw()

    def clear_samples(self) -> None:
        """Show no samples; the mark stays."""
        if self._volumes is not None:
            self._volumes = None
            self._curve.setData([], [])

    def clear_volumes(self) -> None:
        """Show nothing."""
        self.clear_samples()
        self._limits = None
        self._mark.setVisible(False)

    def set_width(self, width: int) -> None:
        """Be no wider than this, in pixels; too narrow to be read, it makes way altogether."""
        self.setMaximumWidth(min(width, _SIZE.width()) if width >= NARROWEST else 0)

    def sizeHint(self) -> QSize:
        """As wide as it may be."""
        return QSize(self.maximumWidth(), _SIZE.height())

    def minimumSizeHint(self) -> QSize:
        """It makes way for numbers."""
        return QSize(0, _SIZE.height())

    def wheelEvent(self, event: QWheelEvent | None) -> None:
        """Scroll the dock, not the plot."""
        if event is not None:
            event.ignore()

    def changeEvent(self, event: QEvent | None) -> None:
        """Follow the theme."""
        super().changeEvent(event)
        if event is not None and event.type() == QEvent.Type.StyleChange:
            self._take_theme()

    def _draw(self) -> None:
        if self._volumes is None:
            return
        seen = self._volumes if self.mark_ml is None else np.append(self._volumes, self.mark_ml)
        self._limits = _fitted(seen, self._limits)
        x = np.linspace(*self._limits, _POINTS)
        self._curve.setData(x, _density(x, self._volumes))
        self._box.setXRange(*self._limits, padding=0)
        self._box.setYRange(0, _HEADROOM, padding=0)

    def _take_theme(self) -> None:
        self._mark.setPen(pg.mkPen(text_color(self), width=2))
        self._curve.setPen(pg.mkPen(edge_color(self._color, self), width=1.5))


def _fitted(
    seen: npt.NDArray[np.float64], limits: tuple[float, float] | None
) -> tuple[float, float]:
    """The axis: the one before, unless what is to be seen leaves it or huddles in it."""
    low, high = float(seen.min()), float(seen.max())
    least = max(_LEAST_SPAN * high, np.finfo(float).eps)
    if limits is not None and limits[0] <= low and high <= limits[1]:
        span = limits[1] - limits[0]
        if max(high - low, least) >= _TOO_EMPTY * span:
            return limits
    margin = _MARGIN * max(high - low, least) + least / 2
    return low - margin, high + margin


def _density(
    x: npt.NDArray[np.float64], samples: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """A Gaussian kernel density estimate, its highest point at 1.

    The bandwidth is Silverman's, but not below what a curve of this many points can show.
    """
    spread = float(samples.std()) * 1.06 * len(samples) ** -0.2
    bandwidth = max(spread, 1.5 * float(x[1] - x[0]))
    kernels = np.exp(-0.5 * ((x[:, np.newaxis] - samples) / bandwidth) ** 2)
    density: npt.NDArray[np.float64] = kernels.sum(axis=1)
    density /= density.max()
    return density
