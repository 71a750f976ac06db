"""Undo and redo, each named after what it will do."""

from __future__ import annotations

from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QPaintEvent
from qtpy.QtWidgets import (
    QHBoxLayout,
    QPushButton,
    QSizePolicy,
    QStyle,
    QStyleOptionButton,
    QStylePainter,
    QWidget,
)

from napari_structseg.widgets.binding import follow
from napari_structseg.widgets.correcting.correcting import Correcting

_NOTHING = "nothing"


class NamedButton(QPushButton):
    """A button whose text is elided where there is no room; all of it is in the tooltip."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)

    def minimumSizeHint(self) -> QSize:
        """Room for a few letters."""
        letters = 6 * self.fontMetrics().averageCharWidth()
        return QSize(letters, super().minimumSizeHint().height())

    def paintEvent(self, _event: QPaintEvent | None) -> None:
        """Draw as much of the text as there is room for."""
        option = QStyleOptionButton()
        self.initStyleOption(option)
        style = self.style()
        assert style is not None
        room = style.subElementRect(QStyle.SubElement.SE_PushButtonContents, option, self).width()
        option.text = self.fontMetrics().elidedText(self.text(), Qt.TextElideMode.ElideRight, room)
        QStylePainter(self).drawControl(QStyle.ControlElement.CE_PushButton, option)


class HistoryRow(QWidget):
    """Two buttons, which say what would be undone and what would be done again.

    Parameters
    ----------
    correcting
        Whose history it is.
    """

    def __init__(self, correcting: Correcting, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._correcting = correcting
        self.undo_button, self.redo_button = NamedButton(), NamedButton()
        self.undo_button.clicked.connect(correcting.result.undo)
        self.redo_button.clicked.connect(correcting.result.redo)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(4)
        row.addWidget(self.undo_button, 1)
        row.addWidget(self.redo_button, 1)
        follow(self, correcting.result.changed, self.show_names)
        self.show_names()

    def show_names(self) -> None:
        """Say what the buttons will do now."""
        book = self._correcting.book
        past = None if book is None else book.correction.past
        names = (None, None) if past is None else (past.undo_name, past.redo_name)
        for button, verb, name in zip(
            (self.undo_button, self.redo_button), ("Undo", "Redo"), names, strict=True
        ):
            button.setText(f"{verb}: {name}" if name else verb)
            button.setToolTip(f"{verb}: {name or _NOTHING}")
            button.setEnabled(name is not None)
