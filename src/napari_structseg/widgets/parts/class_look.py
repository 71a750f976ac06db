"""How a class is drawn over the image: a swatch with its opacity, and an eye that hides it."""

from __future__ import annotations

from qtpy.QtCore import QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QPainter, QPainterPath, QPaintEvent, QPen
from qtpy.QtWidgets import QAbstractButton, QHBoxLayout, QLabel, QMenu, QWidget, QWidgetAction

from napari_structseg.widgets.parts.colors import edge_color, muted_color, text_color
from napari_structseg.widgets.parts.legend import draw_empty_swatch, draw_swatch
from napari_structseg.widgets.parts.scale_slider import ScaleSlider

_SWATCH = 12.0
_EYE = QSize(18, 14)
ROOM = QSize(18, 18)
_MENU_WIDTH = 260
_FAINT = 0.3


class EyeButton(QAbstractButton):
    """An eye: open, the class is drawn; closed, it is not.

    Parameters
    ----------
    name
        Of the class.
    """

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setCheckable(True)
        self.setChecked(True)
        self.setFixedSize(ROOM)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setAccessibleName(f"Show {name}")
        self.setToolTip(f"Show or hide {name} over the image. Nothing is deleted.")

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw two lids and a pupil; a closed eye has a line through it."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        is_open = self.isChecked()
        is_marked = self.underMouse() or self.hasFocus()
        color = text_color(self) if is_marked or not is_open else muted_color(self)
        painter.setPen(QPen(color, 1.4))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        eye = QRectF(0, 0, _EYE.width() - 4, _EYE.height() - 4)
        eye.moveCenter(QRectF(self.rect()).center())
        middle = eye.center()
        lids = QPainterPath(QPointF(eye.left(), middle.y()))
        lids.quadTo(QPointF(middle.x(), eye.top() - 3), QPointF(eye.right(), middle.y()))
        lids.quadTo(QPointF(middle.x(), eye.bottom() + 3), QPointF(eye.left(), middle.y()))
        painter.drawPath(lids)
        if is_open:
            painter.setBrush(color)
            painter.drawEllipse(middle, 1.8, 1.8)
        else:
            painter.drawLine(eye.bottomLeft(), eye.topRight())


class OpacityButton(QAbstractButton):
    """The colour of a class; a click offers how opaque it is drawn.

    Parameters
    ----------
    name
        Of the class.
    color
        Of the class; None: it is never drawn, and there is nothing to offer.
    """

    changed = Signal(float)

    def __init__(self, name: str, color: QColor | None, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._name = name
        self._color = color
        self._is_shown = True
        # Only while it is open.
        self.slider: ScaleSlider | None = None
        self.setFixedSize(ROOM)
        self.opacity = 1.0
        if color is None:
            self.setEnabled(False)
            self.setToolTip(f"{name} is not drawn: the image is seen there.")
            return
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setAccessibleName(f"Opacity of {name}")
        self.setToolTip(f"The colour of {name}. Click to change how opaque it is.")
        self.clicked.connect(self._offer)

    def show_look(self, opacity: float, *, is_shown: bool) -> None:
        """Show what the class looks like, and say nothing of it."""
        self.opacity = opacity
        self._is_shown = is_shown
        if self.slider is not None:
            self.slider.show_value(opacity)
        self.update()

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw the colour as opaque as it is, with a frame that is always seen."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        square = QRectF(0, 0, _SWATCH, _SWATCH)
        square.moveCenter(QRectF(self.rect()).center())
        if self._color is None:
            draw_empty_swatch(painter, square, self)
            return
        painter.setOpacity(_FAINT + (1 - _FAINT) * self.opacity * self._is_shown)
        draw_swatch(painter, square, self._color, self)
        painter.setOpacity(1)
        if self.underMouse() or self.hasFocus():
            painter.setPen(QPen(edge_color(self._color, self), 1))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRoundedRect(square.adjusted(-2, -2, 2, 2), 3, 3)

    def _offer(self) -> None:
        menu = QMenu(self)
        self.slider = ScaleSlider(0, 1, name=f"Opacity of {self._name}", tip="0 is invisible.")
        self.slider.show_value(self.opacity)
        self.slider.changed.connect(self._on_change)
        box = QWidget()
        box.setMinimumWidth(_MENU_WIDTH)
        row = QHBoxLayout(box)
        row.setContentsMargins(8, 6, 8, 6)
        row.addWidget(QLabel("Opacity"))
        row.addWidget(self.slider, 1)
        action = QWidgetAction(menu)
        action.setDefaultWidget(box)
        menu.addAction(action)
        menu.aboutToHide.connect(self._on_closed)
        menu.aboutToHide.connect(menu.deleteLater)
        menu.popup(self.mapToGlobal(self.rect().bottomLeft()))
        self.slider.slider.setFocus()

    def _on_closed(self) -> None:
        self.slider = None

    def _on_change(self, opacity: float) -> None:
        self.opacity = opacity
        self.update()
        self.changed.emit(opacity)
