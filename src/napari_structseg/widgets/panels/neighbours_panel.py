"""What neighbours say: nothing, the MRF by mean field, or the CRF by graph cut.

Over 300 lines: what shows and what sets each control of mean field stands side by side.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QHBoxLayout,
    QVBoxLayout,
    QWidget,
)

from napari_structseg.controls import (
    ITERATIONS_MAX,
    MRF_STRENGTH_MAX,
    USEFUL_STRENGTH,
    Coupling,
    coupling_of,
)
from napari_structseg.models import ClassSpec
from napari_structseg.priors import Update
from napari_structseg.priors.contrast import CRFSpec
from napari_structseg.refine.changes import Changes
from napari_structseg.refine.convergence import Convergence
from napari_structseg.session.state import ExplorerState
from napari_structseg.widgets.binding import bind, quiet
from napari_structseg.widgets.panels.crf_panel import CRFPanel
from napari_structseg.widgets.panels.mean_field_details import MeanFieldDetails
from napari_structseg.widgets.panels.neighbours_words import CHANGES, COUPLINGS, control_tips
from napari_structseg.widgets.panels.prior_chooser import PriorChooser
from napari_structseg.widgets.parts.choice import Choice
from napari_structseg.widgets.parts.iteration_slider import IterationSlider
from napari_structseg.widgets.parts.named_rows import named_rows
from napari_structseg.widgets.parts.scale_slider import ScaleSlider
from napari_structseg.widgets.parts.section import Caption, Note, SmallButton
from napari_structseg.widgets.plots.compatibility_picture import CompatibilityPicture

_DEFAULT_RULE: Update = "parallel"


class NeighboursPanel(QWidget):
    """Whose MRF, controls of mean field, how it converges and, where wanted, the weights.

    The button that resets everything is :attr:`reset_button`, for the header above.

    Parameters
    ----------
    state
        Whose controls of mean field it shows and sets.
    """

    def __init__(self, state: ExplorerState, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._state = state
        self._classes: tuple[ClassSpec, ...] = ()
        tips = control_tips()
        self.coupling_choice = Choice(COUPLINGS)
        self.crf = CRFPanel(state)
        self._crf_default, self._coupling_default = CRFSpec(), coupling_of(None)
        self.prior_chooser = PriorChooser(state)
        self.iteration_slider = IterationSlider(
            ITERATIONS_MAX, name="Iterations", tip=tips["iterations"]
        )
        self.strength_slider = ScaleSlider(
            0,
            MRF_STRENGTH_MAX,
            name="Strength of the MRF",
            tip=tips["mrf_strength"],
            dragged=(0, USEFUL_STRENGTH),
        )
        self.changes_choice = Choice(CHANGES)
        self.stop_box = QCheckBox("Stop when converged")
        self.stop_box.setToolTip(
            "Show and compute no iterations after one that changes fewer than one voxel in "
            "10,000 noticeably."
        )
        self.progress = Caption()
        self.progress.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self.weights_button = SmallButton(
            "Weights", "See what the prior has learned; have two classes touch less or more."
        )
        self.weights_button.setCheckable(True)
        self.details = MeanFieldDetails(state)
        self.warning = Note()
        self.warning.hide()
        self.picture = CompatibilityPicture()
        self.reset_button = SmallButton("Reset all", "Every slider back; no pair nudged.")
        self.note = Note(
            "This model has no prior: it labels each voxel without its neighbours. Above you can "
            "choose that of another model."
        )
        self._controls = named_rows(
            ("Iterations", tips["iterations"], self.iteration_slider),
            ("Strength", tips["mrf_strength"], self.strength_slider),
            ("Changes", "Which changes of labels to mark over the image.", self.changes_choice),
        )
        self.advanced_button = SmallButton(
            "Advanced", "How mean field computes it, and how far it has converged."
        )
        self.advanced_button.setCheckable(True)
        last = QHBoxLayout()
        last.setContentsMargins(0, 0, 0, 0)
        last.setSpacing(8)
        last.addWidget(self.stop_box)
        last.addWidget(self.progress, 1)
        last.addWidget(self.weights_button)
        last.addWidget(self.advanced_button)
        outer = QVBoxLayout(self)
        self._mrf = QWidget()
        layout = QVBoxLayout(self._mrf)
        for one in (outer, layout):
            one.setContentsMargins(0, 0, 0, 0)
            one.setSpacing(6)
        for widget in (self.coupling_choice, self.crf, self._mrf):
            outer.addWidget(widget)
        for widget in (self.prior_chooser, self.note, self._controls):
            layout.addWidget(widget)
        layout.addLayout(last)
        layout.addWidget(self.details)
        layout.addWidget(self.picture)
        # Last of all: it comes and goes while a slider above it is moved.
        layout.addWidget(self.warning)
        self._connect()
        self.set_model((), iterations=None)

    @property
    def is_default(self) -> bool:
        """Whether every control is at its default."""
        controls = self._state.controls
        return (
            controls.coupling == self._coupling_default
            and controls.crf == self._crf_default
            and controls.iterations == self.iteration_slider.default
            and controls.mrf_strength == controls.damping == 1
            and controls.update_rule == _DEFAULT_RULE
            and not self._state.display.stop_when_converged
            and not controls.nudges
        )

    def set_model(
        self,
        classes: Sequence[ClassSpec],
        *,
        iterations: int | None,
        crf: CRFSpec | None = None,
    ) -> None:
        """Take a model's classes and prior.

        Parameters
        ----------
        classes
            In label order.
        iterations
            How many its MRF is used with; None: it has no MRF.
        crf
            The weights of a CRF that were learned for it; None: none were.
        """
        self._classes = tuple(classes)
        self._crf_default, self._coupling_default = crf or CRFSpec(), coupling_of(crf)
        self.crf.set_default(self._crf_default)
        self.crf.show_progress(None)
        has_prior = iterations is not None
        self.iteration_slider.set_default(iterations or 0)
        self.note.setVisible(not has_prior)
        for widget in (
            self._controls,
            self.advanced_button,
            self.stop_box,
        ):
            widget.setEnabled(has_prior)
        self._show_iterations()
        self._show_coupling(self._state.controls.coupling)
        self.details.set_offered(has_prior)
        self.show_progress(0, 0)
        self.show_convergence(None)
        self.show_compatibility(None)

    def show_compatibility(self, compatibility: npt.NDArray[np.float32] | None) -> None:
        """Offer a picture of the MRF's weights, see `CompatibilityPicture.show_compatibility`."""
        self.picture.show_compatibility(self._classes, compatibility)
        self.weights_button.setEnabled(compatibility is not None)
        self._show_weights(self._state.display.open_sections)

    def show_convergence(self, convergence: Convergence | None) -> None:
        """Show how the iterations computed converge, or that they do not; None: none are."""
        self.details.plot.show_convergence(convergence)
        warning = "" if convergence is None else convergence.warning
        self.warning.setText(warning)
        self.warning.setVisible(bool(warning))

    def show_progress(self, reached: int, target: int, *, is_converged: bool = False) -> None:
        """Show how many iterations are computed.

        Parameters
        ----------
        reached
            So many.
        target
            So many are wanted.
        is_converged
            Whether the others would change nothing and are left out.
        """
        self.iteration_slider.show_progress(reached, target)
        if is_converged:
            self.progress.setText(f"converged after {reached}")
            self.progress.setToolTip(
                f"Iteration {reached} changed fewer than one voxel in 10,000 noticeably: later "
                "ones are not computed, and more than these are not shown."
            )
        else:
            self.progress.setText(f"{reached} of {target}" if reached < target else "")
            self.progress.setToolTip(f"{reached} of {target} iterations are computed.")

    def step_iterations(self, distance: int) -> None:
        """Change the iterations by so many."""
        if self.iteration_slider.isEnabled():
            self.iteration_slider.step(distance)

    def reset(self) -> None:
        """Every control back to its default, as one change; the changes marked stay."""
        with self._state.together():
            self._state.display.stop_when_converged = False
            self._state.display.cut_volume = True
            self._state.controls.update(
                {
                    "coupling": self._coupling_default,
                    "crf": self._crf_default,
                    "iterations": int(self.iteration_slider.default),
                    "mrf_strength": 1.0,
                    "damping": 1.0,
                    "update_rule": _DEFAULT_RULE,
                    "nudges": (),
                }
            )

    def _connect(self) -> None:
        controls, display = self._state.controls, self._state.display
        bind(self, controls, "coupling", self._show_coupling)
        self.coupling_choice.chosen.connect(self._on_coupling)
        bind(self, controls, "iterations", self._show_iterations)
        bind(self, controls, "mrf_strength", self.strength_slider.show_value)
        bind(self, controls, "nudges", self.picture.show_nudges)
        bind(self, display, "stop_when_converged", self._show_stop)
        bind(self, display, "changes", self._show_changes)
        bind(self, display, "open_sections", self._show_weights)
        bind(self, display, "open_sections", self._show_advanced)
        self.iteration_slider.changed.connect(self._on_iterations)
        self.strength_slider.changed.connect(self._on_strength)
        self.changes_choice.chosen.connect(self._on_changes)
        self.stop_box.toggled.connect(self._on_stop)
        self.picture.nudges_changed.connect(self._on_nudges)
        self.weights_button.toggled.connect(self._on_weights)
        self.advanced_button.toggled.connect(self._on_advanced)
        self.reset_button.clicked.connect(self.reset)

    def _show_coupling(self, coupling: Coupling) -> None:
        with quiet(self.coupling_choice):
            self.coupling_choice.choose(coupling)
        self.crf.setVisible(coupling == "crf")
        self._mrf.setVisible(coupling == "mrf")
        # Without an MRF there is nothing to reset until something else is chosen.
        self.reset_button.setEnabled(coupling != "mrf" or self._controls.isEnabled())

    def _on_coupling(self, coupling: str) -> None:
        self._state.controls.coupling = next(one for one in COUPLINGS if one == coupling)

    def _show_iterations(self, _iterations: object = None) -> None:
        # Without an MRF there are none, whatever was chosen for another model.
        n = self._state.controls.iterations if self._controls.isEnabled() else 0
        self.iteration_slider.show_value(n)
        self.details.plot.show_iteration(n)

    def _on_iterations(self, iterations: float) -> None:
        self._state.controls.iterations = int(iterations)

    def _on_strength(self, strength: float) -> None:
        self._state.controls.mrf_strength = strength

    def _on_nudges(self) -> None:
        self._state.controls.nudges = self.picture.nudges

    def _show_stop(self, stops: bool) -> None:
        with quiet(self.stop_box):
            self.stop_box.setChecked(stops)

    def _on_stop(self, stops: bool) -> None:
        self._state.display.stop_when_converged = stops

    def _show_changes(self, changes: Changes) -> None:
        with quiet(self.changes_choice):
            self.changes_choice.choose(changes)

    def _on_changes(self, changes: str) -> None:
        self._state.display.changes = Changes(changes)

    def _show_weights(self, open_sections: frozenset[str]) -> None:
        is_open = "weights" in open_sections and self.weights_button.isEnabled()
        with quiet(self.weights_button):
            self.weights_button.setChecked(is_open)
        self.picture.setVisible(is_open)

    def _show_advanced(self, open_sections: frozenset[str]) -> None:
        is_open = "advanced" in open_sections
        with quiet(self.advanced_button):
            self.advanced_button.setChecked(is_open)
        self.details.setVisible(is_open)

    def _on_advanced(self, is_open: bool) -> None:
        self._state.display.fold("advanced", is_open=is_open)

    def _on_weights(self, is_open: bool) -> None:
        self._state.display.fold("weights", is_open=is_open)
