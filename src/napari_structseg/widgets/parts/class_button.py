"""A button for a class, in its colour."""

from __future__ import annotations

from qtpy.QtCore import QRectF, QSize, Qt
from qtpy.QtGui import QColor, QIcon, QPainter, QPaintEvent, QPixmap
from qtpy.QtWidgets import (
    QPushButton,
    QSizePolicy,
    QStyle,
    QStyleOptionButton,
    QStylePainter,
    QWidget,
)

_SIDE = 12
# Between swatch and text.
_GAP = 8


class ClassButton(QPushButton):
    """A checkable button with a swatch and a name.

    Parameters
    ----------
    name
        As it is written.
    color
        Of the swatch.
    tip
        What the button does.
    """

    def __init__(self, name: str, color: QColor, tip: str, parent: QWidget | None = None) -> None:
        super().__init__(_swatch(color), name, parent)
        self._name, self._size = name, ""
        self.setCheckable(True)
        self.setToolTip(tip)
        self.setIconSize(QSize(_SIDE, _SIDE))
        self.setStyleSheet("QPushButton { padding: 3px 6px; text-align: left; }")
        # A long name is elided rather than the dock made wider.
        self.setMinimumWidth(60)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)

    def set_words(self, name: str, size: str) -> None:
        """Write a name and, behind it, a size; the name is elided where there is no room."""
        self._size = f"  {size}" if size else ""
        self._name = name
        self.setText(f"{name}{self._size}")

    def paintEvent(self, _event: QPaintEvent | None) -> None:
        """Draw the swatch, as much of the name as there is room for, and the size."""
        option = QStyleOptionButton()
        self.initStyleOption(option)
        style = self.style()
        assert style is not None
        inside = style.subElementRect(QStyle.SubElement.SE_PushButtonContents, option, self)
        room = inside.width() - self.iconSize().width() - _GAP
        metrics = self.fontMetrics()
        room -= metrics.horizontalAdvance(self._size)
        name = metrics.elidedText(self._name, Qt.TextElideMode.ElideRight, room)
        option.text = f"{name}{self._size}"
        QStylePainter(self).drawControl(QStyle.ControlElement.CE_PushButton, option)


def _swatch(color: QColor) -> QIcon:
    picture = QPixmap(_SIDE, _SIDE)
    picture.fill(Qt.GlobalColor.transparent)
    painter = QPainter(picture)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setBrush(color)
    painter.setPen(QColor(128, 128, 128))
    painter.drawRoundedRect(QRectF(0.5, 0.5, _SIDE - 1, _SIDE - 1), 2, 2)
    painter.end()
    return QIcon(picture)
