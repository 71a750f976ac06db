"""The CRF: its weights, how far the cut of the volume is, and the energy of what is shown."""

from __future__ import annotations

from functools import partial

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QVBoxLayout, QWidget

from napari_structseg.priors.contrast import SCALE_MAX, SCALE_MIN, WEIGHT_MAX, CRFSpec
from napari_structseg.refine.solver import EnergyTerms
from napari_structseg.session.messages import CutProgress
from napari_structseg.session.state import ExplorerState
from napari_structseg.widgets.binding import bind, quiet
from napari_structseg.widgets.parts.choice import Choice
from napari_structseg.widgets.parts.named_rows import named_rows
from napari_structseg.widgets.parts.scale_slider import ScaleSlider
from napari_structseg.widgets.parts.section import Caption

# What is dragged over; the whole range can be typed.
_USEFUL_WEIGHT, _USEFUL_SCALE = 5.0, 10.0
_NEIGHBOURS = {
    "faces": ("Faces", "Voxels that share a face: 4 in a slice, 6 in a volume."),
    "all": ("All", "Those that share an edge or a corner, too: 8 and 26."),
}
_SLIDERS = (
    ("unary", "Model", 0.0, WEIGHT_MAX, _USEFUL_WEIGHT),
    ("smooth", "Smooth", 0.0, WEIGHT_MAX, _USEFUL_WEIGHT),
    ("contrast", "Contrast", 0.0, WEIGHT_MAX, _USEFUL_WEIGHT),
    ("scale", "Scale", SCALE_MIN, SCALE_MAX, _USEFUL_SCALE),
)
_OWN = "the slice alone"


class CRFPanel(QWidget):
    """Sliders of the weights, the neighbours, the volume's progress, and the energy by terms.

    Parameters
    ----------
    state
        Whose CRF it shows and sets.
    """

    def __init__(self, state: ExplorerState, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._state = state
        fields = CRFSpec.model_fields
        self.sliders: dict[str, ScaleSlider] = {}
        rows: list[tuple[str, str, QWidget]] = []
        for field, name, low, high, useful in _SLIDERS:
            tip = fields[field].description or ""
            slider = ScaleSlider(
                low,
                high,
                default=fields[field].default,
                name=f"{name} of the CRF",
                tip=tip,
                dragged=(low, useful),
            )
            slider.changed.connect(partial(self._set, field))
            self.sliders[field] = slider
            rows.append((name, tip, slider))
        self.neighbours_choice = Choice(_NEIGHBOURS)
        tip = fields["neighbours"].description or ""
        rows.append(("Neighbours", tip, self.neighbours_choice))
        self.volume_box = QCheckBox("Whole volume")
        self.volume_box.setToolTip(
            "Cut the whole volume in the background; without it, and until it is there, each slice "
            "that is shown is cut by itself. To untick it ends a cut that is under way."
        )
        self.progress = Caption()
        self.progress.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self.energy = Caption()
        last = QHBoxLayout()
        last.setContentsMargins(0, 0, 0, 0)
        last.setSpacing(8)
        last.addWidget(self.volume_box)
        last.addWidget(self.progress, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addWidget(named_rows(*rows))
        layout.addLayout(last)
        layout.addWidget(self.energy)
        bind(self, state.controls, "crf", self._show)
        bind(self, state.display, "cut_volume", self._show_volume)
        self.neighbours_choice.chosen.connect(self._on_neighbours)
        self.volume_box.toggled.connect(self._on_volume)
        self.show_progress(None)

    def set_default(self, spec: CRFSpec) -> None:
        """Take what the buttons of the sliders bring back: the weights learned with a model."""
        for field, slider in self.sliders.items():
            slider.set_default(getattr(spec, field))
        self._show(self._state.controls.crf)

    def show_progress(self, result: CutProgress | None) -> None:
        """Show how far the cut of the volume is, and the energy; None: neither is known."""
        if result is None:
            self.progress.setText("")
            self.energy.setText("")
            self.energy.setToolTip("")
            return
        percent = f"volume {100 * result.share:.0f} %, " if self._state.display.cut_volume else ""
        self.progress.setText("" if result.is_whole else f"{percent}{_OWN}")
        self.progress.setToolTip(
            "Shown is the cut of the slice by itself, which does not know the slices beside it."
            if not result.is_whole
            else ""
        )
        if result.energy is not None:
            self._show_energy(result.energy, of_slice=not result.is_whole)

    def _show_energy(self, energy: EnergyTerms, *, of_slice: bool) -> None:
        self.energy.setText(
            f"Energy {_short(energy.total)} = model {_short(energy.unary)} + smooth "
            f"{_short(energy.smooth)} + contrast {_short(energy.contrast)}"
        )
        what = "slice" if of_slice else "volume"
        self.energy.setToolTip(
            f"The energy of the labels of the {what}, {energy.n_voxels:,} voxels: what they cost "
            "by the model, and what their borders cost. No other labels of two classes cost less."
        )

    def _show(self, spec: CRFSpec) -> None:
        for field, slider in self.sliders.items():
            slider.show_value(getattr(spec, field))
        with quiet(self.neighbours_choice):
            self.neighbours_choice.choose(spec.neighbours)

    def _show_volume(self, is_wanted: bool) -> None:
        with quiet(self.volume_box):
            self.volume_box.setChecked(is_wanted)

    def _set(self, field: str, value: object) -> None:
        controls = self._state.controls
        controls.crf = CRFSpec(**{**controls.crf.model_dump(), field: value})

    def _on_neighbours(self, neighbours: str) -> None:
        self._set("neighbours", neighbours)

    def _on_volume(self, is_wanted: bool) -> None:
        self._state.display.cut_volume = is_wanted


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
