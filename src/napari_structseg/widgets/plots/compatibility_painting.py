"""How the grid of weights between classes is painted: names, cells, and the scale below."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPen, QPolygonF
from qtpy.QtWidgets import QWidget

from napari_structseg.models import ClassSpec
from napari_structseg.widgets.parts.colors import display_name, line_color, muted_color, text_color
from napari_structseg.widgets.parts.legend import draw_empty_swatch, draw_swatch
from napari_structseg.widgets.plots.compatibility_layout import (
    FOOTER,
    GAP,
    HEADER,
    SWATCH,
    GridLayout,
    Pair,
)

# Room for the name above a column, or else none.
_SHORTEST_NAME = 34
_BAR = QSize(56, 7)
_BADGE = 3.5
# Blue and orange are told apart by everyone, and seen on dark and light alike.
_ATTRACT = QColor("#ee7a1c")
_REPEL = QColor("#3a86e8")
# What is weak is still seen.
_GAMMA = 0.7


class Frame(Enum):
    """What stands out about a cell."""

    PLAIN = auto()
    HOVERED = auto()
    SELECTED = auto()
    OTHER = auto()
    """The same two classes the other way round."""


class CompatibilityPainting:
    """One painting of a grid.

    Parameters
    ----------
    painter
        On the widget, with its font.
    widget
        Whose colours are used.
    places
        Where the cells are.
    classes
        In label order.
    largest
        The largest absolute weight of all: the end of the colour scale.
    """

    def __init__(
        self,
        painter: QPainter,
        widget: QWidget,
        places: GridLayout,
        classes: Sequence[ClassSpec],
        largest: float,
    ) -> None:
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        self._painter = painter
        self._widget = widget
        self._places = places
        self._classes = classes
        self._largest = largest

    def draw_names(self, label: int) -> None:
        """The class on the left of its row and above its column."""
        painter, places = self._painter, self._places
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
                draw_empty_swatch(painter, square, self._widget)
            else:
                draw_swatch(painter, square, QColor(self._classes[label].color), self._widget)
            painter.setPen(muted_color(self._widget))
            words = QRectF(square.right() + GAP, place.top(), room, place.height())
            painter.drawText(words, int(Qt.AlignmentFlag.AlignVCenter), name)

    def draw_cell(
        self, pair: Pair, weights: npt.NDArray[np.float32], frame: Frame, nudge: float | None
    ) -> None:
        """The weights of a pair, ``(1 or 3, 3, 3)``, its frame, and the mark of a nudge."""
        painter, places = self._painter, self._places
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
        centre = tuple(length // 2 for length in weights.shape)
        for index in np.ndindex(*weights.shape):
            # The voxel itself has no weight.
            value = float(weights[index])
            color = muted_color(self._widget) if index == centre else _color(value, self._largest)
            painter.fillRect(places.square(pair, *index), color)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        cell = places.cell(pair)
        painter.setPen(self._pen(frame))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawRoundedRect(cell.adjusted(0.5, 0.5, -0.5, -0.5), 2, 2)
        if nudge is not None:
            self._draw_badge(cell, nudge)

    def _pen(self, frame: Frame) -> QPen:
        if frame is Frame.PLAIN:
            return QPen(line_color(self._widget), 1)
        if frame is Frame.HOVERED:
            return QPen(muted_color(self._widget), 1)
        color = text_color(self._widget)
        is_selected = frame is Frame.SELECTED
        return QPen(color, 2) if is_selected else QPen(color, 1, Qt.PenStyle.DotLine)

    def _draw_badge(self, cell: QRectF, nudge: float) -> None:
        """A triangle in the corner, up for more and down for less."""
        painter = self._painter
        centre = cell.topRight() + QPointF(-_BADGE - 1, _BADGE + 1)
        tip = -_BADGE if nudge > 0 else _BADGE
        corners = (QPointF(-_BADGE, -tip), QPointF(_BADGE, -tip), QPointF(0, tip))
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(text_color(self._widget))
        painter.drawPolygon(QPolygonF([centre + corner for corner in corners]))

    def draw_scale(self) -> None:
        """What rows, columns and colours are."""
        painter, width = self._painter, self._widget.width()
        metrics = painter.fontMetrics()
        low, high = f"−{self._largest:.2g}", f"+{self._largest:.2g}"
        line = QRectF(0, self._widget.height() - FOOTER + 3, width, FOOTER - 3)
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
        painter.setPen(muted_color(self._widget))
        for left, text in ((0, words), (before, low), (right, high)):
            place = QRectF(left, line.top(), line.width(), line.height())
            painter.drawText(place, int(Qt.AlignmentFlag.AlignVCenter), text)
        for column in range(_BAR.width()):
            value = 2 * column / (_BAR.width() - 1) - 1
            strip = QRectF(bar.left() + column, bar.top(), 1, bar.height())
            painter.fillRect(strip, _color(value, 1))
        painter.setPen(QPen(line_color(self._widget), 1))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawRect(bar.adjusted(-0.5, -0.5, 0.5, 0.5))


def _color(value: float, largest: float) -> QColor:
    """Orange for what attracts, blue for what repels, clear at 0: the theme shows through."""
    color = QColor(_REPEL if value < 0 else _ATTRACT)
    color.setAlphaF(min(abs(value) / largest, 1.0) ** _GAMMA if largest > 0 else 0.0)
    return color
