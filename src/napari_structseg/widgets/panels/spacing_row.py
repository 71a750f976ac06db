"""The voxel size of an image that does not say its own."""

from __future__ import annotations

import math
import re

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QLineEdit, QVBoxLayout, QWidget

from napari_structseg.widgets.parts.section import Note

_LARGEST_MM = 1e6
_SEPARATORS = re.compile(r"[\s×x;]+|,\s+")
_TIP = (
    "The image does not say how large its voxels are, so they are counted. Type their size to see "
    "mL, or mm² for a slice: one number, or one for each axis (z y x)."
)


class SpacingRow(QWidget):
    """A field to type a voxel size in mm in; empty: it is not known."""

    spacing_typed = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._n_axes = 3
        self.field = QLineEdit()
        self.field.setPlaceholderText("unknown: voxels are counted")
        self.field.setToolTip(_TIP)
        self.field.setAccessibleName("Voxel size in mm")
        self.field.editingFinished.connect(self._on_typed)
        self.note = Note()
        self.note.hide()
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(6)
        row.addWidget(self.field, 1)
        row.addWidget(QLabel("mm"))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addLayout(row)
        layout.addWidget(self.note)

    def set_axes(self, n_axes: int) -> None:
        """Ask for the voxel size of an image with so many axes."""
        self._n_axes = n_axes

    def show_spacing(self, spacing: tuple[float, ...] | None) -> None:
        """Show a voxel size; None: it is not known."""
        if spacing is None:
            self.field.clear()
        elif len(set(spacing)) == 1:
            self.field.setText(f"{spacing[0]:g}")
        else:
            self.field.setText(" × ".join(f"{size:g}" for size in spacing))
        self.note.hide()

    def _on_typed(self) -> None:
        text = self.field.text().strip()
        spacing = None if not text else parse_spacing(text, self._n_axes)
        is_wrong = bool(text) and spacing is None
        self.note.setVisible(is_wrong)
        if is_wrong:
            self.note.setText(
                f"Expected one number of mm, or {self._n_axes} of them, but {text!r} was typed."
            )
            return
        self.spacing_typed.emit(spacing)


def parse_spacing(text: str, n_axes: int) -> tuple[float, ...] | None:
    """Read a voxel size.

    Parameters
    ----------
    text
        One number, or one for each axis, as "3 1 1", "3 x 1 x 1", "3, 1, 1" or "3;0,5;0,5".
    n_axes
        Axes of the image.

    Returns
    -------
    tuple of float or None
        One number for each axis, in mm; None: it is no voxel size.
    """
    if text.count(",") > 1 and not re.search(r"[\s×x;]", text):
        text = text.replace(",", " ")
    parts = [part for part in _SEPARATORS.split(text.strip()) if part]
    try:
        # Many write a comma where others write a point.
        sizes = [float(part.replace(",", ".")) for part in parts]
    except ValueError:
        return None
    if len(sizes) not in (1, n_axes):
        return None
    if not all(math.isfinite(size) and 0 < size <= _LARGEST_MM for size in sizes):
        return None
    return tuple(sizes * n_axes) if len(sizes) == 1 else tuple(sizes)
