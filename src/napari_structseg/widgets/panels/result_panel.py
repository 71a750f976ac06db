"""The result: what is taken into it, what of it is locked, and how large it is."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from qtpy.QtGui import QColor
from qtpy.QtWidgets import QFileDialog, QGridLayout, QHBoxLayout, QVBoxLayout, QWidget

from napari_structseg.models import ClassSpec
from napari_structseg.widgets.binding import follow
from napari_structseg.widgets.correcting.correcting import Correcting
from napari_structseg.widgets.panels.save_dialog import formats_of, open_save_dialog, result_name
from napari_structseg.widgets.parts.class_button import ClassButton
from napari_structseg.widgets.parts.colors import display_name
from napari_structseg.widgets.parts.fields import NumberField
from napari_structseg.widgets.parts.measure import Measure
from napari_structseg.widgets.parts.section import Caption, Note, SmallButton

_EMPTY = (
    "Nothing is yours yet. Accept what the model shows, all of it or a part; then paint on the "
    "layer Result with napari's own brush, fill and eraser."
)
_LOCKED_LAYER = (
    "The layer Segmentation is locked: it shows the model, and is written again with every stroke "
    "and slider. Keep it as result to paint on it."
)
_LOCK_TIP = "Locked, {name} is overwritten by nothing but your own hand."
_COLUMNS = 2


class ResultPanel(QWidget):
    """Buttons that accept, a region to mark, and for each class its lock and its volume.

    Parameters
    ----------
    correcting
        Whose result it shows.
    """

    def __init__(self, correcting: Correcting, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._correcting = correcting
        self._classes: tuple[ClassSpec, ...] = ()
        self._measure, self._voxel_ml = Measure(), 0.0
        self.lock_buttons: tuple[ClassButton, ...] = ()
        self.note = Note(_EMPTY)
        self.locked_note = Note(_LOCKED_LAYER)
        self.keep_button = SmallButton("Keep as result", "Accept all of it, but what is locked.")
        self.all_button = SmallButton(
            "All", "Take over everything that the model shows now, but what is locked (Shift K)."
        )
        self.component_button = SmallButton(
            "Component", "Take over one component: click on it (Shift A: under the mouse)."
        )
        self.component_button.setCheckable(True)
        self.region_button = SmallButton("Region", "Take over what the model shows in the region.")
        self.paint_button = SmallButton("Paint", "Mark a region with the brush.")
        self.polygon_button = SmallButton(
            "Outline", "Mark a region with napari's polygon tool: click its corners, then Enter."
        )
        self.box_button = SmallButton(
            "Box", "Mark a box: drag from corner to corner on the slice, or press Escape."
        )
        self.box_button.setCheckable(True)
        self.slices_field = NumberField()
        self.slices_field.setRange(1, 1)
        self.slices_field.valueChanged.connect(self._show_n_slices)
        self._show_n_slices(1)
        self.slices_field.setAccessibleName("Slices of a box")
        self.slices_field.setToolTip(
            "Through how many slices a box reaches, around the one that is shown."
        )
        self.clear_button = SmallButton("Clear", "Mark nothing.")
        self.lock_button = SmallButton(
            "Lock", "In a locked region nothing is overwritten but by your own hand."
        )
        self.unlock_button = SmallButton("Unlock", "Unlock what is in the region.")
        self.save_button = SmallButton(
            "Save…",
            "Save the result as NIfTI on the image's own voxel grid, with its volumes, the "
            "strokes, and a record of every action beside it.",
        )
        self.save_button.clicked.connect(self.save)
        self.save_dialog: QFileDialog | None = None
        self._connect()
        self._grid = QGridLayout()
        self._grid.setSpacing(2)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.note)
        layout.addWidget(self.locked_note)
        layout.addWidget(self.keep_button)
        layout.addLayout(_row("Accept", self.all_button, self.component_button, self.region_button))
        layout.addLayout(
            _row(
                "Region",
                self.paint_button,
                self.polygon_button,
                self.clear_button,
                self.lock_button,
                self.unlock_button,
            )
        )
        layout.addLayout(_row("", self.box_button, self.slices_field))
        layout.addWidget(Caption("Lock classes"))
        layout.addLayout(self._grid)
        follow(self, correcting.result.changed, self.show_result)
        follow(self, correcting.regions.changed, self.show_result)
        follow(self, correcting.places.changed, self.show_result)
        self.show_locked(is_selected=False)
        self.show_result()

    def save(self) -> None:
        """Ask where to save the result, and save it there."""
        book = self._correcting.book
        if book is None:
            return
        file = book.image_layer.source.path
        self.save_dialog = open_save_dialog(
            self,
            result_name(book.image_layer.name),
            None if file is None else Path(file).parent,
            formats_of(book.image),
            partial(self._correcting.safety.save, book),
        )

    def set_classes(
        self, classes: tuple[ClassSpec, ...], measure: Measure, voxel_ml: float
    ) -> None:
        """Make a button for each class; sizes are written by a measure, of voxels in mL."""
        self._measure, self._voxel_ml = measure, voxel_ml
        if classes != self._classes:
            self._classes = classes
            for button in self.lock_buttons:
                self._grid.removeWidget(button)
                button.hide()
                button.deleteLater()
            made = []
            for label, spec in enumerate(classes):
                name = display_name(spec)
                button = ClassButton(name, QColor(spec.color), _LOCK_TIP.format(name=name))
                button.clicked.connect(partial(self._on_lock, label))
                self._grid.addWidget(button, label // _COLUMNS, label % _COLUMNS)
                made.append(button)
            self.lock_buttons = tuple(made)
        self.show_result()

    def show_locked(self, *, is_selected: bool) -> None:
        """Say why the layer of the model cannot be painted on, while it is the one selected."""
        self.locked_note.setVisible(is_selected)
        self.keep_button.setVisible(is_selected)

    def show_result(self) -> None:
        """Write what the result holds, and what of it is locked."""
        correcting = self._correcting
        book = correcting.book
        self.note.setVisible(book is not None and book.result_layer is None)
        self.save_button.setEnabled(book is not None and bool(book.correction.past.steps))
        is_marked, is_shown = correcting.regions.is_marked, correcting.exploration is not None
        for needs_region in (self.lock_button, self.unlock_button, self.clear_button):
            needs_region.setEnabled(is_marked)
        for needs_model in (self.all_button, self.component_button):
            needs_model.setEnabled(is_shown)
        self.region_button.setEnabled(is_marked and is_shown)
        self.component_button.setChecked(correcting.places.is_picking(self))
        self.box_button.setChecked(correcting.regions.is_drawing)
        if book is None:
            return
        result = book.correction.result
        self.slices_field.setVisible(len(result.shape) == 3)
        if self.slices_field.maximum() != max(result.shape):
            self.slices_field.setMaximum(max(result.shape))
            self.slices_field.fit()
        for label, button in enumerate(self.lock_buttons):
            is_locked = label in result.locked_classes
            button.setChecked(is_locked)
            name, size = display_name(self._classes[label]), ""
            if label:
                size = self._measure.write(float(result.counts[label]) * self._voxel_ml)
            button.set_words(f"\N{LOCK} {name}" if is_locked else name, size)
            # Where there is no room for all of it.
            button.setToolTip(f"{name}  {size}".strip() + f"\n{_LOCK_TIP.format(name=name)}")

    def _connect(self) -> None:
        result, regions = self._correcting.result, self._correcting.regions
        self.keep_button.clicked.connect(result.accept_all)
        self.all_button.clicked.connect(result.accept_all)
        self.component_button.clicked.connect(self._on_component)
        self.region_button.clicked.connect(self._on_region)
        self.paint_button.clicked.connect(lambda: regions.begin("paint"))
        self.polygon_button.clicked.connect(lambda: regions.begin("polygon"))
        self.box_button.clicked.connect(self._on_box)
        self.clear_button.clicked.connect(regions.clear)
        self.lock_button.clicked.connect(partial(self._lock, is_locked=True))
        self.unlock_button.clicked.connect(partial(self._lock, is_locked=False))

    def _on_component(self, is_on: bool) -> None:
        places, result = self._correcting.places, self._correcting.result
        if is_on:
            self._correcting.regions.stop_drawing()
            places.pick(self, result.accept_component, "the component that you accept")
        else:
            places.stop_picking()

    def _show_n_slices(self, n: int) -> None:
        self.slices_field.setSuffix(" slice" if n == 1 else " slices")

    def _on_box(self, is_on: bool) -> None:
        regions = self._correcting.regions
        if is_on:
            self._correcting.places.stop_picking()
            regions.begin_box(self.slices_field.value())
        else:
            regions.stop_drawing()
        self.box_button.setChecked(regions.is_drawing)

    def _on_region(self) -> None:
        mask = self._correcting.regions.mask()
        if mask is not None:
            self._correcting.result.accept_region(mask)

    def _lock(self, _is_checked: bool = False, *, is_locked: bool) -> None:
        mask = self._correcting.regions.mask()
        if mask is not None:
            self._correcting.result.lock_region(mask, is_locked=is_locked)

    def _on_lock(self, label: int) -> None:
        button = self.lock_buttons[label]
        self._correcting.result.lock_class(label, is_locked=button.isChecked())


def _row(title: str, *widgets: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    row.setSpacing(4)
    row.addWidget(Caption(title))
    for widget in widgets:
        row.addWidget(widget)
    return row
