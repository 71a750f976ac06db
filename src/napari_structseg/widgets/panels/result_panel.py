"""The result: what is taken into it, what of it is locked, and how large it is."""

from __future__ import annotations

from functools import partial

from qtpy.QtGui import QColor
from qtpy.QtWidgets import QGridLayout, QHBoxLayout, QVBoxLayout, QWidget

from napari_structseg.models import ClassSpec
from napari_structseg.widgets.binding import follow
from napari_structseg.widgets.correcting.correcting import Correcting
from napari_structseg.widgets.parts.class_button import ClassButton
from napari_structseg.widgets.parts.colors import display_name
from napari_structseg.widgets.parts.measure import Measure
from napari_structseg.widgets.parts.section import Caption, Note, SmallButton

_EMPTY = (
    "Nothing is yours yet. Accept what the model shows, all of it or a part; then paint on the "
    "layer Result with napari's own brush, fill and eraser."
)
_LOCK_TIP = "Locked, {name} is overwritten by nothing but your own hand."
_COLUMNS = 2


class ResultPanel(QWidget):
    """Buttons that accept, and a row for each class: its lock, and its volume in the result.

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
        self.all_button = SmallButton(
            "Accept all", "Take over everything that the model shows now, but what is locked."
        )
        self.all_button.clicked.connect(correcting.result.accept_all)
        self.note = Note(_EMPTY)
        self.caption = Caption("Locked classes")
        self._grid = QGridLayout()
        self._grid.setSpacing(2)
        self.accept_row = QHBoxLayout()
        self.accept_row.setSpacing(4)
        self.accept_row.addWidget(self.all_button)
        self.accept_row.addStretch(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.note)
        layout.addLayout(self.accept_row)
        layout.addWidget(self.caption)
        layout.addLayout(self._grid)
        follow(self, correcting.result.changed, self.show_result)
        self.show_result()

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

    def show_result(self) -> None:
        """Write what the result holds, and what of it is locked."""
        book = self._correcting.book
        self.note.setVisible(book is not None and book.result_layer is None)
        if book is None:
            return
        result = book.correction.result
        for label, button in enumerate(self.lock_buttons):
            is_locked = label in result.locked_classes
            button.setChecked(is_locked)
            text = display_name(self._classes[label])
            if label:
                text += f"  {self._measure.write(float(result.counts[label]) * self._voxel_ml)}"
            button.setText(f"{text}  \N{LOCK}" if is_locked else text)

    def _on_lock(self, label: int) -> None:
        button = self.lock_buttons[label]
        self._correcting.result.lock_class(label, is_locked=button.isChecked())
