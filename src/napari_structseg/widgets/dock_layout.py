"""The panels of the dock and where they are."""

from __future__ import annotations

from functools import partial

from napari.components import ViewerModel
from qtpy.QtCore import QSize
from qtpy.QtWidgets import QScrollBar, QVBoxLayout, QWidget

from napari_structseg.session.messages import (
    ClassVolumes,
    CutProgress,
    LatentSpace,
    Lines,
    MeanFieldProgress,
    RefinedProgress,
    Result,
    SampleModes,
    SliceLabels,
    VolumeSpread,
)
from napari_structseg.session.state import ExplorerState
from napari_structseg.widgets.binding import bind
from napari_structseg.widgets.correcting.recovery import Recovery
from napari_structseg.widgets.panels.banner import ErrorBanner
from napari_structseg.widgets.panels.hypotheses_panel import HypothesesPanel
from napari_structseg.widgets.panels.latent_panel import LatentPanel
from napari_structseg.widgets.panels.neighbours_panel import NeighboursPanel
from napari_structseg.widgets.panels.recovery_panel import RecoveryPanel
from napari_structseg.widgets.panels.sample_strip import SampleStrip
from napari_structseg.widgets.panels.show_panel import ShowPanel
from napari_structseg.widgets.panels.source_panel import SourcePanel
from napari_structseg.widgets.panels.spread_panel import SpreadPanel
from napari_structseg.widgets.panels.status_line import StatusLine
from napari_structseg.widgets.panels.view_row import ViewRow
from napari_structseg.widgets.parts.keyless_scroll import KeylessScrollArea
from napari_structseg.widgets.parts.section import Hairline, Note, Section
from napari_structseg.widgets.session_dock import SessionDock
from napari_structseg.widgets.shortcuts import ShortcutList

_MARGIN = 8
# All sections fit into a window of 1280 x 800, the rarer ones folded.
_SPACING = 6
_SIZE = QSize(396, 680)
# Of the sections, in the state.
_NAMES = ("samples", "latent", "hypotheses", "show", "spread", "neighbours")
_NO_IMAGE = (
    "Open an image to begin: drop a NIfTI file into the window, or choose "
    "File ▸ Open Sample ▸ StructSeg."
)
_NOT_RUN = (
    "Press Run to segment the image. The model gives not one segmentation but a whole "
    "distribution of them; here you look around in it."
)


