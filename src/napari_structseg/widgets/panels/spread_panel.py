"""How far samples stray from the mean: temperature, and the scale of each class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QVBoxLayout, QWidget

from napari_structseg.controls import TEMPERATURE_MAX, Controls
from napari_structseg.models import ClassSpec
from napari_structseg.widgets.parts.class_row import ClassRow, Measure
from napari_structseg.widgets.parts.scale_slider import ScaleSlider
from napari_structseg.widgets.parts.section import Note, SmallButton


class SpreadPanel(QWidget):
    """One slider for all classes together, and one row for each.

    The rows are in label order but for the background, which is last. The button that resets
    everything is :attr:`reset_button`, for the header above.
    """

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.rows: tuple[ClassRow, ...] = ()
        tip = Controls.model_fields["temperature"].description or ""
        label = QLabel("Temperature")
        label.setIndent(0)
        label.setToolTip(tip)
        self.temperature_slider = ScaleSlider(0, TEMPERATURE_MAX, name="Temperature", tip=tip)
        self.temperature_slider.changed.connect(self._on_change)
        self.reset_button = SmallButton("Reset all", "Temperature and every class back to 1.")
        self.reset_button.clicked.connect(self.reset)
        self.note = Note("This model is deterministic: its segmentation has no spread to change.")
        self.note.setVisible(False)
        self.prior_note = Note("Ranges and curves are those of the model without its neighbours.")
        self.prior_note.setVisible(False)
        self._is_resetting = False
        first = QHBoxLayout()
        first.setContentsMargins(0, 0, 0, 0)
        first.setSpacing(8)
        first.addWidget(label)
        first.addWidget(self.temperature_slider, 1)
        self._rows_layout = QVBoxLayout()
        self._rows_layout.setContentsMargins(0, 0, 0, 0)
        self._rows_layout.setSpacing(4)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addWidget(self.note)
        layout.addLayout(first)
        layout.addLayout(self._rows_layout)
        layout.addWidget(self.prior_note)

    @property
    def temperature(self) -> float:
        """How far all classes stray."""
        return self.temperature_slider.value

    @property
    def class_scale(self) -> tuple[float, ...]:
        """How far each class strays, in label order."""
        return tuple(row.scale.value for row in self.rows)

    @property
    def is_default(self) -> bool:
        """Whether every slider is at its default."""
        return self.temperature == 1 and all(scale == 1 for scale in self.class_scale)

    def set_classes(self, classes: Sequence[ClassSpec], *, is_stochastic: bool) -> None:
        """Make a row for each class, all at their defaults."""
        for row in self.rows:
            self._rows_layout.removeWidget(row)
            row.hide()
            row.deleteLater()
        self.rows = tuple(
            ClassRow(spec, is_transparent=label == 0) for label, spec in enumerate(classes)
        )
        for row in (*self.rows[1:], self.rows[0]):
            row.changed.connect(self._on_change)
            row.scale.setEnabled(is_stochastic)
            self._rows_layout.addWidget(row)
        self.note.setVisible(not is_stochastic)
        self.temperature_slider.setEnabled(is_stochastic)
        self.reset_button.setEnabled(is_stochastic)
        blocked = self.temperature_slider.blockSignals(True)
        self.temperature_slider.reset()
        self.temperature_slider.blockSignals(blocked)

    def show_volumes(self, volumes_ml: npt.NDArray[np.float64]) -> None:
        """Volumes of the segmentation shown, ``(C,)``."""
        for row, volume in zip(self.rows, volumes_ml, strict=True):
            row.show_volume(float(volume))

    def say_refined(self, is_refined: bool) -> None:
        """Say that the volumes shown are after a prior and their spread is not."""
        if self.prior_note.isHidden() == is_refined:
            self.prior_note.setVisible(is_refined)

    def show_spread(self, volumes_ml: npt.NDArray[np.float64], *, is_exact: bool) -> None:
        """Volumes of samples, ``(N, C)``."""
        for row, volumes in zip(self.rows, volumes_ml.T, strict=True):
            row.show_spread(volumes, is_exact=is_exact)

    def set_measure(self, measure: Measure) -> None:
        """Write volumes, or areas, so from now on."""
        for row in self.rows:
            row.set_measure(measure)

    def forget_volumes(self) -> None:
        """Show none until new ones come."""
        for row in self.rows:
            row.clear()

    def step_temperature(self, distance: float) -> None:
        """Change the temperature by so much."""
        if self.temperature_slider.isEnabled():
            self.temperature_slider.step(distance)

    def reset(self) -> None:
        """Every slider back to its default, as one change."""
        if self.is_default:
            return
        self._is_resetting = True
        self.temperature_slider.reset()
        for row in self.rows:
            row.scale.reset()
        self._is_resetting = False
        self.changed.emit()

    def _on_change(self) -> None:
        if not self._is_resetting:
            self.changed.emit()
