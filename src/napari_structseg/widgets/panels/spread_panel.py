"""How far samples stray from the mean: temperature, and the scale of each class."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QVBoxLayout, QWidget

from napari_structseg.controls import TEMPERATURE_MAX, Controls
from napari_structseg.distributions import Spread
from napari_structseg.models import CalibrationSpec, ClassSpec
from napari_structseg.session.messages import ClassVolumes, Request, Show, VolumeSpread
from napari_structseg.session.resolve import KEYS, Part, of_refined_samples
from napari_structseg.session.state import ExplorerState, Mean
from napari_structseg.widgets.binding import bind
from napari_structseg.widgets.panels.class_looks import ClassLooks
from napari_structseg.widgets.parts.class_columns import Columns
from napari_structseg.widgets.parts.class_row import ClassRow
from napari_structseg.widgets.parts.measure import Measure
from napari_structseg.widgets.parts.scale_slider import ScaleSlider
from napari_structseg.widgets.parts.section import Caption, Note, SmallButton

_NO_SPREAD = "This model is deterministic: its segmentation has no spread to change."
_UPDATING = "updating…"
_DOUBTFUL = "outside the model's domain"
_NO_RANGE = "with neighbours: no range"
_NO_RANGE_TIP = (
    "Volumes are those with neighbours. Their range over samples is counted while the dock Measure "
    "is open."
)


class SpreadPanel(QWidget):
    """One slider for all classes together, and one row for each.

    The rows are in label order but for the background, which is last. The button that resets
    everything is :attr:`reset_button`, and what is said of the ranges :attr:`caption`, both for
    the header above.

    Volumes are kept with the request that they answer: what is of other labels than those wanted
    now is greyed.

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
        self._looks = ClassLooks((), state.display)
        tip = Controls.model_fields["temperature"].description or ""
        label = QLabel("Temperature")
        label.setIndent(0)
        label.setToolTip(tip)
        self.temperature_slider = ScaleSlider(0, TEMPERATURE_MAX, name="Temperature", tip=tip)
        self.temperature_slider.changed.connect(self._on_temperature)
        self.reset_button = SmallButton("Reset all", "Temperature and every class back to 1.")
        self.reset_button.clicked.connect(self.reset)
        self.note = Note(_NO_SPREAD)
        self.note.setVisible(False)
        # Elided where there is no room: a longer text must not make the dock wider.
        self.caption = Caption()
        self._request: Request | None = None
        self._volumes: ClassVolumes | None = None
        # Over samples of the model alone, and over those that the MRF refined.
        self._alone: VolumeSpread | None = None
        self._refined: VolumeSpread | None = None
        self._is_stochastic = True
        self._calibrated: Spread | None = None
        self._doubt = ""
        first = QHBoxLayout()
        first.setContentsMargins(0, 0, 0, 0)
        first.setSpacing(8)
        first.addWidget(label)
        first.addWidget(self.temperature_slider, 1)
        self._rows_layout = QVBoxLayout()
        self._rows_layout.setContentsMargins(0, 0, 0, 0)
        self._rows_layout.setSpacing(2)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addWidget(self.note)
        layout.addLayout(first)
        layout.addLayout(self._rows_layout)
        bind(self, state.controls, "temperature", self.temperature_slider.show_value)
        bind(self, state.controls, "class_scale", self._show_scale)
        bind(self, state.display, "hidden_classes", self._show_looks)
        bind(self, state.display, "class_opacity", self._show_looks)

    @property
    def is_default(self) -> bool:
        """Whether every slider is at its default."""
        start = self._start
        return (self._state.controls.temperature, self._scale) == (
            start.temperature,
            start.class_scale,
        )

    @property
    def _start(self) -> Spread:
        """Where the sliders start, and what they are reset to."""
        return self._calibrated or Spread.neutral(len(self.rows))

    @property
    def _scale(self) -> tuple[float, ...]:
        """How far each class strays, in label order."""
        scale = self._state.controls.class_scale
        return scale if len(scale) == len(self.rows) else self._start.class_scale

    def set_classes(
        self,
        classes: Sequence[ClassSpec],
        *,
        is_stochastic: bool,
        calibration: CalibrationSpec | None = None,
    ) -> None:
        """Make a row for each class; the sliders start where the model is calibrated."""
        for row in self.rows:
            self._rows_layout.removeWidget(row)
            row.hide()
            row.deleteLater()
        columns = Columns()
        self.rows = tuple(
            ClassRow(spec, is_transparent=label == 0, columns=columns)
            for label, spec in enumerate(classes)
        )
        for label, row in enumerate(self.rows):
            row.changed.connect(partial(self._on_scale, label))
        for row in (*self.rows[1:], self.rows[0]):
            row.scale.setEnabled(is_stochastic)
            self._rows_layout.addWidget(row)
        self._is_stochastic = is_stochastic
        self.note.setText(_NO_SPREAD if calibration is None else _calibrated_on(calibration))
        self.note.setVisible(not is_stochastic or calibration is not None)
        self.temperature_slider.setEnabled(is_stochastic)
        self.reset_button.setEnabled(is_stochastic)
        self._looks = ClassLooks(self.rows, self._state.display)
        self._calibrated = None if calibration is None else calibration.calibrated
        why = "" if calibration is None else ", where the model is calibrated"
        self.temperature_slider.set_default(self._start.temperature, why)
        for row, scale in zip(self.rows, self._start.class_scale, strict=True):
            row.scale.set_default(scale, why)
        back_to = "1" if calibration is None else "where the model is calibrated"
        self.reset_button.setToolTip(f"Temperature and every class back to {back_to}.")
        self.temperature_slider.show_value(self._state.controls.temperature)
        self._show_scale()

    def show_request(self, request: Request) -> None:
        """What is wanted from now on; volumes of anything else are out of date."""
        before = self._currency()
        self._request = request
        # While a slider moves, nothing more than that goes out of date.
        if self._currency() != before:
            self._write()

    def show_volumes(self, volumes: ClassVolumes) -> None:
        """Volumes of a segmentation."""
        self._volumes = volumes
        self._write()

    def show_spread(self, spread: VolumeSpread) -> None:
        """Volumes of samples."""
        if spread.refined:
            self._refined = spread
        else:
            self._alone = spread
        self._write()

    def set_measure(self, measure: Measure) -> None:
        """Write volumes, or areas, so from now on."""
        for row in self.rows:
            row.set_measure(measure)

    def set_doubt(self, doubt: str) -> None:
        """Grey the volumes, and say why they may be wrong; empty: nothing speaks against them."""
        self._doubt = doubt
        for row in self.rows:
            row.set_doubt(doubt)
        self._write()

    def forget_volumes(self) -> None:
        """Show none until new ones come."""
        self._request = self._volumes = self._alone = self._refined = None
        for row in self.rows:
            row.clear()
        self._write()

    def step_temperature(self, distance: float) -> None:
        """Change the temperature by so much."""
        if self.temperature_slider.isEnabled():
            self.temperature_slider.step(distance)

    def reset(self) -> None:
        """Every slider back to its default, as one change."""
        with self._state.together():
            self._state.controls.temperature = self._start.temperature
            self._state.controls.class_scale = self._start.class_scale

    def _write(self) -> None:
        """Volumes, their ranges, and which of them are out of date."""
        has_volumes, has_range, is_refined = self._currency()
        spread = self._alone
        if is_refined:
            # A range of the model alone is none of what is shown.
            spread = self._refined if has_range else None
        is_sample = not isinstance(self._state.controls.chosen, Mean)
        for label, row in enumerate(self.rows):
            if self._volumes is not None:
                volume = float(self._volumes.volumes_ml[label])
                row.show_volume(volume, is_current=has_volumes, is_sample=is_sample)
            row.show_spread(
                None if spread is None else spread.volumes_ml[:, label],
                is_exact=spread is None or spread.exact,
                is_current=has_range,
            )
        says = []
        if is_refined and spread is None and self._is_stochastic:
            says.append(_NO_RANGE)
        elif spread is not None:
            says.append(f"5–95 % of {spread.request.n_samples} samples")
        if self._doubt and self._volumes:
            says.insert(0, _DOUBTFUL)
        if (self._volumes and not has_volumes) or (spread and not has_range):
            says.append(_UPDATING)
        self.caption.setText(" · ".join(says))
        tips = (self._doubt, _NO_RANGE_TIP if _NO_RANGE in says else "")
        self.caption.setToolTip(" ".join(one for one in tips if one))

    def _currency(self) -> tuple[bool, bool, bool]:
        """Whether volumes and ranges are up to date; whether an MRF refines what is wanted."""
        request, refined = self._request, self._refined
        is_refined = request is not None and KEYS[Part.SPREAD](request) is None
        if request is None or not is_refined:
            has_range = self._is_current(Part.SPREAD, self._alone)
        else:
            known = refined and of_refined_samples(refined.request)
            has_range = known == of_refined_samples(request)
        return self._is_current(Part.CLASS_VOLUMES, self._volumes), has_range, is_refined

    def _is_current(self, part: Part, shown: ClassVolumes | VolumeSpread | None) -> bool:
        # Values that stay the same are not sent again: what they depend on tells.
        if shown is None or self._request is None:
            return shown is not None
        return KEYS[part](shown.request) == KEYS[part](self._request)

    def _show_looks(self, _changed: object = None) -> None:
        self._looks.show()

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


def _calibrated_on(calibration: CalibrationSpec) -> str:
    """Where the sliders start, and why."""
    cases = "1 labelled case" if calibration.cases == 1 else f"{calibration.cases} labelled cases"
    return f"The sliders start at their marks, where the model is calibrated on {cases}."
