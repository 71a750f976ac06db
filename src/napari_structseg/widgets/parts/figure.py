"""A number in the dock that says whether it is up to date."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtGui import QPainter, QPaintEvent
from qtpy.QtWidgets import QLabel, QSizePolicy, QWidget

from napari_structseg.widgets.parts.colors import faint_color, muted_color, text_color

_OUTDATED = "Not up to date: it is being counted."


class Figure(QLabel):
    """A number that says whether it is up to date: greyed, and in its tooltip.

    Parameters
    ----------
    is_secondary
        Whether it is quieter than other text also when it is up to date.
    """

    def __init__(self, *, is_secondary: bool = False, parent: QWidget | None = None) -> None:
        super().__init__("", parent)
        self._is_secondary = is_secondary
        self.is_current, self.is_doubtful = True, False
        self.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)

    def show_text(self, text: str, tip: str, *, is_current: bool = True, doubt: str = "") -> None:
        """Show a number and what it is of.

        Parameters
        ----------
        text, tip
            The number, and what it is of.
        is_current
            Whether it is that of what is wanted now.
        doubt
            Why it may be wrong all the same; empty: nothing speaks against it.
        """
        self.is_current, self.is_doubtful = is_current, bool(doubt)
        self.setText(text)
        reasons = (doubt, "" if is_current else _OUTDATED, tip)
        self.setToolTip(" ".join(one for one in reasons if one))
        self.update()

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw the number; what is out of date, or in doubt, is hardly more than a shadow."""
        painter = QPainter(self)
        if not self.is_current or self.is_doubtful:
            painter.setPen(faint_color(self))
        else:
            painter.setPen((muted_color if self._is_secondary else text_color)(self))
        painter.drawText(self.contentsRect(), int(self.alignment()), self.text())
