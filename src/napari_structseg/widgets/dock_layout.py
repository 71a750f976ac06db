"""The panels of the dock and where they are."""

from __future__ import annotations

from napari.components import ViewerModel
from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import QFrame, QScrollArea, QScrollBar, QVBoxLayout, QWidget

from napari_structseg.session.messages import (
    ClassVolumes,
    LatentSpace,
    MeanFieldProgress,
    Result,
    SampleModes,
    SliceLabels,
    VolumeSpread,
)
from napari_structseg.widgets.panels.banner import ErrorBanner
from napari_structseg.widgets.panels.hypotheses_panel import HypothesesPanel
from napari_structseg.widgets.panels.latent_panel import LatentPanel
from napari_structseg.widgets.panels.neighbours_panel import NeighboursPanel
from napari_structseg.widgets.panels.sample_strip import SampleStrip
from napari_structseg.widgets.panels.show_panel import ShowPanel
from napari_structseg.widgets.panels.source_panel import SourcePanel
from napari_structseg.widgets.panels.spread_panel import SpreadPanel
from napari_structseg.widgets.panels.status_line import StatusLine
from napari_structseg.widgets.panels.view_row import ViewRow
from napari_structseg.widgets.parts.section import Hairline, Note, Section
from napari_structseg.widgets.shortcuts import ShortcutList
from napari_structseg.widgets.viewer.layers import RESULT_KEY

_MARGIN = 8
# All sections fit into a window of 1280 x 800, the rarer ones folded.
_SPACING = 6
_SIZE = QSize(396, 680)
_NO_IMAGE = (
    "Open an image to begin: drop a NIfTI file into the window, or choose "
    "File ▸ Open Sample ▸ StructSeg."
)
_NOT_RUN = (
    "Press Run to segment the image. The model gives not one segmentation but a whole "
    "distribution of them; here you look around in it."
)


class _KeylessScrollArea(QScrollArea):
    """Leaves keys, arrows above all, to the dock's shortcuts."""

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        if event is not None:
            event.ignore()


class DockLayout(QWidget):
    """Choose at the top; below it, once there is something to see, browse, look and adjust.

    Parameters
    ----------
    viewer
        Whose image layers are offered.
    """

    def __init__(self, viewer: ViewerModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.source = SourcePanel(viewer, lambda layer: RESULT_KEY in layer.metadata)
        self.banner = ErrorBanner()
        self.welcome = Note()
        self.strip: SampleStrip = SampleStrip()
        self.latent: LatentPanel = LatentPanel()
        self.hypotheses: HypothesesPanel = HypothesesPanel()
        self.show_panel: ShowPanel = ShowPanel()
        self.view_row = ViewRow(viewer)
        self.spread: SpreadPanel = SpreadPanel()
        self.neighbours: NeighboursPanel = NeighboursPanel()
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
            Section("Spread", self.spread, self.spread.reset_button),
            Section("Neighbours", self.neighbours, self.neighbours.reset_button),
        )
        # Of use to those who want it: hypotheses cost more samples than are drawn otherwise, and
        # the model's own iterations run without their panel.
        self.hypotheses_section.set_open(False)
        self.sections[-1].set_open(False)
        self.scroll_area = _KeylessScrollArea()
        self.scroll_area.setWidgetResizable(True)
        self.scroll_area.setFrameShape(QFrame.Shape.NoFrame)
        self.scroll_area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.scroll_area.setWidget(self._make_page())
        self._reveals_keys = False
        self._scroll_bar = QScrollBar()
        self.scroll_area.setVerticalScrollBar(self._scroll_bar)
        self._scroll_bar.rangeChanged.connect(self._on_scroll_range)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self.scroll_area, 1)
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

    def show_iterations(self) -> None:
        """Say in the header of the neighbours what they do, for when it is folded."""
        n = self.neighbours.iterations
        said = f" · {n} iteration{'s' * (n != 1)}" if n else ""
        self.sections[-1].header.setText(f"Neighbours{said}")

    def show_result(self, result: Result) -> None:
        """Show what was computed in the panel that it belongs to, if it belongs to any."""
        if isinstance(result, SliceLabels):
            self.status.slice_seconds = result.seconds
        elif isinstance(result, ClassVolumes):
            self.spread.show_volumes(result.volumes_ml)
            self.status.volume_seconds = result.seconds
        elif isinstance(result, VolumeSpread):
            self.spread.show_spread(result.volumes_ml, is_exact=result.exact)
        elif isinstance(result, LatentSpace):
            self.latent.show_space(result.directions, result.strength)
        elif isinstance(result, SampleModes):
            self.hypotheses.show_hypotheses(result.hypotheses, result.controls)
        elif isinstance(result, MeanFieldProgress):
            self.neighbours.show_progress(
                result.reached, result.target, is_converged=result.is_converged
            )
            self.neighbours.show_convergence(result.convergence)

    def step_hypothesis(self, distance: int) -> None:
        """Show the mode so many on; the first time, look for modes."""
        self.hypotheses_section.set_open(True)
        self.hypotheses.step(distance)

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
            self.source,
            self.banner,
            self.welcome,
            *self.sections,
            self.keys_section,
        ):
            layout.addWidget(widget)
        layout.addStretch(1)
        return page
