"""What to segment, with which model, on which device; and running it."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Any

from napari.components import ViewerModel
from napari.layers import Image as ImageLayer
from qtpy.QtCore import QEvent, Qt, Signal
from qtpy.QtWidgets import (
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_structseg.devices import available_devices, describe_device
from napari_structseg.io.checks import is_nifti_path
from napari_structseg.io.other_programs.members import is_given
from napari_structseg.session.state import ExplorerState
from napari_structseg.widgets.binding import bind, quiet
from napari_structseg.widgets.panels.intensity_window_row import WindowRow
from napari_structseg.widgets.panels.members_row import MembersRow
from napari_structseg.widgets.panels.model_chooser import ModelChooser
from napari_structseg.widgets.panels.spacing_row import SpacingRow
from napari_structseg.widgets.panels.where_chooser import WhereChooser
from napari_structseg.widgets.parts.combo import NarrowCombo
from napari_structseg.widgets.viewer.sources import image_layer_of, source_layers
from napari_structseg.widgets.viewer.specs import spec_of
from napari_structseg.widgets.viewer.viewing import has_size

_ROWS = ("Image", "Voxels", "Model", "Vary", "Where", "Window", "Device")
_PADDING = 10


class RunState(Enum):
    """What the button does next."""

    READY = "Run"
    RUNNING = "Cancel"
    CANCELLING = "Cancelling…"


class SourcePanel(QWidget):
    """Image, model and device, the Run button, and progress.

    Parameters
    ----------
    viewer
        Its image layers are listed; the list follows it.
    state
        Whose source it shows and sets.
    """

    run_requested = Signal()
    cancel_requested = Signal()

    def __init__(
        self, viewer: ViewerModel, state: ExplorerState, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._source = state.source
        self.state = RunState.READY
        self.image_box = NarrowCombo("Open an image first")
        self.model_box = ModelChooser(state)
        self.device_box = NarrowCombo()
        self.run_button = QPushButton(RunState.READY.value)
        self.run_button.setMinimumWidth(104)
        self.run_button.setToolTip("Apply the model to the image; sliders work when it is done.")
        self.run_button.setStyleSheet("QPushButton { font-weight: 600; }")
        self.run_button.clicked.connect(self._on_button)
        self.progress = QProgressBar()
        self.progress.setTextVisible(False)
        self.progress.setFixedHeight(4)
        self.progress.setStyleSheet("QProgressBar { border: none; }")
        self.members_row = MembersRow(state)
        self.where = WhereChooser(viewer, state)
        self.window_row = WindowRow(state)
        self.window_row.values_read.connect(self._update_button)
        self.spacing_row = SpacingRow()
        self.spacing_row.spacing_typed.connect(self._on_spacing)
        self._followed: list[ImageLayer] = []
        self._lay_out()
        self._keep_height()
        self._list_devices()
        self.refresh_images()
        bind(self, state.source, "model", self._update_button)
        bind(self, state.source, "device", self._show_device)
        bind(self, state.source, "image", self._show_image)
        bind(self, state.source, "spacing", self.spacing_row.show_spacing)
        self.image_box.currentIndexChanged.connect(self._on_image)
        self.device_box.currentIndexChanged.connect(self._on_device)
        for event in self._layer_events():
            event.connect(self.refresh_images)
        self.set_state(RunState.READY)

    @property
    def image_layer(self) -> ImageLayer | None:
        """The chosen image layer."""
        return image_layer_of(self._viewer, self._source)

    @property
    def models(self) -> list[str]:
        """Every model that is listed, by name or path."""
        listed = self.model_box.listed
        return [one for one in listed if not is_nifti_path(one) and not is_given(one)]

    def choose_image(self, layer: ImageLayer) -> None:
        """Choose an image layer of the viewer."""
        self._source.image = layer.name

    def choose_model(self, model: str | Path) -> None:
        """Choose a shipped model by name, or a file, which is added to the list.

        A NIfTI file is one of class probabilities, in a model's place, and a folder holds
        predictions of other programs.
        """
        self._source.model = str(model)
        # The file may be another one than it was when it was chosen last.
        self._update_button()

    def set_state(self, state: RunState) -> None:
        """Change what the button does."""
        self.state = state
        self.run_button.setText(state.value)
        for box in (
            self.image_box,
            self.model_box,
            self.members_row,
            self.where,
            self.window_row,
            self.spacing_row,
            self.device_box,
        ):
            box.setEnabled(state is RunState.READY)
        if state is not RunState.READY:
            self.where.stop_picking()
        if state is RunState.RUNNING:
            # A moving bar, until the model is loaded and the steps are counted.
            self.progress.setRange(0, 0)
        if state is RunState.READY:
            self.progress.setRange(0, 1)
            self.progress.setValue(0)
        policy = self.progress.sizePolicy()
        policy.setRetainSizeWhenHidden(True)
        self.progress.setSizePolicy(policy)
        self.progress.setVisible(state is not RunState.READY)
        self._update_button()

    def show_progress(self, done: int, total: int) -> None:
        """Tiles done, of how many."""
        self.progress.setRange(0, total)
        self.progress.setValue(done)
        self.progress.setToolTip(f"{done} of {total} steps")

    def refresh_images(self, _event: object = None) -> None:
        """List the viewer's image layers again."""
        images = source_layers(self._viewer)
        self._follow_names(images)
        with quiet(self.image_box):
            self.image_box.clear()
            for layer in images:
                self.image_box.addItem(layer.name, layer.name)
        self._show_image()

    def disconnect_viewer(self) -> None:
        """Stop following the viewer's layers."""
        self.window_row.stop_reading()
        self.where.stop_picking()
        for event in self._layer_events():
            event.disconnect(self.refresh_images)
        self._follow_names([])

    def _follow_names(self, images: list[ImageLayer]) -> None:
        for layer in self._followed:
            layer.events.name.disconnect(self.refresh_images)
        for layer in images:
            layer.events.name.connect(self.refresh_images)
        self._followed = images

    def _layer_events(self) -> tuple[Any, ...]:
        events = self._viewer.layers.events
        return events.inserted, events.removed, events.reordered

    def _on_button(self) -> None:
        if self.state is RunState.READY:
            self.run_requested.emit()
        elif self.state is RunState.RUNNING:
            self.cancel_requested.emit()

    def _show_image(self, _name: object = None) -> None:
        with quiet(self.image_box):
            self.image_box.setCurrentIndex(self.image_box.findData(self._source.image))
        self._update_button()

    def _on_image(self, index: int) -> None:
        self._source.image = self.image_box.itemData(index)

    def _show_device(self, device: str) -> None:
        with quiet(self.device_box):
            self.device_box.setCurrentIndex(self.device_box.findData(device))

    def _on_device(self, index: int) -> None:
        self._source.device = self.device_box.itemData(index)

    def _update_button(self, _model: object = None) -> None:
        self._update_scope()
        can_run = self.image_layer is not None and self._source.model is not None
        # Where no window fits the values, the run needs the one that is shown.
        can_run = can_run and not self.window_row.is_reading
        is_on = can_run if self.state is RunState.READY else self.state is RunState.RUNNING
        self.run_button.setEnabled(is_on)

    def _update_scope(self) -> None:
        """Offer slices and a window where the chosen model has a use for them."""
        spec, layer = spec_of(self._source.model), self.image_layer
        is_for_slices = spec is not None and spec.dimensions == 2
        is_for_slices = is_for_slices and layer is not None and layer.ndim == 3
        uses_window = spec is not None and spec.intensity.kind == "window"
        needs_spacing = layer is not None and layer.ndim in (2, 3) and not has_size(layer)
        if layer is not None:
            self.spacing_row.set_axes(layer.ndim)
        is_varied = self.members_row.set_model(self._source.model, spec, is_for_slices)
        self.where.set_model(spec if is_for_slices else None, layer)
        self.window_row.set_model(spec.intensity if spec and uses_window else None, layer)
        for label, row, is_shown in (
            (self._labels["Voxels"], self.spacing_row, needs_spacing),
            (self._labels["Vary"], self.members_row, is_varied),
            (self._labels["Where"], self.where, is_for_slices),
            (self._labels["Window"], self.window_row, uses_window),
        ):
            label.setVisible(is_shown)
            row.setVisible(is_shown)

    def _on_spacing(self, spacing: tuple[float, ...] | None) -> None:
        self._source.spacing = spacing

    def _list_devices(self) -> None:
        for name in available_devices():
            self.device_box.addItem(describe_device(name), name)
        self.device_box.setToolTip("What computes: a GPU where there is one.")

    def changeEvent(self, event: QEvent | None) -> None:
        """Follow the theme's font."""
        super().changeEvent(event)
        if event is not None and event.type() == QEvent.Type.StyleChange:
            self._keep_height()

    def _keep_height(self) -> None:
        # Napari gives what is disabled a border: during a run all would move down a little.
        for widget in (
            self.image_box,
            self.model_box,
            self.device_box,
            self.run_button,
            self.spacing_row.field,
            *self.members_row.controls,
            *self.where.controls,
            *self.window_row.controls,
            *self._labels.values(),
        ):
            widget.setFixedHeight(widget.fontMetrics().height() + _PADDING)

    def _lay_out(self) -> None:
        grid = QGridLayout()
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(8)
        grid.setVerticalSpacing(6)
        grid.setColumnStretch(1, 1)
        self._labels = {name: QLabel(name) for name in _ROWS}
        for row_index, label in enumerate(self._labels.values()):
            label.setIndent(0)
            grid.addWidget(label, row_index, 0, Qt.AlignmentFlag.AlignTop)
        choosers = (
            self.image_box,
            self.spacing_row,
            self.model_box,
            self.members_row,
            self.where,
            self.window_row,
        )
        for row_index, chooser in enumerate(choosers):
            grid.addWidget(chooser, row_index, 1)
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(8)
        row.addWidget(self.device_box, 1)
        row.addWidget(self.run_button)
        grid.addLayout(row, len(choosers), 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addLayout(grid)
        layout.addWidget(self.progress)
