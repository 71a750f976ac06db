"""One hypothesis in the dock: its outline on the image, its name, frequency and size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QLineF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QImage, QKeyEvent, QPainter, QPainterPath, QPaintEvent, QPen
from qtpy.QtWidgets import QAbstractButton, QSizePolicy, QWidget

from napari_structseg.models import ClassSpec
from napari_structseg.render.contours import contour_segments
from napari_structseg.render.hypotheses import Mode
from napari_structseg.widgets.parts.colors import (
    display_name,
    edge_color,
    faint_color,
    line_color,
    muted_color,
    text_color,
)
from napari_structseg.widgets.parts.measure import Measure

# In pixels, in every font.
HEIGHT = 58
_PICTURE = QSize(66, 50)
_MARGIN = 4.0
_GAP = 10.0
_RADIUS = 4.0
_BAR_HEIGHT = 7.0
_STALE_OPACITY = 0.45
_OUTLINE = 1.25
_ARROWS = (Qt.Key.Key_Left, Qt.Key.Key_Right, Qt.Key.Key_Up, Qt.Key.Key_Down)
_PERCENTILES = (5, 50, 95)


class HypothesisRow(QAbstractButton):
    """A row that is a button: click it to see the mode's representative.

    Parameters
    ----------
    mode
        The mode.
    classes
        Of the model, in label order.
    measure
        How its size is written.
    """

    def __init__(
        self,
        mode: Mode,
        classes: Sequence[ClassSpec],
        measure: Measure,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.mode = mode
        self.is_stale = False
        self.doubt = ""
        self._measure = measure
        self._classes = tuple(classes)
        self._colors = [QColor(one.color) for one in classes]
        self._grey: QImage | None = None
        self._outlines: list[tuple[QColor, QPainterPath]] = []
        self._aspect = 1.0
        self.setCheckable(True)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setAccessibleName(f"{mode.name}, {self.percentage}")
        self.setToolTip(_tip(mode, classes, measure))
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    @property
    def percentage(self) -> str:
        """The frequency as it is written."""
        return f"{100 * self.mode.frequency:.0f} %"

    @property
    def size_text(self) -> str:
        """The median size of the foreground as it is written."""
        return self._measure.write(float(np.median(self.mode.volumes_ml.sum(axis=1))))

    @property
    def n_outline_segments(self) -> int:
        """How many lines are drawn over the picture."""
        return sum(path.elementCount() // 2 for _, path in self._outlines)

    def show_slice(
        self, labels: npt.NDArray[np.uint8], grey: npt.NDArray[np.uint8], aspect: float
    ) -> None:
        """Show the representative on a slice.

        Parameters
        ----------
        labels
            ``(h, w)``.
        grey
            The image, ``(h, w)``.
        aspect
            Width by height on screen.
        """
        height, width = grey.shape
        # The copy owns its pixels; the array may go.
        self._grey = QImage(
            np.ascontiguousarray(grey).tobytes(),
            width,
            height,
            width,
            QImage.Format.Format_Grayscale8,
        ).copy()
        self._aspect = aspect
        self._outlines = [
            (self._colors[label], _outline(labels == label))
            for label in range(1, len(self._colors))
        ]
        self.update()

    def set_measure(self, measure: Measure) -> None:
        """Write sizes so from now on."""
        self._measure = measure
        self._write_tip()
        self.update()

    def set_doubt(self, doubt: str) -> None:
        """Grey the sizes, and say why they may be wrong; empty: nothing speaks against them."""
        self.doubt = doubt
        self._write_tip()
        self.update()

    def set_stale(self, is_stale: bool) -> None:
        """Say whether the mode is of samples that are no longer those of the sliders."""
        if is_stale != self.is_stale:
            self.is_stale = is_stale
            self.update()

    def _write_tip(self) -> None:
        tip = _tip(self.mode, self._classes, self._measure)
        self.setToolTip(f"{self.doubt}\n{tip}" if self.doubt else tip)

    def sizeHint(self) -> QSize:
        """A picture and two lines of text beside it."""
        return QSize(240, HEIGHT)

    def minimumSizeHint(self) -> QSize:
        """Room for the picture and the numbers."""
        return QSize(180, HEIGHT)

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Leave arrows to the panel."""
        if event is not None and event.key() in _ARROWS:
            event.ignore()
        else:
            super().keyPressEvent(event)

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Picture, words, bar, and a frame where it is chosen, focused or pointed at."""
        painter = QPainter(self)
        painter.setRenderHints(
            QPainter.RenderHint.Antialiasing | QPainter.RenderHint.SmoothPixmapTransform
        )
        if self.isChecked() or self.hasFocus() or self.underMouse():
            color = text_color(self) if self.isChecked() else muted_color(self)
            painter.setPen(QPen(color, 1.5))
            painter.drawRoundedRect(
                QRectF(self.rect()).adjusted(1, 1, -1, -1), _RADIUS + 1, _RADIUS + 1
            )
        if self.is_stale:
            painter.setOpacity(_STALE_OPACITY)
        frame = QRectF(_MARGIN, _MARGIN, _PICTURE.width(), _PICTURE.height())
        self._draw_picture(painter, frame)
        left = frame.right() + _GAP
        words = QRectF(left, frame.top(), self.width() - _GAP - left, frame.height())
        self._draw_words(painter, words)

    def _draw_picture(self, painter: QPainter, frame: QRectF) -> None:
        outline = QPainterPath()
        outline.addRoundedRect(frame, _RADIUS, _RADIUS)
        painter.save()
        painter.setClipPath(outline)
        painter.fillPath(outline, QColor(0, 0, 0))
        if self._grey is not None:
            width = min(frame.width(), frame.height() * self._aspect)
            place = QRectF(0, 0, width, width / self._aspect)
            place.moveCenter(frame.center())
            painter.drawImage(place, self._grey)
            painter.translate(place.topLeft())
            painter.scale(place.width() / self._grey.width(), place.height() / self._grey.height())
            for color, path in self._outlines:
                pen = QPen(color, _OUTLINE)
                pen.setCosmetic(True)
                painter.setPen(pen)
                painter.drawPath(path)
        painter.restore()

    def _draw_words(self, painter: QPainter, place: QRectF) -> None:
        left = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop
        right = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignTop
        first, second = place.adjusted(0, 4, 0, 0), place.adjusted(0, place.height() / 2 + 2, 0, 0)
        painter.setPen((faint_color if self.doubt else muted_color)(self))
        painter.drawText(first, int(right), self.size_text)
        font = self.font()
        font.setBold(True)
        painter.setFont(font)
        painter.setPen(text_color(self))
        painter.drawText(first, int(left), self.mode.name)
        painter.drawText(second, int(right), self.percentage)
        room = painter.fontMetrics().horizontalAdvance("100 %") + _GAP
        middle = second.top() + painter.fontMetrics().height() / 2
        bar = QRectF(second.left(), middle - _BAR_HEIGHT / 2, second.width() - room, _BAR_HEIGHT)
        self._draw_bar(painter, bar)

    def _draw_bar(self, painter: QPainter, bar: QRectF) -> None:
        """The frequency, and a line over its confidence interval."""
        radius = bar.height() / 2
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(line_color(self))
        painter.drawRoundedRect(bar, radius, radius)
        filled = QRectF(bar)
        filled.setWidth(max(self.mode.frequency * bar.width(), bar.height()))
        # One class alone is drawn in its colour; several have none in common.
        is_one = len(self._colors) == 2
        painter.setBrush(edge_color(self._colors[1], self) if is_one else muted_color(self))
        painter.drawRoundedRect(filled, radius, radius)
        low, high = self.mode.frequency_interval()
        painter.setPen(QPen(text_color(self), 1.5))
        middle = bar.center().y()
        painter.drawLine(
            QLineF(bar.left() + low * bar.width(), middle, bar.left() + high * bar.width(), middle)
        )


def _outline(mask: npt.NDArray[np.bool_]) -> QPainterPath:
    """The outline of a mask, in pixels from the corner of the first one."""
    path = QPainterPath()
    centres = contour_segments(mask.astype(np.float32), 0.5)
    for (y1, x1), (y2, x2) in (centres + 0.5).tolist():
        path.moveTo(x1, y1)
        path.lineTo(x2, y2)
    return path


def _tip(mode: Mode, classes: Sequence[ClassSpec], measure: Measure) -> str:
    """What a row says, in full."""
    low, high = mode.frequency_interval()
    lines = [
        f"{mode.name}: {len(mode.samples)} of {mode.of} samples, a frequency of "
        f"{100 * mode.frequency:.0f} % (95 % interval {100 * low:.0f} to {100 * high:.0f} %); "
        f"click for sample {mode.representative}, the most typical of them."
    ]
    for spec, volumes in zip(classes[1:], mode.volumes_ml.T, strict=True):
        least, middle, most = (float(one) for one in np.percentile(volumes, _PERCENTILES))
        lines.append(
            f"{display_name(spec)}: {measure.write(middle)} "
            f"({measure.write(least)} to {measure.write(most)})"
        )
    return "\n".join(lines)
