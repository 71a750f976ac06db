"""A message that stays readable until it is dismissed: an error, or a warning."""

from __future__ import annotations

from qtpy.QtCore import QRectF, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent
from qtpy.QtWidgets import QHBoxLayout, QLabel, QSizePolicy, QToolButton, QWidget

# Readable as an edge on napari's dark and on its light background.
_ERROR, _WARNING = QColor(224, 72, 72), QColor(214, 148, 32)
_TINT = 40


class ErrorBanner(QWidget):
    """A message at the bottom of the dock; hidden while there is none.

    Parameters
    ----------
    is_warning
        Whether nothing failed: it is drawn in amber then.
    """

    def __init__(self, *, is_warning: bool = False, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._edge = _WARNING if is_warning else _ERROR
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
        """Draw a tint of red with a red edge, or of amber."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        tint = QColor(self._edge)
        tint.setAlpha(_TINT)
        painter.setBrush(tint)
        painter.drawRoundedRect(QRectF(self.rect()), 3, 3)
        painter.setBrush(self._edge)
        painter.drawRoundedRect(QRectF(0, 0, 4, self.height()), 2, 2)
