"""One hypothesis in the strip: a small picture that can be chosen."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QRectF, QSize, Qt
from qtpy.QtGui import QColor, QImage, QKeyEvent, QPainter, QPainterPath, QPaintEvent, QPen
from qtpy.QtWidgets import QAbstractButton, QSizePolicy, QWidget

from napari_structseg.controls import MEAN
from napari_structseg.widgets.parts.colors import LABEL_OPACITY, muted_color, text_color

_SIDE = 62
_RADIUS = 4.0
_BORDER = 2.0
_GAP = 1.5
_ARROWS = (Qt.Key.Key_Left, Qt.Key.Key_Right, Qt.Key.Key_Up, Qt.Key.Key_Down)


def overlay(
    labels: npt.NDArray[np.uint8],
    colors: npt.NDArray[np.float32],
    grey: npt.NDArray[np.uint8] | None,
) -> npt.NDArray[np.uint8]:
    """Labels in their colours over the image.

    Parameters
    ----------
    labels
        ``(h, w)``.
    colors
        Colour of each label, ``(C, 4)``, values 0 to 1; label 0 is transparent.
    grey
        The image, ``(h, w)``; None: black.

    Returns
    -------
    ndarray
        ``(h, w, 3)``, uint8.
    """
    base = np.zeros(labels.shape, np.float32) if grey is None else grey.astype(np.float32)
    color = colors[labels]
    opacity = LABEL_OPACITY * color[..., 3:]
    mixed = (1 - opacity) * base[..., np.newaxis] + opacity * 255 * color[..., :3]
    return mixed.astype(np.uint8)


class Thumbnail(QAbstractButton):
    """A square button with the picture of one sample.

    Parameters
    ----------
    sample
        Its number; 0 is the mean.
    """

    def __init__(self, sample: int, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.sample = sample
        self.picture: QImage | None = None
        self._aspect = 1.0
        self.setCheckable(True)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        name = "Mean" if sample == MEAN else f"Sample {sample}"
        self.setAccessibleName(name)
        self.setToolTip(
            "The mean: the most probable logits, before any sample strays from them."
            if sample == MEAN
            else f"{name}: one coherent segmentation drawn from the model's distribution."
        )
        policy = QSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)

    def set_picture(self, pixels: npt.NDArray[np.uint8] | None, aspect: float = 1.0) -> None:
        """Show a picture.

        Parameters
        ----------
        pixels
            ``(h, w, 3)``, uint8; None: an empty frame.
        aspect
            Width by height of the picture on screen.
        """
        self._aspect = aspect
        if pixels is None:
            self.picture = None
        else:
            height, width = pixels.shape[:2]
            # The copy owns its pixels; the array may go.
            self.picture = QImage(
                np.ascontiguousarray(pixels).tobytes(),
                width,
                height,
                3 * width,
                QImage.Format.Format_RGB888,
            ).copy()
        self.update()

    def heightForWidth(self, width: int) -> int:
        """Square."""
        return width

    def sizeHint(self) -> QSize:
        """Five of them fit into a dock of usual width."""
        return QSize(_SIDE, _SIDE)

    def minimumSizeHint(self) -> QSize:
        """Small enough for a narrow dock."""
        return QSize(40, 40)

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Leave arrows to the strip."""
        if event is not None and event.key() in _ARROWS:
            event.ignore()
        else:
            super().keyPressEvent(event)

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Picture, number, and a frame where it is chosen, focused or pointed at."""
        painter = QPainter(self)
        painter.setRenderHints(
            QPainter.RenderHint.Antialiasing | QPainter.RenderHint.SmoothPixmapTransform
        )
        if not self.isEnabled():
            painter.setOpacity(0.4)
        frame = _inset(QRectF(self.rect()), _BORDER + _GAP)
        outline = QPainterPath()
        outline.addRoundedRect(frame, _RADIUS, _RADIUS)
        painter.setClipPath(outline)
        painter.fillPath(outline, QColor(0, 0, 0))
        if self.picture is not None:
            painter.drawImage(self._fitted(frame), self.picture)
        self._draw_number(painter, frame)
        painter.setClipping(False)
        is_chosen = self.isChecked()
        if is_chosen or self.underMouse() or self.hasFocus():
            # Around the picture, with a gap: a dark ring on a dark picture is not seen.
            ring = _inset(QRectF(self.rect()), _BORDER / 2)
            painter.setPen(QPen(text_color(self) if is_chosen else muted_color(self), _BORDER))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRoundedRect(ring, _RADIUS + _GAP, _RADIUS + _GAP)

    def _fitted(self, frame: QRectF) -> QRectF:
        """The largest rectangle of the picture's aspect in the middle of the frame."""
        width = min(frame.width(), frame.height() * self._aspect)
        fitted = QRectF(0, 0, width, width / self._aspect)
        fitted.moveCenter(frame.center())
        return fitted

    def _draw_number(self, painter: QPainter, frame: QRectF) -> None:
        text = "mean" if self.sample == MEAN else str(self.sample)
        font = self.font()
        font.setPixelSize(11)
        font.setBold(self.isChecked())
        painter.setFont(font)
        place = frame.adjusted(5, 2, -5, -2)
        flags = Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft
        # A dark edge keeps the number readable over a bright picture.
        painter.setPen(QColor(0, 0, 0, 200))
        for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            painter.drawText(place.translated(dx, dy), int(flags), text)
        painter.setPen(QColor(255, 255, 255))
        painter.drawText(place, int(flags), text)


def _inset(rect: QRectF, margin: float) -> QRectF:
    return rect.adjusted(margin, margin, -margin, -margin)
