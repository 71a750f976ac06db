"""The weights between classes and their neighbours as a grid whose cells are chosen."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QEvent, QPointF, QSize, Qt, Signal
from qtpy.QtGui import QHelpEvent, QKeyEvent, QMouseEvent, QPainter, QPaintEvent
from qtpy.QtWidgets import QSizePolicy, QToolTip, QWidget

from napari_structseg.models import ClassSpec
from napari_structseg.widgets.parts.colors import display_name
from napari_structseg.widgets.plots.compatibility_layout import (
    FOOTER,
    HEADER,
    SIDE,
    GridLayout,
    Pair,
    unordered,
)
from napari_structseg.widgets.plots.compatibility_painting import CompatibilityPainting, Frame

_FONT = 11
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
        self._nudges: dict[Pair, float] = {}
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
        self._nudges = dict(nudges)
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
        nudge = self._nudges.get(unordered(pair))
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
        places = self.places
        painter = QPainter(self)
        font = self.font()
        font.setPixelSize(_FONT)
        painter.setFont(font)
        painting = CompatibilityPainting(
            painter, self, places, self._classes, float(np.abs(self._weights).max())
        )
        for label in places.order:
            painting.draw_names(label)
        for pair in itertools.product(places.order, places.order):
            painting.draw_cell(
                pair, self._weights[pair], self._frame(pair), self._nudges.get(unordered(pair))
            )
        painting.draw_scale()

    def _frame(self, pair: Pair) -> Frame:
        if pair == self._selected:
            return Frame.SELECTED
        if pair == self._hovered:
            return Frame.HOVERED
        # A nudge is of both.
        is_other = self._selected is not None and pair == self._selected[::-1]
        return Frame.OTHER if is_other else Frame.PLAIN

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