class DockLayout(SessionDock):
    """Choose at the top; below it, once there is something to see, browse, look and adjust.

    Parameters
    ----------
    viewer
        Whose image layers are offered.
    state
        What was chosen in it; the panels are views of it.
    recovery
        Knows what crashed sessions have left.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        state: ExplorerState,
        recovery: Recovery,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.state = state
        self.recovery = RecoveryPanel(recovery)
        self.source = SourcePanel(viewer, state)
        self.banner = ErrorBanner()
        self.domain_banner = ErrorBanner(is_warning=True)
        self.welcome = Note()
        self.strip: SampleStrip = SampleStrip(state)
        self.latent: LatentPanel = LatentPanel(state)
        self.hypotheses: HypothesesPanel = HypothesesPanel(state)
        self.show_panel: ShowPanel = ShowPanel(state)
        self.view_row = ViewRow(viewer)
        self.spread: SpreadPanel = SpreadPanel(state)
        self.neighbours: NeighboursPanel = NeighboursPanel(state)
        self.status = StatusLine()
        self.keys_section = Section("Keyboard", ShortcutList())
        self.keys_section.hide()
        self.status.help_requested.connect(self._toggle_keys)
        self.hypotheses_section = Section("Hypotheses", self.hypotheses, self.hypotheses.tools)
        self.latent_section = Section("Latent space", self.latent)
        self.sections = (
            Section("Samples", self.strip, self.strip.tools),
            self.latent_section,
            self.hypotheses_section,
            Section("Show", self.show_panel, self.view_row),
            Section("Spread", self.spread, self.spread.caption, self.spread.reset_button),
            Section("Neighbours", self.neighbours, self.neighbours.reset_button),
        )
        for name, section in zip(_NAMES, self.sections, strict=True):
            section.header.toggled.connect(partial(self._on_fold, name))
        bind(self, state.display, "open_sections", self._show_folds)
        bind(self, state.display, "orientation_letters", self.view_row.show_letters)
        self.view_row.letters_chosen.connect(self._on_letters)
        self.scroll_area = KeylessScrollArea()
        self.scroll_area.setWidget(self._make_page())
        self._reveals_keys = False
        self._scroll_bar = QScrollBar()
        self.scroll_area.setVerticalScrollBar(self._scroll_bar)
        self._scroll_bar.rangeChanged.connect(self._on_scroll_range)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self.scroll_area, 1)
        # Below what is scrolled: seen wherever that stands, and nothing moves when they come.
        for banner in (self.domain_banner, self.banner):
            layout.addWidget(banner)
        layout.addWidget(Hairline())
        layout.addWidget(self.status)
        self.status.setContentsMargins(_MARGIN, 2, _MARGIN, 2)
        self.show_state(is_exploring=False)

    def sizeHint(self) -> QSize:
        """Wide enough for five thumbnails, and beside a canvas on a small screen."""
        return _SIZE

    def show_state(self, *, is_exploring: bool) -> None:
        """Show the panels that have something to say, or what to do first."""
        for section in self.sections:
            section.setVisible(is_exploring)
        self.latent_section.setVisible(is_exploring and self.latent.n_latents > 0)
        self.welcome.setVisible(not is_exploring)
        self.view_row.set_layer(self.source.image_layer)
        has_image = self.source.image_layer is not None
        self.welcome.setText(_NOT_RUN if has_image else _NO_IMAGE)

    def show_iterations(self, n: int, *, cuts: bool = False) -> None:
        """Say in the header of the neighbours what they do, for when it is folded."""
        said = f" · {n} iteration{'s' * (n != 1)}" if n else ""
        said = " · CRF" if cuts else said
        self.sections[-1].header.setText(f"Neighbours{said}")

    def show_result(self, result: Result) -> None:
        """Show what was computed in the panel that it belongs to, if it belongs to any."""
        if isinstance(result, SliceLabels):
            self.status.slice_seconds = result.seconds
        elif isinstance(result, ClassVolumes):
            self.spread.show_volumes(result)
            self.status.volume_seconds = result.seconds
        elif isinstance(result, VolumeSpread):
            self.spread.show_spread(result)
        elif isinstance(result, LatentSpace):
            self.latent.show_space(result.directions, result.strength)
        elif isinstance(result, SampleModes):
            self.hypotheses.show_hypotheses(
                result.hypotheses, result.controls, refined=result.refined
            )
        elif isinstance(result, Lines):
            self.show_panel.show_lines(result)
        elif isinstance(result, RefinedProgress):
            self.hypotheses.show_progress(result)
        elif isinstance(result, CutProgress):
            self.neighbours.crf.show_progress(result)
        elif isinstance(result, MeanFieldProgress):
            self.neighbours.show_progress(
                result.reached, result.target, is_converged=result.is_converged
            )
            self.neighbours.show_convergence(result.convergence)

    def step_hypothesis(self, distance: int) -> None:
        """Show the mode so many on; the first time, look for modes."""
        self.state.display.fold("hypotheses", is_open=True)
        self.hypotheses.step(distance)

    def _on_letters(self, is_on: bool) -> None:
        self.state.display.orientation_letters = is_on

    def _on_fold(self, name: str, is_open: bool) -> None:
        self.state.display.fold(name, is_open=is_open)

    def _show_folds(self, open_sections: frozenset[str]) -> None:
        for name, section in zip(_NAMES, self.sections, strict=True):
            section.set_open(name in open_sections)

    def _toggle_keys(self) -> None:
        self.keys_section.setVisible(self.keys_section.isHidden())
        self.keys_section.set_open(True)
        # The section gets its place in the layout after this, and the bar its new range.
        self._reveals_keys = not self.keys_section.isHidden()

    def _on_scroll_range(self, _low: int, high: int) -> None:
        if self._reveals_keys:
            self._reveals_keys = False
            self._scroll_bar.setValue(high)

    def _make_page(self) -> QWidget:
        page = QWidget()
        layout = QVBoxLayout(page)
        layout.setContentsMargins(_MARGIN, _MARGIN, _MARGIN, _MARGIN)
        layout.setSpacing(_SPACING)
        for widget in (
            self.recovery,
            self.source,
            self.welcome,
            *self.sections,
            self.keys_section,
        ):
            layout.addWidget(widget)
        layout.addStretch(1)
        return page
