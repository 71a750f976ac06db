"""A titled part of the dock that folds away, and quiet text for it."""

from __future__ import annotations

from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent
from qtpy.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_structseg.widgets.parts.colors import line_color, muted_color, text_color

# Letters of a name that are seen in any case; pixels beside a text, against rounding.
_LETTERS = 10
_SPARE = 6


class ElidedLabel(QLabel):
    """One line of text that is elided, never clipped."""

    def __init__(self, text: str = "", parent: QWidget | None = None) -> None:
        super().__init__(text, parent)
        self.setIndent(0)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def minimumSizeHint(self) -> QSize:
        """Room for a few characters; the rest is elided."""
        return QSize(self.fontMetrics().averageCharWidth() * 4, super().minimumSizeHint().height())

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw as much as there is room for."""
        painter = QPainter(self)
        painter.setPen(self.color())
        rect = self.contentsRect()
        shown = self.fontMetrics().elidedText(
            self.text(), Qt.TextElideMode.ElideRight, rect.width()
        )
        painter.drawText(rect, int(self.alignment()), shown)

    def color(self) -> QColor:
        """Of the text."""
        return text_color(self)


class ShortName(ElidedLabel):
    """A name that gives way to the numbers beside it, down to its first letters."""

    def minimumSizeHint(self) -> QSize:
        """Room for some letters, or for all of a shorter name."""
        metrics = self.fontMetrics()
        room = min(metrics.horizontalAdvance(self.text()), _LETTERS * metrics.averageCharWidth())
        return QSize(room + _SPARE, super().minimumSizeHint().height())

    def sizeHint(self) -> QSize:
        """No more than that: what is left over comes by stretching."""
        return self.minimumSizeHint()

    def whole_width(self) -> int:
        """Room for all of the name, in pixels."""
        return int(self.fontMetrics().horizontalAdvance(self.text())) + _SPARE


class Caption(ElidedLabel):
    """One line of secondary text, in the quiet shade of the theme's colour."""

    def color(self) -> QColor:
        """Of the text."""
        return muted_color(self)


class SteadyCaption(Caption):
    """A word that is as wide as the widest that may stand in its place.

    Parameters
    ----------
    text
        What it says now.
    widest
        The widest that it may say.
    """

    def __init__(self, text: str, widest: str, parent: QWidget | None = None) -> None:
        self._widest = widest
        super().__init__(text, parent)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)

    def minimumSizeHint(self) -> QSize:
        """Room for the widest."""
        width = self.fontMetrics().horizontalAdvance(self._widest)
        return QSize(width + _SPARE, super().minimumSizeHint().height())

    def sizeHint(self) -> QSize:
        """The same."""
        return self.minimumSizeHint()


class Note(QLabel):
    """A wrapped sentence of secondary text."""

    def __init__(self, text: str = "", parent: QWidget | None = None) -> None:
        super().__init__(text, parent)
        self.setIndent(0)
        self.setWordWrap(True)

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw the text in the quiet shade of the theme's colour."""
        painter = QPainter(self)
        painter.setPen(muted_color(self))
        flags = int(self.alignment()) | Qt.TextFlag.TextWordWrap
        painter.drawText(self.contentsRect(), int(flags), self.text())


class Hairline(QWidget):
    """A thin horizontal line."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setFixedHeight(1)

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw it."""
        QPainter(self).fillRect(self.rect(), line_color(self))


class SmallButton(QPushButton):
    """A button that fits beside a line of text.

    Parameters
    ----------
    text
        A word or a sign.
    tip
        What it does.
    """

    def __init__(self, text: str, tip: str, parent: QWidget | None = None) -> None:
        super().__init__(text, parent)
        self.setToolTip(tip)
        self.setAccessibleName(tip)
        self.setStyleSheet("QPushButton { padding: 2px 7px; }")
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)


class Section(QWidget):
    """A header that folds and unfolds the content below it.

    Parameters
    ----------
    title
        Of the header.
    content
        What folds away.
    trailing
        Widgets at the right end of the header, for example a reset button.
    """

    def __init__(
        self,
        title: str,
        content: QWidget,
        *trailing: QWidget,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.content = content
        self.trailing = trailing
        self.header = QToolButton(self)
        self.header.setText(title)
        self.header.setCheckable(True)
        self.header.setChecked(True)
        self.header.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.header.setStyleSheet(
            "QToolButton, QToolButton:checked, QToolButton:hover"
            " { background: none; border: none; padding: 2px 0px; font-weight: 600; }"
        )
        self.header.toggled.connect(self._fold)
        bar = QHBoxLayout()
        bar.setContentsMargins(0, 0, 0, 0)
        bar.setSpacing(4)
        bar.addWidget(self.header)
        bar.addStretch(1)
        for widget in trailing:
            bar.addWidget(widget)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(Hairline())
        layout.addLayout(bar)
        layout.addWidget(content)
        self._fold(True)

    @property
    def is_open(self) -> bool:
        """Whether it is unfolded."""
        return self.header.isChecked()

    def set_open(self, is_open: bool) -> None:
        """Unfold or fold."""
        self.header.setChecked(is_open)

    def _fold(self, is_open: bool) -> None:
        arrow = Qt.ArrowType.DownArrow if is_open else Qt.ArrowType.RightArrow
        self.header.setArrowType(arrow)
        self.content.setVisible(is_open)
        for widget in self.trailing:
            widget.setVisible(is_open)
