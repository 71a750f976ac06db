"""How mean field computes, and how far it has converged: what is under *Advanced*."""

from __future__ import annotations

from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_structseg.controls import DAMPING_MIN
from napari_structseg.priors import Update
from napari_structseg.session.state import ExplorerState
from napari_structseg.widgets.binding import bind, quiet
from napari_structseg.widgets.panels.neighbours_words import UPDATES, control_tips
from napari_structseg.widgets.parts.choice import Choice
from napari_structseg.widgets.parts.named_rows import named_rows
from napari_structseg.widgets.parts.scale_slider import ScaleSlider
from napari_structseg.widgets.plots.convergence_plot import ConvergencePlot


class MeanFieldDetails(QWidget):
    """Damping, rule of the update, and the plot of convergence.

    Parameters
    ----------
    state
        Whose controls of mean field it shows and sets.
    """

    def __init__(self, state: ExplorerState, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._controls = state.controls
        tips = control_tips()
        self.damping_slider = ScaleSlider(DAMPING_MIN, 1, name="Damping", tip=tips["damping"])
        self.update_choice = Choice(UPDATES)
        self.plot = ConvergencePlot()
        self._rows = named_rows(
            ("Damping", tips["damping"], self.damping_slider),
            ("Update", tips["update_rule"], self.update_choice),
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addWidget(self._rows)
        layout.addWidget(self.plot)
        bind(self, state.controls, "damping", self.damping_slider.show_value)
        bind(self, state.controls, "update_rule", self._show_rule)
        self.damping_slider.changed.connect(self._on_damping)
        self.update_choice.chosen.connect(self._on_rule)

    def set_offered(self, is_offered: bool) -> None:
        """Offer the controls, and show the plot, where there is an MRF to iterate."""
        self._rows.setEnabled(is_offered)
        self.plot.setVisible(is_offered)

    def _on_damping(self, damping: float) -> None:
        self._controls.damping = damping

    def _show_rule(self, rule: Update) -> None:
        with quiet(self.update_choice):
            self.update_choice.choose(rule)
        # A proximal step is held back in its own way.
        self.damping_slider.setEnabled(rule != "proximal")

    def _on_rule(self, rule: str) -> None:
        self._controls.update_rule = next(kind for kind in UPDATES if kind == rule)
