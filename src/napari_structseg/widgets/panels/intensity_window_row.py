"""The intensity window that a model is shown."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
from napari.layers import Image as ImageLayer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_structseg.errors import InputError
from napari_structseg.models.spec import IntensitySpec
from napari_structseg.prediction.intensity_windows import Range, fitting_window, window
from napari_structseg.session.state import ExplorerState
from napari_structseg.widgets.binding import bind, quiet
from napari_structseg.widgets.parts.fields import DecimalField
from napari_structseg.widgets.parts.section import Note
from napari_structseg.widgets.threads.background import Background
from napari_structseg.widgets.viewer.value_ranges import known_range, read_range, remember_range

_LARGEST = 1e6
# Of a window that is one to ten units wide.
_DECIMALS = 2
# napari's boxes are so wide that the row would not fit beside the scroll bar of a dock.
_NARROW = "QDoubleSpinBox { min-width: 56px; }"


class WindowRow(QWidget):
    """The ends of the window, filled in for the image and open to change.

    Parameters
    ----------
    state
        Whose ``source.intensity_window`` it shows and sets.
    """

    values_read = Signal()

    def __init__(self, state: ExplorerState, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._source = state.source
        self._for: tuple[IntensitySpec | None, ImageLayer | None] = (None, None)
        self._reading: Background[Range] | None = None
        # As it is shown: rounded. None where none fits.
        self._fitting: Range | None = None
        self._suggested: Range | None = None
        self.low_box, self.high_box = DecimalField(is_open=True), DecimalField(is_open=True)
        for box, name in ((self.low_box, "Low"), (self.high_box, "High")):
            box.setStyleSheet(_NARROW)
            box.setButtonSymbols(QAbstractSpinBox.ButtonSymbols.NoButtons)
            box.setAccessibleName(f"{name} end of the window")
            box.setToolTip("The model sees what is below as 0 and what is above as 1.")
        self.unit_label = QLabel()
        self.show_button = QPushButton("Show")
        self.show_button.setToolTip(
            "Set the contrast limits of the image's layer to this window: you see what the model "
            "sees."
        )
        self.show_button.clicked.connect(self._show_window)
        self.note = Note()
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(6)
        row.addWidget(self.low_box, 1)
        row.addWidget(QLabel("to"))
        row.addWidget(self.high_box, 1)
        row.addWidget(self.unit_label)
        row.addWidget(self.show_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addLayout(row)
        layout.addWidget(self.note)
        self.note.hide()
        for box in (self.low_box, self.high_box):
            box.valueChanged.connect(self._on_end)
        bind(self, state.source, "intensity_window", self._show_chosen)

    @property
    def controls(self) -> tuple[QWidget, ...]:
        """What is in its row."""
        return self.low_box, self.high_box, self.show_button

    @property
    def is_reading(self) -> bool:
        """Whether the values of the image are being read."""
        return self._reading is not None

    def set_model(self, intensity: IntensitySpec | None, layer: ImageLayer | None) -> None:
        """Fill in the window that fits a layer; None: the model uses none.

        The values of a large image are read in the background, and the window is filled in then.
        """
        if (intensity, layer) == self._for:
            return
        self.stop_reading()
        self._for = (intensity, layer)
        self._fitting = self._suggested = None
        self.note.hide()
        if intensity is None:
            return
        if not intensity.depends_on_values or layer is None or layer.multiscale:
            self._suggest(intensity)
            return
        values = known_range(layer)
        if values is not None:
            self._suggest_for(values, intensity, layer)
            return
        data = layer.data
        self._reading = Background(
            partial(read_range, data), partial(self._take, intensity, layer, data)
        )
        self._enable()

    def stop_reading(self) -> None:
        """Wait no longer for the values of an image."""
        if self._reading is not None:
            self._reading.close()
            self._reading = None
            self._enable()

    def _take(
        self,
        intensity: IntensitySpec,
        layer: ImageLayer,
        data: Any,  # noqa: ANN401 -- whatever napari shows
        values: Range | Exception,
    ) -> None:
        """Fill in the window for values that were read."""
        self._reading = None
        self._enable()
        if isinstance(values, Exception):
            self._say(f"The values of {layer.name!r} cannot be read: {values}")
            self._suggest(intensity)
        else:
            remember_range(layer, data, values)
            self._suggest_for(values, intensity, layer)
        self.values_read.emit()

    def _enable(self) -> None:
        for control in self.controls:
            control.setEnabled(not self.is_reading)

    def _say(self, text: str) -> None:
        self.note.setText(text)
        self.note.show()

    def _suggest_for(self, values: Range, intensity: IntensitySpec, layer: ImageLayer) -> None:
        """Fill in that of a model's windows that suits an image with these values."""
        try:
            # Of lazy arrays the model's usual scale is shown: to read them again would take long.
            pixels = layer.data if isinstance(layer.data, np.ndarray) else None
            shown = fitting_window(intensity, values, layer.name, pixels)
        except InputError:
            shown = window(intensity.hounsfield or (intensity.low, intensity.high), "?")
            self._say(
                f"Values from {values[0]:g} to {values[1]:g} are neither 8-bit nor Hounsfield "
                "units: check the window."
            )
        self._suggest(shown)

    def _suggest(self, shown: IntensitySpec) -> None:
        """Fill in a window, unless one was chosen."""
        self.unit_label.setText(shown.unit)
        self._suggested = (shown.low, shown.high)
        self._fill_in(self._suggested)
        if self.note.isHidden():
            self._fitting = self._ends
        if self._source.intensity_window is not None:
            self._show_chosen(self._source.intensity_window)
        elif not self.note.isHidden():
            # Where none fits, the ends are passed on as if they were typed in.
            self._on_end()

    def _show_chosen(self, chosen: Range | None) -> None:
        if chosen is None:
            if self._suggested is not None:
                self._fill_in(self._suggested)
        elif chosen != self._ends and chosen[0] < chosen[1]:
            self._fill_in(chosen)

    def _on_end(self, _end: float = 0.0) -> None:
        ends = self._ends
        self._source.intensity_window = None if ends == self._fitting else ends

    @property
    def _ends(self) -> Range:
        return self.low_box.value(), self.high_box.value()

    def _fill_in(self, ends: Range) -> None:
        """Show the ends of a window, with as many decimals as a window of its width needs."""
        low, high = ends
        largest = max(_LARGEST, 10 * abs(low), 10 * abs(high))
        decimals = max(0, _DECIMALS - math.floor(math.log10(high - low)))
        for box, end in zip((self.low_box, self.high_box), ends, strict=True):
            with quiet(box):
                box.setDecimals(decimals)
                box.setRange(-largest, largest)
                box.setValue(end)

    def _show_window(self) -> None:
        layer = self._for[1]
        low, high = self._ends
        if layer is not None and low < high:
            layer.contrast_limits = (low, high)
