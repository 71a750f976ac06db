"""Where the cells of the grid of weights are, in pixels."""

from __future__ import annotations

from dataclasses import dataclass

from qtpy.QtCore import QPointF, QRectF

Pair = tuple[int, int]

SIDE = 3
SWATCH = 9
GAP = 5
HEADER = 17
FOOTER = 20
# Of a cell, around the weights.
_PADDING = 2
# Around that, to the next cell.
_APART = 1
# Side of one weight's square: at most, and at least where names take room from the weights.
_LARGEST = 10
_LEAST_NAMED = 3
# Between planes, at least.
_PLANE_GAP = 2
_NAMES_SHARE = 0.28


@dataclass(frozen=True)
class GridLayout:
    """A grid that fills a width, in the order of the dock: the background last.

    Attributes
    ----------
    width
        Of everything.
    n_classes
        Rows and columns K.
    n_planes
        3 for a neighbourhood in 3-D, whose planes are side by side; 1 in 2-D.
    names_width
        Of the longest name, which stands left of its row if there is room.
    """

    width: int
    n_classes: int
    n_planes: int
    names_width: int

    @property
    def order(self) -> tuple[int, ...]:
        """Labels from the top and from the left."""
        labels = range(self.n_classes)
        return (*labels[1:], *labels[:1])

    @property
    def is_named(self) -> bool:
        """Whether there is room for names beside the swatches."""
        return self._unit(self._names_left) >= _LEAST_NAMED

    @property
    def left(self) -> float:
        """Where the columns begin."""
        return self._names_left if self.is_named else SWATCH + GAP

    @property
    def column(self) -> float:
        """From one column to the next."""
        return (self.width - self.left) / max(self.n_classes, 1)

    @property
    def unit(self) -> int:
        """Side of one weight's square."""
        return min(max(self._unit(self.left), 1), _LARGEST)

    @property
    def plane_gap(self) -> int:
        """Between planes: what the squares leave over, but no more than one of them."""
        room = self.column - 2 * (_PADDING + _APART) - SIDE * self.n_planes * self.unit
        return min(max(int(room // max(self.n_planes - 1, 1)), _PLANE_GAP), self.unit)

    @property
    def row(self) -> int:
        """From one row to the next."""
        return max(SIDE * self.unit + 2 * _PADDING, SWATCH) + 2 * _APART

    @property
    def height(self) -> int:
        """Header, rows and footer."""
        return HEADER + self.row * self.n_classes + FOOTER

    def cell(self, pair: Pair) -> QRectF:
        """Where the cell of a class and its neighbour's class is."""
        row, column = (self.order.index(label) for label in pair)
        place = QRectF(
            self.left + column * self.column, HEADER + row * self.row, self.column, self.row
        )
        return place.adjusted(_APART, _APART, -_APART, -_APART)

    def square(self, pair: Pair, plane: int, row: int, column: int) -> QRectF:
        """Where one weight of a cell is."""
        cell, unit = self.cell(pair), self.unit
        plane_width = SIDE * unit + self.plane_gap
        painted = self.n_planes * plane_width - self.plane_gap
        left = round(cell.center().x() - painted / 2) + plane * plane_width
        top = round(cell.center().y() - SIDE * unit / 2)
        return QRectF(left + column * unit, top + row * unit, unit, unit)

    def place_at(self, point: QPointF) -> tuple[int | None, int | None]:
        """The labels of the row and the column at a point; None beside them."""
        row = (point.y() - HEADER) // self.row
        column = (point.x() - self.left) // self.column
        return self._label(row), self._label(column)

    @property
    def _names_left(self) -> float:
        """Where the columns begin beside names."""
        return SWATCH + GAP + min(self.names_width + GAP, round(_NAMES_SHARE * self.width))

    def _unit(self, left: float) -> int:
        """The side of a square for which all columns fit right of a place."""
        room = (self.width - left) / max(self.n_classes, 1) - 2 * (_PADDING + _APART)
        return int((room - _PLANE_GAP * (self.n_planes - 1)) // (SIDE * self.n_planes))

    def _label(self, index: float) -> int | None:
        return self.order[int(index)] if 0 <= index < self.n_classes else None


def unordered(pair: Pair) -> Pair:
    """The same pair for both orders: the smaller label first."""
    return min(pair), max(pair)
