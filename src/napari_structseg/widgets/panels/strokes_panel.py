"""Strokes: a brush for each class, how wide it is, and how much was said."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from qtpy.QtGui import QColor
from qtpy.QtWidgets import QCheckBox, QGridLayout, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from napari_structseg.distributions.conditioning.explanation import Explanation
from napari_structseg.models import ClassSpec
from napari_structseg.session.messages import Result, StrokesExplained
from napari_structseg.widgets.binding import follow, quiet
from napari_structseg.widgets.correcting.correcting import Correcting
from napari_structseg.widgets.parts.class_button import ClassButton
from napari_structseg.widgets.parts.colors import display_name, stroke_colors
from napari_structseg.widgets.parts.fields import NumberField
from napari_structseg.widgets.parts.section import Caption, Note, SmallButton
from napari_structseg.widgets.viewer.painted import Labels

_COLUMNS = 2
_LARGEST_BRUSH = 40
_HOW = "Choose a class and paint a few voxels that are wrong: the model answers everywhere."
_PAINT_TIP = "Paint voxels that are {name}. The whole distribution follows while you paint."


class StrokesPanel(QWidget):
    """Class buttons, brush and eraser; the button that takes all strokes away is in :attr:`tools`.

    Parameters
    ----------
    correcting
        Whose strokes it shows.
    """

    def __init__(self, correcting: Correcting, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._correcting = correcting
        self._classes: tuple[ClassSpec, ...] = ()
        self._explanation: Explanation | None = None
        self.class_buttons: tuple[ClassButton, ...] = ()
        self._grid = QGridLayout()
        self._grid.setSpacing(2)
        self.erase_button = SmallButton("Erase", "Take strokes away where you paint.")
        self.erase_button.setCheckable(True)
        self.erase_button.clicked.connect(self._on_erase)
        self.size_field = NumberField()
        self.size_field.setRange(1, _LARGEST_BRUSH)
        self.size_field.setAccessibleName("Width of the brush in voxels")
        self.size_field.setToolTip("Width of the brush in voxels.")
        self.size_field.valueChanged.connect(self._on_size)
        self.ball_box = QCheckBox("3-D")
        self.ball_box.setToolTip("Paint a ball through slices instead of a disc on this one.")
        self.ball_box.toggled.connect(self._on_ball)
        self.clear_button = SmallButton("Clear", "Take all strokes away; Undo brings them back.")
        self.clear_button.clicked.connect(correcting.strokes.clear)
        self.tools = self.clear_button
        self.caption = Caption()
        self.note = Note(_HOW)
        brush = QHBoxLayout()
        brush.setSpacing(6)
        for widget in (QLabel("Brush"), self.size_field, self.ball_box, self.erase_button):
            brush.addWidget(widget)
        brush.addWidget(self.caption, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.note)
        layout.addLayout(self._grid)
        layout.addLayout(brush)
        follow(self, correcting.strokes.changed, self.show_strokes)
        self.show_strokes()

    def set_classes(self, classes: tuple[ClassSpec, ...]) -> None:
        """Make a button for each class."""
        if classes == self._classes:
            return
        self._classes = classes
        for button in self.class_buttons:
            self._grid.removeWidget(button)
            button.hide()
            button.deleteLater()
        colors = [QColor.fromRgbF(*map(float, one)) for one in stroke_colors(classes)]
        made = []
        for label, (spec, color) in enumerate(zip(classes, colors, strict=True)):
            name = display_name(spec)
            button = ClassButton(name, color, _PAINT_TIP.format(name=name))
            button.clicked.connect(partial(self._on_class, label))
            self._grid.addWidget(button, label // _COLUMNS, label % _COLUMNS)
            made.append(button)
        self.class_buttons = tuple(made)
        self.show_strokes()

    def receive(self, results: Sequence[Result]) -> None:
        """Take how well the model explains the strokes."""
        for result in results:
            if isinstance(result, StrokesExplained):
                self._explanation = result.explanation
                self.show_strokes()

    def show_strokes(self) -> None:
        """Show which tool is taken, and how much was said."""
        book, layer = self._correcting.book, self._layer
        mode = "" if layer is None else str(layer.mode)
        for label, button in enumerate(self.class_buttons):
            is_on = mode == "paint" and layer is not None and layer.selected_label == label + 1
            button.setChecked(is_on)
        self.erase_button.setChecked(mode == "erase")
        for widget in (self.erase_button, self.size_field, self.ball_box):
            widget.setEnabled(layer is not None)
        with quiet(self.size_field, self.ball_box):
            if layer is not None:
                self.size_field.setValue(round(layer.brush_size))
                self.ball_box.setChecked(layer.n_edit_dimensions == layer.ndim == 3)
                self.ball_box.setVisible(layer.ndim == 3)
        n = 0 if book is None else len(book.strokes)
        self.clear_button.setEnabled(n > 0)
        says, tip = _HOW, ""
        if n and self._explanation is not None:
            says, tip = in_words(self._explanation)
        elif not n:
            self._explanation = None
        self.note.setText(says)
        self.note.setToolTip(tip)
        self.caption.setText(f"{n:,} voxel{'s' * (n != 1)}" if n else "")

    @property
    def _layer(self) -> Labels | None:
        """The layer of strokes, where it is the one that is painted on."""
        book = self._correcting.book
        return None if book is None else book.strokes_layer

    def _on_class(self, label: int) -> None:
        self._correcting.strokes.begin(label)
        self.show_strokes()

    def _on_erase(self) -> None:
        self._correcting.strokes.erase()
        self.show_strokes()

    def _on_size(self, size: int) -> None:
        if self._layer is not None:
            self._layer.brush_size = size

    def _on_ball(self, is_ball: bool) -> None:
        layer = self._layer
        if layer is not None:
            layer.n_edit_dimensions = 3 if is_ball else 2


def in_words(explanation: Explanation) -> tuple[str, str]:
    """What the model makes of the strokes, and what else is known of that."""
    n, explained = explanation.n_voxels, explanation.n_explained
    tip = ""
    if explanation.effective is not None:
        tip = (
            f"Effective number behind the answer: {explanation.effective:.0f} of "
            f"{explanation.scored} that were weighed."
        )
    if explained == n:
        return "The model explains all of your strokes: it agrees everywhere.", tip
    # What it could explain alone is torn between the stroke and all that was not corrected.
    is_torn = explanation.n_only_alone == n - explained
    what = (
        f"make {n - explained} of {n} voxels agree with the rest"
        if is_torn
        else (f"explain {n - explained} of {n} voxels")
    )
    says = f"The model cannot {what}: there your strokes stand, and change only what is close by."
    return says, tip
