"""Lists, number fields and sliders that the mouse wheel leaves alone while the dock is scrolled.

Every combo box and spin box of the dock is one of these, and every slider takes `CalmWheel`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QRect, Qt
from qtpy.QtGui import QShowEvent, QWheelEvent
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QComboBox,
    QDoubleSpinBox,
    QSpinBox,
    QStyle,
    QStyleOptionSpinBox,
    QWidget,
)

# What a line of text keeps free on both sides, with the text cursor.
_BESIDE_TEXT = 8
_FONT_EVENTS = (QEvent.Type.FontChange, QEvent.Type.StyleChange)
# Any width that is large enough to measure what frame, padding and buttons take of it.
_PROBE = QRect(0, 0, 400, 30)

if TYPE_CHECKING:
    _Widget = QWidget
    _SpinBox = QAbstractSpinBox
else:
    # The mixins stand before the class of Qt that they change.
    _Widget = _SpinBox = object


class CalmWheel(_Widget):
    """A mixin: the wheel does something only where the keyboard is, and scrolls elsewhere."""

    def wheelEvent(self, event: QWheelEvent | None) -> None:
        """Take the wheel with focus; otherwise leave it to the scroll area around."""
        if event is None:
            return
        if self.hasFocus():
            super().wheelEvent(event)
        else:
            event.ignore()


class CalmCombo(QComboBox):
    """A list to choose from. Closed, it never takes the wheel: to choose, it is opened."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        # Qt's own policy lets the wheel take the focus.
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToContents)

    def wheelEvent(self, event: QWheelEvent | None) -> None:
        """Leave it to the scroll area around."""
        if event is not None:
            event.ignore()


class _Fitted(CalmWheel, _SpinBox):
    """A mixin: as wide as the longest text that is to be seen, in every font."""

    def texts(self) -> Iterable[str]:
        """The texts that there has to be room for."""
        raise NotImplementedError

    def fit(self) -> None:
        """Make room. Done when it is shown and when its font changes; else call it."""
        self.ensurePolished()
        metrics = self.fontMetrics()
        text = max(metrics.horizontalAdvance(one) for one in self.texts()) + _BESIDE_TEXT
        option = QStyleOptionSpinBox()
        self.initStyleOption(option)
        option.rect = _PROBE
        style = self.style()
        assert style is not None
        part = QStyle.SubControl.SC_SpinBoxEditField
        inside = style.subControlRect(QStyle.ComplexControl.CC_SpinBox, option, part, self)
        # A style sheet, napari's among them, sets a minimum of its own whenever it is applied.
        width = text + _PROBE.width() - inside.width()
        if self.minimumWidth() < width:
            self.setMinimumWidth(width)

    def showEvent(self, event: QShowEvent | None) -> None:
        """Fit."""
        super().showEvent(event)
        self.fit()

    def changeEvent(self, event: QEvent | None) -> None:
        """Follow the font."""
        super().changeEvent(event)
        if event is not None and event.type() in _FONT_EVENTS:
            self.fit()


class NumberField(_Fitted, QSpinBox):
    """A whole number to type in, with room for every number of its range."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)

    def texts(self) -> Iterable[str]:
        """The ends of the range."""
        for end in (self.minimum(), self.maximum()):
            yield f"{self.prefix()}{self.textFromValue(end)}{self.suffix()}"
        yield self.specialValueText()


class DecimalField(_Fitted, QDoubleSpinBox):
    """A real number to type in, with room for every number of its range.

    Parameters
    ----------
    is_open
        Whether its range is much larger than what is typed in: then there is room for what is.
    """

    def __init__(self, *, is_open: bool = False, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self._is_open = is_open
        if is_open:
            self.textChanged.connect(self.fit)

    def texts(self) -> Iterable[str]:
        """The ends of the range, or what is typed in."""
        if self._is_open:
            yield self.text()
            return
        for end in (self.minimum(), self.maximum()):
            yield f"{self.prefix()}{self.textFromValue(end)}{self.suffix()}"
