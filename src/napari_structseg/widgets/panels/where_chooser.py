"""Which slices of a volume a 2-D model is applied to, and which part of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image as ImageLayer
from napari.layers import Shapes
from qtpy.QtCore import Qt
from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from napari_structseg.errors import InputError
from napari_structseg.models import ModelSpec
from napari_structseg.prediction.slices import much_larger
from napari_structseg.session.state import ExplorerState
from napari_structseg.widgets.binding import bind, quiet
from napari_structseg.widgets.parts.combo import NarrowCombo
from napari_structseg.widgets.parts.fields import NumberField
from napari_structseg.widgets.parts.section import Note
from napari_structseg.widgets.viewer.marking import (
    WHOLE,
    add_box,
    box_of_shapes,
    chosen_shapes,
    mark_place,
    patch_on,
)
from napari_structseg.widgets.viewer.picking import ClickPicker, Index
from napari_structseg.widgets.viewer.viewing import current_view

_ADD = "Add a box"
_MOST_SLICES = 999
_PICKING = "Click on the image. Esc: leave it."


class WhereChooser(QWidget):
    """The slice that is shown or a slab around it; all of it, or a rectangle.

    Rectangles are those of the viewer's Shapes layers; one of the size that the model was trained
    on can be added.

    Parameters
    ----------
    viewer
        Whose slice and shapes are meant.
    state
        Whose number of slices and box it shows and sets.
    """

    def __init__(
        self, viewer: ViewerModel, state: ExplorerState, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._source = state.source
        self._layer: ImageLayer | None = None
        self._spec: ModelSpec | None = None
        self.count_box = NumberField()
        self.count_box.setRange(1, _MOST_SLICES)
        self.count_box.setSpecialValueText("This slice")
        self.count_box.setSuffix(" slices")
        self.count_box.setAccessibleName("Number of slices")
        self.count_box.setToolTip(
            "A 2-D model segments slices one by one: the one you see, or so many around it. A "
            "sample is the same hypothesis in all of them."
        )
        self.box_box = NarrowCombo()
        self.box_box.setAccessibleName("Part of the slices")
        self.box_box.setToolTip("All of the slices, or what a rectangle of a Shapes layer marks.")
        self.pick_button = QPushButton("Pick")
        self.pick_button.setCheckable(True)
        self.pick_button.setAccessibleName("Pick on the image")
        self.pick_button.setToolTip(
            "Then click on the image: the model sees the place around it, as much as it was "
            "trained on."
        )
        self.pick_button.toggled.connect(self._on_pick)
        self._picker: ClickPicker | None = None
        self.note = Note()
        self.note.hide()
        self.count_box.valueChanged.connect(self._on_count)
        self.box_box.activated.connect(self._on_box)
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(8)
        row.addWidget(self.count_box)
        row.addWidget(self.box_box, 1)
        row.addWidget(self.pick_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addLayout(row)
        layout.addWidget(self.note)
        bind(self, state.source, "n_slices", self._show_count)
        bind(self, state.source, "box", self._show_box)

    @property
    def controls(self) -> tuple[QWidget, ...]:
        """What is in its row."""
        return self.count_box, self.box_box, self.pick_button

    def set_model(self, spec: ModelSpec | None, layer: ImageLayer | None) -> None:
        """Offer what there is for a 2-D model on a layer; None: there is nothing to choose."""
        if (spec, layer) != (self._spec, self._layer):
            self.stop_picking()
        self._spec, self._layer = spec, layer
        if spec is not None and layer is not None:
            with quiet(self.count_box):
                self.count_box.setMaximum(min(_MOST_SLICES, max(layer.data.shape)))
            self._show_count(self._source.n_slices)
            self._show_box()

    def stop_picking(self) -> None:
        """Stop waiting for a click."""
        self.pick_button.setChecked(False)

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Escape ends the picking in the dock, too."""
        if event is not None and event.key() == Qt.Key.Key_Escape and self._picker is not None:
            self.stop_picking()
        else:
            super().keyPressEvent(event)

    def add_box(self) -> Shapes | None:
        """Add a rectangle of the size that the model was trained on, where the camera looks."""
        layer, spec = self._layer, self._spec
        if layer is None or spec is None:
            return None
        point, displayed = np.array(self._viewer.dims.point), list(self._viewer.dims.displayed)
        point[displayed] = self._viewer.scene.camera.center[-len(displayed) :]
        centre = np.asarray(layer.world_to_data(point))[-layer.ndim :]
        shapes = add_box(self._viewer, layer, spec, centre, "Box")
        shapes.mode = "select"
        self.choose_box(shapes)
        return shapes

    def choose_box(self, shapes: Shapes | None) -> None:
        """Choose a Shapes layer; None: whole slices."""
        self._source.box = None if shapes is None else shapes.name

    def _show_count(self, n_slices: int) -> None:
        with quiet(self.count_box):
            self.count_box.setValue(n_slices)

    def _on_count(self, n_slices: int) -> None:
        self._source.n_slices = n_slices

    def _show_box(self, _name: object = None) -> None:
        """List the Shapes layers, and show the one that is chosen."""
        with quiet(self.box_box):
            self.box_box.clear()
            self.box_box.addItem(WHOLE, None)
            for layer in self._viewer.layers:
                if isinstance(layer, Shapes):
                    self.box_box.addItem(layer.name, layer.name)
            self.box_box.addItem(f"{_ADD} of {_sizes(self._patch())}", None)
            name = self._source.box
            self.box_box.setCurrentIndex(0 if name is None else max(self.box_box.findData(name), 0))
        self._advise()

    def _on_box(self, index: int) -> None:
        if index == self.box_box.count() - 1:
            # Until it is there, what is chosen is shown.
            self._show_box()
            self.add_box()
        else:
            self._source.box = self.box_box.itemData(index)

    def _on_pick(self, is_on: bool) -> None:
        if self._picker is not None:
            self._picker.close()
            self._picker = None
        if is_on and self._layer is not None:
            self._picker = ClickPicker(self._viewer, self._layer, self._pick, self.stop_picking)
            self.note.setText(_PICKING)
            self.note.show()
        else:
            self._advise()

    def _pick(self, index: Index) -> None:
        layer, spec = self._layer, self._spec
        if layer is None or spec is None:
            return
        try:
            mark_place(self._viewer, layer, spec, self._source, list(index))
        except InputError as error:
            # Another click may be on the image.
            self.note.setText(str(error))
        else:
            self.stop_picking()

    def _patch(self) -> tuple[int, ...]:
        """Size of a patch of training in pixels of the image."""
        layer, spec = self._layer, self._spec
        if layer is None or spec is None:
            return ()
        return patch_on(layer, spec, current_view(self._viewer.dims, layer))

    def _plane(self) -> tuple[int, ...]:
        """Size of the slice that is shown."""
        if self._layer is None:
            return ()
        view = current_view(self._viewer.dims, self._layer)
        return tuple(self._layer.data.shape[axis] for axis in view.plane(self._layer.ndim))

    def _advise(self) -> None:
        """Say it where the model would see far more than it was trained on."""
        if self._picker is not None:
            return
        patch, seen = self._patch(), self._plane()
        shapes = chosen_shapes(self._viewer, self._source)
        if shapes is not None and self._layer is not None:
            axis = current_view(self._viewer.dims, self._layer).axis
            try:
                seen = tuple(b - a for a, b in box_of_shapes(shapes, self._layer, axis))
            except InputError:
                # Said when it is run, if it is still so.
                seen = patch
        is_large = much_larger(seen, patch)
        if is_large:
            self.note.setText(
                f"Trained on {_sizes(patch)} pixels, but this is {_sizes(seen)}: mark a box "
                "around what you look for."
            )
        self.note.setVisible(is_large)


def _sizes(sizes: tuple[Any, ...]) -> str:
    return " × ".join(f"{size}" for size in sizes)
