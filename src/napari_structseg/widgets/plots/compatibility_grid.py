"""The weights between classes and their neighbours, painted class by class."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QEvent, QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import (
    QColor,
    QHelpEvent,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QPolygonF,
)
from qtpy.QtWidgets import QSizePolicy, QToolTip, QWidget

from napari_structseg.models import ClassSpec
from napari_structseg.widgets.parts.colors import display_name, line_color, muted_color, text_color
from napari_structseg.widgets.parts.legend import draw_empty_swatch, draw_swatch
from napari_structseg.widgets.plots.compatibility_layout import (
    FOOTER,
    GAP,
    HEADER,
    SIDE,
    SWATCH,
    GridLayout,
    Pair,
)

_FONT = 11
# Room for the name above a column, or else none.
_SHORTEST_NAME = 34
_BAR = QSize(56, 7)
_BADGE = 3.5
# Blue and orange are told apart by everyone, and seen on dark and light alike.
_ATTRACT = QColor("#ee7a1c")
_REPEL = QColor("#3a86e8")
# What is weak is still seen.
_GAMMA = 0.7
_STEPS = {
    Qt.Key.Key_Left: (0, -1),
    Qt.Key.Key_Right: (0, 1),
    Qt.Key.Key_Up: (-1, 0),
    Qt.Key.Key_Down: (1, 0),
}


class CompatibilityGrid(QWidget):
    """A K x K grid; each cell has the weights of one class's neighbourhood of another.

    Rows are the class of a voxel, columns that of its neighbour. A cell is chosen by click or
    by arrow keys.
    """

    pair_chosen = Signal(int, int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._classes: tuple[ClassSpec, ...] = ()
        # Planes of the neighbourhood: (K, K, 1 or 3, 3, 3).
        self._weights: npt.NDArray[np.float32] = np.zeros((0, 0, 1, SIDE, SIDE), np.float32)
        self._roi: dict[Pair, float] = {}
        self._selected: Pair | None = None
        self._hovered: Pair | None = None
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAccessibleName("Weights between classes of neighbours")
        policy = QSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)

    @property
    def selected(self) -> Pair | None:
        """The cell chosen: class of a voxel, class of its neighbour."""
        return self._selected

    @property
    def places(self) -> GridLayout:
        """Where the cells are."""
        return self._places(self.width())

    def show_weights(
        self, classes: Sequence[ClassSpec], weights: npt.NDArray[np.float32] | None
    ) -> None:
        """Show a table; the cell that is chosen stays so if it is for the same classes.

        Parameters
        ----------
        classes
            The K classes, in label order.
        weights
            ``(K, K, 3, 3[, 3])``; None: nothing to show.
        """
        shown = () if weights is None else tuple(classes)
        if shown != self._classes:
            self._selected = None
        self._classes = shown
        table = np.zeros((0, 0, SIDE, SIDE), np.float32) if weights is None else weights
        self._weights = table if table.ndim == 5 else table[:, :, np.newaxis]
        self._hovered = None
        self.updateGeometry()
        self.update()

    def mark(self, nudges: Mapping[Pair, float]) -> None:
        """Mark the pairs that are nudged, given with the smaller label first."""
        self._roi = dict(nudges)
        self.update()

    def select(self, pair: Pair) -> None:
        """Choose a cell."""
        if pair != self._selected:
            self._selected = pair
            self.update()
            self.pair_chosen.emit(*pair)

    def average(self, pair: Pair) -> float:
        """The weight of a cell averaged over the neighbours."""
        weights = self._weights[pair]
        return float(weights.sum() / (weights.size - 1))

    def tip(self, pair: Pair) -> str:
        """What a cell says, in a sentence."""
        here, beside = (display_name(self._classes[label]) for label in pair)
        value = self.average(pair)
        text = (
            f"{here} beside {beside}: each such neighbour {'lowers' if value < 0 else 'raises'} "
            f"the log-likelihood of {here} by {abs(value):.2g} on average."
        )
        nudge = self._roi.get(_unordered(pair))
        if nudge is None:
            return text
        return f"{text} Nudged to touch {'less' if nudge < 0 else 'more'} by {abs(nudge):.2f}."

    def sizeHint(self) -> QSize:
        """As wide as the dock."""
        return QSize(240, self.heightForWidth(240))

    def minimumSizeHint(self) -> QSize:
        """The narrowest grid."""
        return QSize(120, HEADER + FOOTER)

    def heightForWidth(self, width: int) -> int:
        """Header, rows and scale."""
        return self._places(width).height

    def event(self, event: QEvent | None) -> bool:
        """Explain the cell pointed at, or name the class."""
        if isinstance(event, QHelpEvent) and event.type() == QEvent.Type.ToolTip:
            QToolTip.showText(event.globalPos(), self._tip_at(QPointF(event.pos())), self)
            return True
        return bool(super().event(event))

    def mousePressEvent(self, event: QMouseEvent | None) -> None:
        """Choose the cell pointed at."""
        if event is not None and event.button() == Qt.MouseButton.LeftButton:
            pair = self._pair_at(event.position())
            if pair is not None:
                self.select(pair)

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:
        """Frame the cell pointed at."""
        if event is not None:
            self._hover(self._pair_at(event.position()))

    def leaveEvent(self, event: QEvent | None) -> None:
        """Frame none."""
        self._hover(None)

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Go to the next cell with the arrow keys."""
        step = None if event is None else _STEPS.get(Qt.Key(event.key()))
        if event is None or step is None or not self._classes:
            super().keyPressEvent(event)
        elif event.modifiers() & ~Qt.KeyboardModifier.KeypadModifier:
            # The dock's own shortcuts.
            event.ignore()
        else:
            order = self.places.order
            now = self._selected or (order[0], order[0])
            there = [
                min(max(order.index(label) + distance, 0), len(order) - 1)
                for label, distance in zip(now, step, strict=True)
            ]
            self.select((order[there[0]], order[there[1]]))

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw names, cells and the scale."""
        if not self._classes:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        font = self.font()
        font.setPixelSize(_FONT)
        painter.setFont(font)
        places = self.places
        largest = float(np.abs(self._weights).max())
        for label in places.order:
            self._draw_names(painter, places, label)
        for pair in itertools.product(places.order, places.order):
            self._draw_cell(painter, places, pair, largest)
        self._draw_scale(painter, largest)

    def _places(self, width: int) -> GridLayout:
        metrics = self.fontMetrics()
        # In the font of the dock, which is not smaller than the one painted.
        names = (metrics.horizontalAdvance(display_name(spec)) for spec in self._classes)
        return GridLayout(width, len(self._classes), self._weights.shape[2], max(names, default=0))

    def _pair_at(self, point: QPointF) -> Pair | None:
        row, column = self.places.place_at(point)
        return None if row is None or column is None else (row, column)

    def _tip_at(self, point: QPointF) -> str:
        row, column = self.places.place_at(point)
        if row is not None and column is not None:
            return self.tip((row, column))
        label = column if row is None else row
        return "" if label is None else display_name(self._classes[label])

    def _hover(self, pair: Pair | None) -> None:
        if pair != self._hovered:
            self._hovered = pair
            self.update()

    def _draw_names(self, painter: QPainter, places: GridLayout, label: int) -> None:
        """The class on the left of its row and above its column."""
        cell = places.cell((label, label))
        row = QRectF(0, cell.top(), places.left - GAP, cell.height())
        column = QRectF(cell.left(), 0, cell.width(), HEADER - 2)
        metrics = painter.fontMetrics()
        for place, is_row in ((row, True), (column, False)):
            room = place.width() - SWATCH - GAP
            is_named = places.is_named and (is_row or room >= _SHORTEST_NAME)
            name = display_name(self._classes[label]) if is_named else ""
            name = metrics.elidedText(name, Qt.TextElideMode.ElideRight, int(room))
            taken = SWATCH + (GAP + metrics.horizontalAdvance(name) if name else 0)
            left = place.left() if is_row else place.center().x() - taken / 2
            square = QRectF(left, place.center().y() - SWATCH / 2, SWATCH, SWATCH)
            if label == 0:
                draw_empty_swatch(painter, square, self)
            else:
                draw_swatch(painter, square, QColor(self._classes[label].color), self)
            painter.setPen(muted_color(self))
            words = QRectF(square.right() + GAP, place.top(), room, place.height())
            painter.drawText(words, int(Qt.AlignmentFlag.AlignVCenter), name)

    def _draw_cell(self, painter: QPainter, places: GridLayout, pair: Pair, largest: float) -> None:
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
        weights = self._weights[pair]
        centre = tuple(length // 2 for length in weights.shape)
        for index in np.ndindex(*weights.shape):
            # The voxel itself has no weight.
            value = float(weights[index])
            color = muted_color(self) if index == centre else _color(value, largest)
            painter.fillRect(places.square(pair, *index), color)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        pen = QPen(line_color(self), 1)
        if pair == self._selected:
            pen = QPen(text_color(self), 2)
        elif pair == self._hovered:
            pen = QPen(muted_color(self), 1)
        elif self._selected is not None and pair == self._selected[::-1]:
            # A nudge is of both.
            pen = QPen(text_color(self), 1, Qt.PenStyle.DotLine)
        frame = places.cell(pair)
        painter.setPen(pen)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawRoundedRect(frame.adjusted(0.5, 0.5, -0.5, -0.5), 2, 2)
        if _unordered(pair) in self._roi:
            self._draw_badge(painter, frame, self._roi[_unordered(pair)])

    def _draw_badge(self, painter: QPainter, frame: QRectF, nudge: float) -> None:
        """A triangle in the corner, up for more and down for less."""
        centre = frame.topRight() + QPointF(-_BADGE - 1, _BADGE + 1)
        tip = -_BADGE if nudge > 0 else _BADGE
        corners = (QPointF(-_BADGE, -tip), QPointF(_BADGE, -tip), QPointF(0, tip))
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(text_color(self))
        painter.drawPolygon(QPolygonF([centre + corner for corner in corners]))

    def _draw_scale(self, painter: QPainter, largest: float) -> None:
        """What rows, columns and colours are."""
        metrics = painter.fontMetrics()
        low, high = f"−{largest:.2g}", f"+{largest:.2g}"
        line = QRectF(0, self.height() - FOOTER + 3, self.width(), FOOTER - 3)
        right = line.right() - metrics.horizontalAdvance(high)
        bar = QRectF(
            right - GAP - _BAR.width(),
            line.center().y() - _BAR.height() / 2,
            _BAR.width(),
            _BAR.height(),
        )
        before = bar.left() - GAP - metrics.horizontalAdvance(low)
        words = metrics.elidedText(
            "Row: voxel. Column: neighbour.", Qt.TextElideMode.ElideRight, int(before - GAP)
        )
        painter.setPen(muted_color(self))
        for left, text in ((0, words), (before, low), (right, high)):
            place = QRectF(left, line.top(), line.width(), line.height())
            painter.drawText(place, int(Qt.AlignmentFlag.AlignVCenter), text)
        for column in range(_BAR.width()):
            value = 2 * column / (_BAR.width() - 1) - 1
            strip = QRectF(bar.left() + column, bar.top(), 1, bar.height())
            painter.fillRect(strip, _color(value, 1))
        painter.setPen(QPen(line_color(self), 1))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawRect(bar.adjusted(-0.5, -0.5, 0.5, 0.5))


def _unordered(pair: Pair) -> Pair:
    return min(pair), max(pair)


def _color(value: float, largest: float) -> QColor:
    """Orange for what attracts, blue for what repels, clear at 0: the theme shows through."""
    color = QColor(_REPEL if value < 0 else _ATTRACT)
    color.setAlphaF(min(abs(value) / largest, 1.0) ** _GAMMA if largest > 0 else 0.0)
    return color
