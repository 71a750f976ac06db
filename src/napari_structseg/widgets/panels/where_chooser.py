"""Which slices of a volume a 2-D model is applied to, and which part of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image as ImageLayer
from napari.layers import Shapes
from qtpy.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from napari_structseg.errors import InputError
from napari_structseg.models import ModelSpec
from napari_structseg.prediction.region_of_interest import AXES, RegionOfInterest
from napari_structseg.prediction.slices import much_larger
from napari_structseg.widgets.parts.combo import NarrowCombo
from napari_structseg.widgets.parts.fields import NumberField
from napari_structseg.widgets.parts.section import Note
from napari_structseg.widgets.viewer.viewing import current_view, layer_spacing

_WHOLE, _ADD = "Whole slice", "Add a box"
_MOST_SLICES = 999
_BOX_COLOR = "#ffd23f"
_LINES_PER_SIDE = 300
# Edges that lie between two voxels do so only nearly, after a turn in the world.
_ROUNDING = 1e-3

Box = tuple[tuple[int, int], tuple[int, int]]


class WhereChooser(QWidget):
    """The slice that is shown or a slab around it; all of it, or a rectangle.

    Rectangles are those of the viewer's Shapes layers; one of the size that the model was trained
    on can be added.

    Parameters
    ----------
    viewer
        Whose slice and shapes are meant.
    """

    def __init__(self, viewer: ViewerModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
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
        self.note = Note()
        self.note.hide()
        self.box_box.activated.connect(self._on_box)
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(8)
        row.addWidget(self.count_box)
        row.addWidget(self.box_box, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addLayout(row)
        layout.addWidget(self.note)

    @property
    def controls(self) -> tuple[QWidget, ...]:
        """What is in its row."""
        return self.count_box, self.box_box

    def set_model(self, spec: ModelSpec | None, layer: ImageLayer | None) -> None:
        """Offer what there is for a 2-D model on a layer; None: there is nothing to choose."""
        self._spec, self._layer = spec, layer
        if spec is not None and layer is not None:
            self.count_box.setMaximum(min(_MOST_SLICES, max(layer.data.shape)))
            self._list_boxes()
            self._advise()

    def roi(self) -> RegionOfInterest | None:
        """What is marked now; None where the model takes the whole image.

        Raises
        ------
        InputError
            If the rectangle lies outside the image.
        """
        layer = self._layer
        if layer is None or self._spec is None:
            return None
        view = current_view(self._viewer.dims, layer)
        size = layer.data.shape[view.axis]
        count = min(self.count_box.value(), size)
        start = min(max(view.position - count // 2, 0), size - count)
        shapes: Shapes | None = self.box_box.currentData()
        box = None if shapes is None else box_of_shapes(shapes, layer, view.axis)
        return RegionOfInterest(axis=AXES[view.axis], start=start, count=count, box=box)

    def add_box(self) -> Shapes | None:
        """Add a rectangle of the size that the model was trained on, where the camera looks."""
        layer, spec = self._layer, self._spec
        if layer is None or spec is None:
            return None
        view = current_view(self._viewer.dims, layer)
        rows, columns = view.plane(layer.ndim)
        point, displayed = np.array(self._viewer.dims.point), list(self._viewer.dims.displayed)
        point[displayed] = self._viewer.scene.camera.center[-len(displayed) :]
        centre = np.asarray(layer.world_to_data(point))[-layer.ndim :]
        corners = np.full((4, layer.ndim), float(view.position))
        for axis, size, wanted in zip((rows, columns), self._plane(), self._patch(), strict=True):
            length = min(wanted, size)
            start = min(max(round(centre[axis] - length / 2), 0), size - length)
            ends = (start - 0.5, start + length - 0.5)
            corners[:, axis] = np.repeat(ends, 2) if axis == rows else (*ends, *reversed(ends))
        shapes: Shapes = self._viewer.add_shapes(
            [corners],
            shape_type="rectangle",
            name="Box",
            edge_color=_BOX_COLOR,
            face_color="transparent",
            edge_width=max(self._plane()) / _LINES_PER_SIDE,
            **{name: getattr(layer, name) for name in _TRANSFORMS},
        )
        shapes.mode = "select"
        self.choose_box(shapes)
        return shapes

    def choose_box(self, shapes: Shapes | None) -> None:
        """Choose a Shapes layer; None: whole slices."""
        self._list_boxes()
        self.box_box.setCurrentIndex(0 if shapes is None else self.box_box.findText(shapes.name))
        self._advise()

    def _on_box(self, index: int) -> None:
        if index == self.box_box.count() - 1:
            self.add_box()
        else:
            self._advise()

    def _list_boxes(self) -> None:
        chosen = self.box_box.currentData()
        layers = [layer for layer in self._viewer.layers if isinstance(layer, Shapes)]
        self.box_box.clear()
        self.box_box.addItem(_WHOLE, None)
        for layer in layers:
            self.box_box.addItem(layer.name, layer)
        self.box_box.addItem(f"{_ADD} of {_sizes(self._patch())}", None)
        self.box_box.setCurrentIndex(layers.index(chosen) + 1 if chosen in layers else 0)

    def _patch(self) -> tuple[int, ...]:
        """Size of a patch of training in pixels of the image."""
        layer, spec = self._layer, self._spec
        if layer is None or spec is None:
            return ()
        if spec.spacing is None:
            return spec.patch
        plane = current_view(self._viewer.dims, layer).plane(layer.ndim)
        ours = [layer_spacing(layer)[axis] for axis in plane]
        return tuple(
            round(size * theirs / own)
            for size, theirs, own in zip(spec.patch, spec.spacing, ours, strict=True)
        )

    def _plane(self) -> tuple[int, ...]:
        """Size of the slice that is shown."""
        if self._layer is None:
            return ()
        view = current_view(self._viewer.dims, self._layer)
        return tuple(self._layer.data.shape[axis] for axis in view.plane(self._layer.ndim))

    def _advise(self) -> None:
        """Say it where the model would see far more than it was trained on."""
        patch, seen = self._patch(), self._plane()
        shapes: Shapes | None = self.box_box.currentData()
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


_TRANSFORMS = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")


def box_of_shapes(shapes: Shapes, layer: ImageLayer, axis: int) -> Box:
    """The voxels of a slice that a shape covers, as its bounding box.

    Parameters
    ----------
    shapes
        The shape that is selected counts, or the last.
    layer
        A volume.
    axis
        Along which slices are counted.

    Raises
    ------
    InputError
        If there is no shape, or it lies outside the image.
    """
    if not shapes.data:
        raise InputError(
            f"{shapes.name!r} has no shape. Draw a rectangle in it, or choose {_WHOLE!r}."
        )
    vertices = np.asarray(shapes.data[max(shapes.selected_data, default=-1)])
    # A layer's axes are the viewer's last ones.
    points = np.zeros((len(vertices), max(layer.ndim, shapes.ndim)))
    points[:, -shapes.ndim :] = [shapes.data_to_world(vertex) for vertex in vertices]
    index = np.array([layer.world_to_data(point[-layer.ndim :]) for point in points])
    sides: list[tuple[int, int]] = []
    for other in (one for one in range(layer.ndim) if one != axis):
        size = layer.data.shape[other]
        # A voxel reaches half its width beyond its centre.
        ends = np.array([index[:, other].min(), index[:, other].max()])
        start, stop = np.floor(ends + 0.5 + _ROUNDING)
        sides.append((min(max(int(start), 0), size), min(max(int(stop), 0), size)))
    rows, columns = sides
    if rows[0] == rows[1] or columns[0] == columns[1]:
        raise InputError(
            f"The shape in {shapes.name!r} must cover a part of the slice that is shown, but it "
            "covers none of it. Draw it in this view, over the image."
        )
    return rows, columns


def _sizes(sizes: tuple[Any, ...]) -> str:
    return " × ".join(f"{size}" for size in sizes)
