"""One class in the dock: its colour, name, volume, volume's distribution, and scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QEvent, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QPainter, QPaintEvent
from qtpy.QtWidgets import QHBoxLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget

from napari_structseg.controls import CLASS_SCALE_MAX, Controls
from napari_structseg.models import ClassSpec
from napari_structseg.widgets.parts.colors import (
    display_name,
    faint_color,
    muted_color,
    text_color,
)
from napari_structseg.widgets.parts.legend import draw_empty_swatch, draw_swatch
from napari_structseg.widgets.parts.scale_slider import ScaleSlider
from napari_structseg.widgets.plots.volume_plot import VolumePlot

_PERCENTILES = (5, 50, 95)
_OUTDATED = "Not up to date: it is being counted."
_FONT_EVENTS = (QEvent.Type.FontChange, QEvent.Type.StyleChange)


@dataclass(frozen=True)
class Measure:
    """How sizes are written.

    Attributes
    ----------
    unit
        Of volume, or of area for an image with two axes.
    per_ml
        What a volume in mL is multiplied with.
    name
        What it is a size of.
    """

    unit: str = "mL"
    per_ml: float = 1.0
    name: str = "Volume"

    def write(self, volume_ml: float) -> str:
        """A volume with its unit."""
        if volume_ml == 0:
            return f"0 {self.unit}"
        return f"{format_ml(self.per_ml * volume_ml)} {self.unit}"


class ClassRow(QWidget):
    """A class and its slider.

    Parameters
    ----------
    spec
        The class.
    is_transparent
        Whether the label layer does not show it.
    """

    changed = Signal(float)

    def __init__(
        self, spec: ClassSpec, *, is_transparent: bool = False, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        color = QColor(spec.color)
        self._measure = Measure()
        self.swatch = _Swatch(None if is_transparent else color)
        self.name = QLabel(display_name(spec))
        self.name.setIndent(0)
        self.volume = Figure()
        self.interval = Figure(is_secondary=True)
        self.plot = VolumePlot(color if not is_transparent else QColor(128, 128, 128))
        self.scale = ScaleSlider(
            -CLASS_SCALE_MAX,
            CLASS_SCALE_MAX,
            name=f"Scale of {spec.name}",
            tip=Controls.model_fields["class_scale"].description or "",
            color=None if is_transparent else color,
        )
        self.scale.changed.connect(self.changed.emit)
        top = QHBoxLayout()
        top.setContentsMargins(0, 0, 0, 0)
        top.setSpacing(6)
        top.addWidget(self.swatch)
        top.addWidget(self.name, 1)
        top.addWidget(self.volume)
        top.addWidget(self.interval)
        top.addWidget(self.plot)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addLayout(top)
        layout.addWidget(self.scale)
        self._fit_text()

    def changeEvent(self, event: QEvent | None) -> None:
        """Follow the theme's font."""
        super().changeEvent(event)
        if event is not None and event.type() in _FONT_EVENTS:
            self._fit_text()

    def set_measure(self, measure: Measure) -> None:
        """Write volumes so from now on."""
        self._measure = measure
        self._fit_text()

    def show_volume(self, volume_ml: float | None, *, is_current: bool = True) -> None:
        """Show the volume of the segmentation shown.

        Parameters
        ----------
        volume_ml
            None: it is not known.
        is_current
            Whether it is that of the labels that are wanted now; otherwise it is greyed.
        """
        text = "" if volume_ml is None else self._measure.write(volume_ml)
        tip = f"{self._measure.name} of the segmentation that is shown."
        self.volume.show_text(text, tip if text else "", is_current=is_current)
        self.plot.show_mark(volume_ml if is_current else None)

    def show_spread(
        self,
        volumes_ml: npt.NDArray[np.float64] | None,
        *,
        is_exact: bool = True,
        is_current: bool = True,
    ) -> None:
        """Show the volumes of samples.

        Parameters
        ----------
        volumes_ml
            ``(N,)``; None: there are none to show.
        is_exact
            Whether every voxel was counted.
        is_current
            Whether they are those of the controls now; otherwise the range is greyed.
        """
        if volumes_ml is None:
            self.interval.show_text("", "")
            self.plot.clear_samples()
            return
        low, middle, high = (float(one) for one in np.percentile(volumes_ml, _PERCENTILES))
        self.plot.show_volumes(volumes_ml)
        write, scale = self._measure.write, self._measure.per_ml
        how = "" if is_exact else " (estimated on a lattice of voxels)"
        tip = (
            f"{self._measure.name} over {len(volumes_ml)} samples{how}: 5 % {write(low)}, "
            f"median {write(middle)}, 95 % {write(high)}."
        )
        text = f"{format_ml(scale * low)}–{format_ml(scale * high)}"
        self.interval.show_text(text, tip, is_current=is_current)

    def clear(self) -> None:
        """Forget the volumes."""
        self.show_volume(None)
        self.show_spread(None)
        self.plot.clear_volumes()

    def _fit_text(self) -> None:
        """Columns that do not move when numbers change."""
        widest_volume = f"00,000 {self._measure.unit}"
        for label, widest in ((self.volume, widest_volume), (self.interval, "0,000–0,000")):
            label.ensurePolished()
            label.setFixedWidth(label.fontMetrics().horizontalAdvance(widest) + 6)


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
        self.is_current = True
        self.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)

    def show_text(self, text: str, tip: str, *, is_current: bool = True) -> None:
        """Show a number and what it is of."""
        self.is_current = is_current
        self.setText(text)
        self.setToolTip(tip if is_current else f"{_OUTDATED} {tip}")
        self.update()

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw the number; what is out of date is hardly more than a shadow."""
        painter = QPainter(self)
        if not self.is_current:
            painter.setPen(faint_color(self))
        else:
            painter.setPen((muted_color if self._is_secondary else text_color)(self))
        painter.drawText(self.contentsRect(), int(self.alignment()), self.text())


class _Swatch(QWidget):
    """The colour of a class; a frame for one that is not shown."""

    def __init__(self, color: QColor | None, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._color = color
        self.setFixedSize(QSize(12, 12))

    def paintEvent(self, event: QPaintEvent | None) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if self._color is None:
            draw_empty_swatch(painter, QRectF(self.rect()), self)
        else:
            draw_swatch(painter, QRectF(self.rect()), self._color, self)


def format_ml(volume_ml: float) -> str:
    """A volume with about three digits: 0.42, 3.14, 27.2, 655, 1,432."""
    if volume_ml >= 100:
        return f"{volume_ml:,.0f}"
    return f"{volume_ml:.1f}" if volume_ml >= 10 else f"{volume_ml:.2f}"
