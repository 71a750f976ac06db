"""How far samples stray from the mean: temperature, and the scale of each class."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QVBoxLayout, QWidget

from napari_structseg.controls import TEMPERATURE_MAX, Controls
from napari_structseg.models import ClassSpec
from napari_structseg.session.messages import Show
from napari_structseg.session.state import ExplorerState, Mean
from napari_structseg.widgets.binding import bind
from napari_structseg.widgets.parts.class_row import ClassRow, Measure
from napari_structseg.widgets.parts.scale_slider import ScaleSlider
from napari_structseg.widgets.parts.section import Note, SmallButton


class SpreadPanel(QWidget):
    """One slider for all classes together, and one row for each.

    The rows are in label order but for the background, which is last. The button that resets
    everything is :attr:`reset_button`, for the header above.

    Parameters
    ----------
    state
        Whose temperature and class scale it shows and sets.
    """

    # To the status line.
    said = Signal(str)

    def __init__(self, state: ExplorerState, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._state = state
        self.rows: tuple[ClassRow, ...] = ()
        tip = Controls.model_fields["temperature"].description or ""
        label = QLabel("Temperature")
        label.setIndent(0)
        label.setToolTip(tip)
        self.temperature_slider = ScaleSlider(0, TEMPERATURE_MAX, name="Temperature", tip=tip)
        self.temperature_slider.changed.connect(self._on_temperature)
        self.reset_button = SmallButton("Reset all", "Temperature and every class back to 1.")
        self.reset_button.clicked.connect(self.reset)
        self.note = Note("This model is deterministic: its segmentation has no spread to change.")
        self.note.setVisible(False)
        self.prior_note = Note(
            "Volumes are those with neighbours. Of these no range over samples is known."
        )
        self.prior_note.setVisible(False)
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
        bind(self, state.controls, "temperature", self.temperature_slider.show_value)
        bind(self, state.controls, "class_scale", self._show_scale)

    @property
    def is_default(self) -> bool:
        """Whether every slider is at its default."""
        return self._state.controls.temperature == 1 and set(self._scale) <= {1.0}

    @property
    def _scale(self) -> tuple[float, ...]:
        """How far each class strays, in label order."""
        scale = self._state.controls.class_scale
        return scale if len(scale) == len(self.rows) else (1.0,) * len(self.rows)

    def set_classes(self, classes: Sequence[ClassSpec], *, is_stochastic: bool) -> None:
        """Make a row for each class."""
        for row in self.rows:
            self._rows_layout.removeWidget(row)
            row.hide()
            row.deleteLater()
        self.rows = tuple(
            ClassRow(spec, is_transparent=label == 0) for label, spec in enumerate(classes)
        )
        for label, row in enumerate(self.rows):
            row.changed.connect(partial(self._on_scale, label))
        for row in (*self.rows[1:], self.rows[0]):
            row.scale.setEnabled(is_stochastic)
            self._rows_layout.addWidget(row)
        self.note.setVisible(not is_stochastic)
        self.temperature_slider.setEnabled(is_stochastic)
        self.reset_button.setEnabled(is_stochastic)
        self._show_scale()

    def show_volumes(self, volumes_ml: npt.NDArray[np.float64]) -> None:
        """Volumes of the segmentation shown, ``(C,)``."""
        for row, volume in zip(self.rows, volumes_ml, strict=True):
            row.show_volume(float(volume))

    def say_refined(self, is_refined: bool) -> None:
        """Say that the volumes shown are after an MRF, and that they have no range therefore."""
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
        with self._state.together():
            self._state.controls.temperature = 1.0
            self._state.controls.class_scale = (1.0,) * len(self.rows)

    def _show_scale(self, _scale: object = None) -> None:
        for row, scale in zip(self.rows, self._scale, strict=True):
            row.scale.show_value(scale)

    def _on_temperature(self, temperature: float) -> None:
        with self._state.together():
            self._state.controls.temperature = temperature
            self._leave_the_mean()

    def _on_scale(self, label: int, scale: float) -> None:
        before = self._scale
        with self._state.together():
            self._state.controls.class_scale = (*before[:label], scale, *before[label + 1 :])
            self._leave_the_mean()

    def _leave_the_mean(self) -> None:
        """Show a sample where the user wants to see a spread that the mean has not."""
        state = self._state
        is_mean = isinstance(state.controls.chosen, Mean)
        if is_mean and state.display.show is Show.LABELS and not self.is_default:
            state.controls.sample = 1
            self.said.emit("The mean has no spread: sample 1 is shown")
