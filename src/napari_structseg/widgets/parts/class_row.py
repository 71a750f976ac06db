"""One class in the dock: how it is drawn, its name, volume, volume's distribution, and scale."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QEvent, Signal
from qtpy.QtGui import QColor, QResizeEvent
from qtpy.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from napari_structseg.controls import CLASS_SCALE_MAX
from napari_structseg.models import ClassSpec
from napari_structseg.widgets.parts.class_columns import GAP, Columns
from napari_structseg.widgets.parts.class_look import EyeButton, OpacityButton
from napari_structseg.widgets.parts.colors import display_name
from napari_structseg.widgets.parts.figure import Figure
from napari_structseg.widgets.parts.measure import Measure
from napari_structseg.widgets.parts.scale_slider import ScaleSlider
from napari_structseg.widgets.parts.section import ShortName, SteadyCaption
from napari_structseg.widgets.plots.volume_plot import VolumePlot

_PERCENTILES = (5, 50, 95)
_SCALE_TIP = (
    "Spread of {name}: 0 is none, 1 is the model's own, more exaggerates how samples differ, less "
    "than 0 turns a sample into its opposite."
)
# At the right end of the scale: what more spread does to the volume.
_MORE = {"": "more", "larger": "more ▲", "smaller": "more ▼"}
# A sample whose volume is nearer to the median than this share of the range is not called larger.
_MUCH = 0.1
_FONT_EVENTS = (QEvent.Type.FontChange, QEvent.Type.StyleChange)


class ClassRow(QWidget):
    """A class and its slider.

    Parameters
    ----------
    spec
        The class.
    is_transparent
        Whether it is never drawn, as the background: then its volume is of no interest either.
    columns
        Shared with the rows that it is aligned with.
    """

    changed = Signal(float)
    shown_changed = Signal(bool)
    opacity_changed = Signal(float)

    def __init__(
        self,
        spec: ClassSpec,
        *,
        is_transparent: bool = False,
        columns: Columns | None = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        color = QColor(spec.color)
        name = display_name(spec)
        self._is_transparent = is_transparent
        self._measure = Measure()
        self._columns = Columns() if columns is None else columns
        self._volume_ml: float | None = None
        self._is_sample = False
        self._percentiles: tuple[float, float, float] | None = None
        self._how = ""
        self._is_volume_current = self._is_range_current = True
        self._doubt = ""
        self.eye = EyeButton(name)
        self.eye.toggled.connect(self._on_eye)
        self.swatch = OpacityButton(name, None if is_transparent else color)
        self.swatch.changed.connect(self.opacity_changed.emit)
        self.name = ShortName(name)
        self.volume = Figure()
        self.interval = Figure(is_secondary=True)
        self.plot = VolumePlot(color if not is_transparent else QColor(128, 128, 128))
        self._columns.add(self.name, self.volume, self.interval, self.plot)
        self.scale = ScaleSlider(
            -CLASS_SCALE_MAX,
            CLASS_SCALE_MAX,
            name=f"Scale of {spec.name}",
            tip=_SCALE_TIP.format(name=name),
            color=None if is_transparent else color,
        )
        self.scale.changed.connect(self.changed.emit)
        policy = self.eye.sizePolicy()
        policy.setRetainSizeWhenHidden(True)
        self.eye.setSizePolicy(policy)
        for widget in (self.eye, self.volume, self.interval, self.plot):
            widget.setVisible(not is_transparent)
        self.less = SteadyCaption("less", "less")
        self.more = SteadyCaption(_MORE[""], _MORE["larger"])
        self.scale.add_ends(self.less, self.more)
        top = QHBoxLayout()
        top.setContentsMargins(0, 0, 0, 0)
        top.setSpacing(GAP)
        for part in (self.eye, self.swatch):
            top.addWidget(part)
        # Without numbers, the scale stands beside the name.
        top.addWidget(self.name, 0 if is_transparent else 1)
        for number in (self.volume, self.interval, self.plot):
            top.addWidget(number)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addLayout(top)
        if is_transparent:
            top.addWidget(self.scale, 1)
        else:
            layout.addWidget(self.scale)
        self._fit_text()

    def changeEvent(self, event: QEvent | None) -> None:
        """Follow the theme's font."""
        super().changeEvent(event)
        if event is not None and event.type() in _FONT_EVENTS:
            self._fit_text()

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Give the plot what is left over."""
        super().resizeEvent(event)
        self._columns.share(self.width())

    def set_measure(self, measure: Measure) -> None:
        """Write volumes so from now on."""
        self._measure = measure
        self._fit_text()
        self._write()

    def show_look(self, opacity: float, *, is_shown: bool) -> None:
        """Show how the class is drawn, and say nothing of it."""
        blocked = self.eye.blockSignals(True)
        self.eye.setChecked(is_shown)
        self.eye.blockSignals(blocked)
        self.eye.update()
        self.swatch.show_look(opacity, is_shown=is_shown)

    def show_volume(
        self, volume_ml: float | None, *, is_current: bool = True, is_sample: bool = False
    ) -> None:
        """Show the volume of the segmentation shown.

        Parameters
        ----------
        volume_ml
            In mL; None: it is not known.
        is_current
            Whether it is that of the labels that are wanted now; otherwise it is greyed.
        is_sample
            Whether it is a sample, which more or less spread changes.
        """
        if self._is_transparent:
            return
        self._volume_ml = volume_ml
        self._is_sample = is_sample and is_current
        self._is_volume_current = is_current
        self.plot.show_mark(volume_ml if is_current else None)
        self._write()
        self._say_direction()

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
        if self._is_transparent:
            return
        self._percentiles = None
        self._is_range_current = is_current
        if volumes_ml is None:
            self.plot.clear_samples()
        else:
            low, middle, high = (float(one) for one in np.percentile(volumes_ml, _PERCENTILES))
            self._percentiles = (low, middle, high)
            how = "" if is_exact else " (estimated on a lattice of voxels)"
            self._how = f"over {len(volumes_ml)} samples{how}"
            self.plot.show_volumes(volumes_ml)
        self._write()
        self._say_direction()

    def set_doubt(self, doubt: str) -> None:
        """Grey the volumes, and say why they may be wrong; empty: nothing speaks against them."""
        self._doubt = doubt
        self._write()

    def clear(self) -> None:
        """Forget the volumes."""
        self.show_volume(None)
        self.show_spread(None)
        self.plot.clear_volumes()

    @property
    def direction(self) -> str:
        """What more spread does to the volume of the sample shown: larger, smaller, or nothing."""
        if not self._is_sample or self._volume_ml is None or self._percentiles is None:
            return ""
        low, middle, high = self._percentiles
        away = self._volume_ml - middle
        if self.scale.value < 0:
            # Past its opposite: less than 0 has turned the sample over.
            away = -away
        if abs(away) <= _MUCH * (high - low):
            return ""
        return "larger" if away > 0 else "smaller"

    def _write(self) -> None:
        """Write the numbers in the unit of now."""
        measure, volume_ml = self._measure, self._volume_ml
        text = "" if volume_ml is None else measure.write(volume_ml)
        tip = f"{measure.name} of the segmentation that is shown." if text else ""
        doubt = self._doubt if text else ""
        self.volume.show_text(text, tip, is_current=self._is_volume_current, doubt=doubt)
        if self._percentiles is None:
            self.interval.show_text("", "")
        else:
            low, middle, high = self._percentiles
            tip = (
                f"{measure.name} {self._how}: 5 % {measure.write(low)}, "
                f"median {measure.write(middle)}, 95 % {measure.write(high)}."
            )
            text = f"{measure.number(low)}–{measure.number(high)}"
            is_current = self._is_range_current
            self.interval.show_text(text, tip, is_current=is_current, doubt=self._doubt)
        self._columns.fit(self.volume.text(), self.interval.text())
        self._columns.share(self.width())

    def _say_direction(self) -> None:
        tip = _SCALE_TIP.format(name=self.name.text())
        direction = self.direction
        if direction:
            other = "smaller" if direction == "larger" else "larger"
            tip += f" For what is shown now: to the right it gets {direction}, to the left {other}."
        if self.scale.slider.toolTip() != tip:
            for widget in (self.scale.slider, self.scale.box):
                widget.setToolTip(tip)
        self.more.setText(_MORE[direction])

    def _on_eye(self, is_shown: bool) -> None:
        self.swatch.show_look(self.swatch.opacity, is_shown=is_shown)
        self.shown_changed.emit(is_shown)

    def _fit_text(self) -> None:
        for label in (self.volume, self.interval):
            label.ensurePolished()
        if self._is_transparent:
            # Its scale gives way: there are no numbers.
            self.name.ensurePolished()
            self.name.setMinimumWidth(self.name.whole_width())
        self._columns.begin(f"00,000 {self._measure.unit}", "0,000–0,000")
        self._columns.fit(self.volume.text(), self.interval.text())
