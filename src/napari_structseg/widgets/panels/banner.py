"""An error that stays readable until it is dismissed."""

from __future__ import annotations

from qtpy.QtCore import QRectF, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent
from qtpy.QtWidgets import QHBoxLayout, QLabel, QSizePolicy, QToolButton, QWidget

# Readable as an edge on napari's dark and on its light background.
_EDGE = QColor(224, 72, 72)
_TINT = 40


class ErrorBanner(QWidget):
    """A message at the top of the dock; hidden while there is none."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.label = QLabel()
        self.label.setWordWrap(True)
        self.label.setTextInteractionFlags(
            Qt.TextInteractionFlag.TextSelectableByMouse
            | Qt.TextInteractionFlag.TextSelectableByKeyboard
        )
        self.dismiss_button = QToolButton()
        self.dismiss_button.setText("✕")
        self.dismiss_button.setAutoRaise(True)
        self.dismiss_button.setToolTip("Dismiss")
        self.dismiss_button.clicked.connect(self.dismiss)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        row = QHBoxLayout(self)
        row.setContentsMargins(12, 6, 4, 6)
        row.setSpacing(6)
        row.addWidget(self.label, 1)
        row.addWidget(self.dismiss_button, 0, Qt.AlignmentFlag.AlignTop)
        self.setVisible(False)

    @property
    def message(self) -> str:
        """What it says; empty while there is nothing to say."""
        return str(self.label.text())

    def show_error(self, message: str) -> None:
        """Say what is wrong and what to do."""
        self.label.setText(message)
        self.setVisible(True)

    def dismiss(self) -> None:
        """Hide."""
        self.label.setText("")
        self.setVisible(False)

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw a tint of red with a red edge."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        tint = QColor(_EDGE)
        tint.setAlpha(_TINT)
        painter.setBrush(tint)
        painter.drawRoundedRect(QRectF(self.rect()), 3, 3)
        painter.setBrush(_EDGE)
        painter.drawRoundedRect(QRectF(0, 0, 4, self.height()), 2, 2)
