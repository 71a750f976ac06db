"""How mean field converges: a small plot over the iterations."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pyqtgraph as pg
from qtpy.QtCore import QEvent, QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPen, QWheelEvent
from qtpy.QtWidgets import QFrame, QSizePolicy, QWidget

from napari_structseg.controls import ITERATIONS_MAX
from napari_structseg.refine.convergence import Convergence
from napari_structseg.widgets.parts.colors import edge_color, line_color, muted_color, text_color

_HEIGHT = 84
_FONT = 11
_STROKE = 14
_GAP = 5
# Of the box the curves are in: room for decades on the left, the legend above, iterations below.
_LEFT, _TOP, _RIGHT, _BOTTOM = 28, 17, 4, 14
# The axis of iterations grows by steps, not with every one: it stays put while the slider moves.
_EXTENTS = (10, 20, 30, ITERATIONS_MAX)
# Decades: at least so many, at most so many, counted down from 1.
_FEWEST, _MOST = 2, 7
_MARGIN = 0.06
# Of the legend's width, for the values each entry may have.
_SHARES = (0.33, 0.36, 0.31)
_SHORT = {"Residual": "Step", "Energy": "F"}
_ENERGY = QColor("#3f7fe0")
_TIP = (
    "Over the iterations: Step, the largest change of a probability (the residual of mean field); "
    "Changed, the fraction of voxels whose label changed; both on a logarithmic axis."
)
_ENERGY_TIP = (
    " F, the free energy in nats, on an axis of its own: lower is nearer to the posterior."
)


class ConvergencePlot(QWidget):
    """Residual, labels changed and, where there is one, free energy; no interaction.

    The legend gives the values at the iteration marked.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setFixedHeight(_HEIGHT)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setToolTip(_TIP)
        self.setAccessibleName("Convergence")
        self._convergence: Convergence | None = None
        self._iteration = 0
        # A view box alone, as for volumes: pyqtgraph's ready-made plot brings menus.
        self._view = pg.GraphicsView(self, background=None)
        self._view.setFrameShape(QFrame.Shape.NoFrame)
        self._view.setStyleSheet("background: transparent; padding: 0px;")
        self._view.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self._box = pg.ViewBox(enableMouse=False, enableMenu=False)
        self._box.setYRange(0, 1, padding=_MARGIN)
        self._view.setCentralItem(self._box)
        self._mark = pg.InfiniteLine(angle=90, movable=False)
        self._dots = pg.ScatterPlotItem(size=6, pen=None)
        self._curves = {
            name: pg.PlotCurveItem(antialias=True) for name in ("Residual", "Changed", "Energy")
        }
        for item in (self._mark, *self._curves.values(), self._dots):
            self._box.addItem(item, ignoreBounds=True)
        self._take_theme()
        self._draw()

    @property
    def convergence(self) -> Convergence | None:
        """What is shown."""
        return self._convergence

    @property
    def iteration(self) -> int:
        """The iteration marked."""
        return self._iteration

    @property
    def extent(self) -> int:
        """The last iteration on the axis."""
        known = 0 if self._convergence is None else self._convergence.n_iterations
        needed = min(max(known, self._iteration), _EXTENTS[-1])
        return next(extent for extent in _EXTENTS if extent >= needed)

    @property
    def readout(self) -> dict[str, str]:
        """Names and values of the legend; empty values before the first iteration."""
        values = self._values()
        index = min(self._iteration, len(values["Residual"])) - 1
        formats = {"Residual": _number, "Changed": _percentage, "Energy": _energy}
        return {
            name: formats[name](float(value[index])) if index >= 0 else ""
            for name, value in values.items()
        }

    def show_convergence(self, convergence: Convergence | None) -> None:
        """Show curves; None: empty axes."""
        self._convergence = convergence
        has_energy = convergence is not None and convergence.free_energy is not None
        self.setToolTip(_TIP + _ENERGY_TIP if has_energy else _TIP)
        self._draw()

    def show_iteration(self, iteration: int) -> None:
        """Mark an iteration."""
        self._iteration = iteration
        self._draw()

    def sizeHint(self) -> QSize:
        """As wide as the dock."""
        return QSize(240, _HEIGHT)

    def wheelEvent(self, event: QWheelEvent | None) -> None:
        """Scroll the dock, not the plot."""
        if event is not None:
            event.ignore()

    def resizeEvent(self, event: object) -> None:
        """Keep the curves beside their axes."""
        self._view.setGeometry(self._frame().toRect())

    def changeEvent(self, event: QEvent | None) -> None:
        """Follow the theme."""
        super().changeEvent(event)
        if event is not None and event.type() in (
            QEvent.Type.StyleChange,
            QEvent.Type.EnabledChange,
        ):
            self._take_theme()

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw axes and legend; the curves are above them."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        font = self.font()
        font.setPixelSize(_FONT)
        painter.setFont(font)
        self._draw_axes(painter)
        self._draw_legend(painter)

    def _frame(self) -> QRectF:
        return QRectF(self.rect()).adjusted(_LEFT, _TOP, -_RIGHT, -_BOTTOM)

    def _values(self) -> dict[str, npt.NDArray[np.float64]]:
        """Values of the curves there are, ``(T,)`` each."""
        shown = self._convergence
        if shown is None:
            return {"Residual": np.zeros(0), "Changed": np.zeros(0)}
        values = {"Residual": shown.residual, "Changed": shown.changed}
        if shown.free_energy is not None:
            values["Energy"] = shown.free_energy
        return values

    def _decades(self) -> int:
        """How many decades below 1 the axis shows: what residual and labels changed need."""
        values = self._values()
        both = np.concatenate([values["Residual"], values["Changed"]])
        positive = both[both > 0]
        smallest = float(positive.min()) if positive.size else 1.0
        return min(max(math.ceil(-math.log10(smallest)), _FEWEST), _MOST)

    def _heights(self, name: str, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Where values are between the bottom (0) and the top (1) of the axes."""
        if name == "Energy":
            low, high = float(values.min()), float(values.max())
            return (values - low) / (high - low) if high > low else np.zeros_like(values)
        decades = self._decades()
        # What is 0 lies on the bottom.
        clipped = np.clip(values, 10.0**-decades, 1)
        heights: npt.NDArray[np.float64] = 1 + np.log10(clipped) / decades
        return heights

    def _draw(self) -> None:
        values = self._values()
        spots = []
        for name, curve in self._curves.items():
            known = values.get(name, np.zeros(0))
            heights = self._heights(name, known) if known.size else known
            curve.setData(np.arange(1, len(known) + 1, dtype=float), heights)
            if 1 <= self._iteration <= len(known):
                place = (self._iteration, float(heights[self._iteration - 1]))
                spots.append({"pos": place, "brush": self._pens()[name].color()})
        self._dots.setData(spots)
        self._mark.setValue(self._iteration)
        self._box.setXRange(0, self.extent, padding=0.01)
        self.update()

    def _pens(self) -> dict[str, QPen]:
        """The lines of curves and legend."""
        changed = pg.mkPen(text_color(self), width=1.5, style=Qt.PenStyle.DotLine)
        return {
            "Residual": pg.mkPen(text_color(self), width=1.5),
            "Changed": changed,
            "Energy": pg.mkPen(edge_color(_ENERGY, self), width=2),
        }

    def _take_theme(self) -> None:
        for name, pen in self._pens().items():
            self._curves[name].setPen(pen)
        self._mark.setPen(pg.mkPen(muted_color(self), width=1))
        self._draw()

    def _draw_axes(self, painter: QPainter) -> None:
        frame = self._frame()
        decades = self._decades()
        # As the view box leaves them: a margin at either end.
        room = frame.height() / (1 + 2 * _MARGIN)
        top = frame.top() + room * _MARGIN
        step = 1 if decades <= 3 else 2
        for decade in range(0, decades + 1, step):
            y = round(top + room * decade / decades) + 0.5
            painter.setPen(QPen(line_color(self), 1))
            painter.drawLine(QPointF(frame.left(), y), QPointF(frame.right(), y))
            painter.setPen(muted_color(self))
            text = "1" if decade == 0 else f"10{_superscript(-decade)}"
            place = QRectF(0, y - _FONT, _LEFT - _GAP, 2 * _FONT)
            painter.drawText(
                place, int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter), text
            )
        below = QRectF(frame.left(), frame.bottom(), frame.width(), _BOTTOM)
        painter.drawText(below, int(Qt.AlignmentFlag.AlignLeft), "0")
        painter.drawText(below, int(Qt.AlignmentFlag.AlignHCenter), "iteration")
        painter.drawText(below, int(Qt.AlignmentFlag.AlignRight), str(self.extent))

    def _draw_legend(self, painter: QPainter) -> None:
        metrics = painter.fontMetrics()
        entries = self.readout
        shares = _SHARES[: len(entries)]
        left, middle = 0.0, _TOP / 2 - 1
        for (name, value), share in zip(entries.items(), shares, strict=True):
            width = self.width() * share / sum(shares)
            painter.setPen(self._pens()[name])
            painter.drawLine(QPointF(left + 1, middle), QPointF(left + _STROKE, middle))
            place = QRectF(left + _STROKE + _GAP, 0, width - _STROKE - 1.5 * _GAP, _TOP - 2)
            text = f"{name} {value}"
            room = int(place.width())
            if metrics.horizontalAdvance(text) >= room:
                text = f"{_SHORT.get(name, name)} {value}"
            text = metrics.elidedText(text, Qt.TextElideMode.ElideRight, room)
            painter.setPen(muted_color(self))
            painter.drawText(place, int(Qt.AlignmentFlag.AlignVCenter), text)
            left += width


def _superscript(number: int) -> str:
    return str(number).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _number(value: float) -> str:
    """A residual with two digits: 0.75, 0.021, 3e-5."""
    if value >= 0.01 or value == 0:
        return f"{value:.2g}"
    digits, exponent = f"{value:.1e}".split("e")
    return f"{digits}e−{-int(exponent)}"


def _percentage(fraction: float) -> str:
    """A share of voxels: 12 %, 0.42 %, <0.001 %."""
    percentage = 100 * fraction
    if 0 < percentage < 0.001:
        return "<0.001 %"
    if percentage >= 10:
        return f"{percentage:.0f} %"
    return f"{percentage:.{2 if percentage >= 0.1 else 1}g} %"


def _energy(nats: float) -> str:
    """A free energy, which for a volume has many digits."""
    text = f"{nats:,.0f}" if abs(nats) >= 1000 else f"{nats:.4g}"
    return text.replace("-", "−")
