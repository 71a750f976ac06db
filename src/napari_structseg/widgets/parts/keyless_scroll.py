"""What a dock scrolls in."""

from __future__ import annotations

from qtpy.QtCore import QEvent, QObject, QSize, Qt
from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import QFrame, QScrollArea, QWidget


class KeylessScrollArea(QScrollArea):
    """Leaves keys, arrows above all, to the dock's shortcuts; never cuts off its right side."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)

    def minimumSizeHint(self) -> QSize:
        """As wide as what is in it, in every font."""
        page, bar = self.widget(), self.verticalScrollBar()
        hint = super().minimumSizeHint()
        if page is None or bar is None:
            return hint
        width = page.minimumSizeHint().width() + bar.sizeHint().width()
        return QSize(max(width, hint.width()), hint.height())

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Follow what is in it."""
        if event is not None and event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return bool(super().eventFilter(watched, event))

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Do nothing with it."""
        if event is not None:
            event.ignore()
