"""Model, result, or both: which of the layers that lie over each other are seen."""

from __future__ import annotations

from functools import partial

from qtpy.QtWidgets import QHBoxLayout, QWidget

from napari_structseg.widgets.binding import follow
from napari_structseg.widgets.correcting.sides import Side, Sides
from napari_structseg.widgets.parts.section import Caption, SmallButton

_OPTIONS: tuple[tuple[Side, str, str], ...] = (
    ("model", "Model", "See what the model shows, and not the result (Shift T: the other one)."),
    ("result", "Result", "See the result, and not what the model shows (Shift T: the other one)."),
    ("both", "Both", "See the result over what the model shows."),
)


class SidesRow(QWidget):
    """Three buttons, of which the one that is true is pressed; napari's eyes are the truth.

    Parameters
    ----------
    sides
        Shows and hides.
    """

    def __init__(self, sides: Sides, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._sides = sides
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(4)
        row.addWidget(Caption("Show"))
        self.buttons: dict[Side, SmallButton] = {}
        for side, name, tip in _OPTIONS:
            button = SmallButton(name, tip)
            button.setCheckable(True)
            button.clicked.connect(partial(self._on_click, side))
            row.addWidget(button)
            self.buttons[side] = button
        follow(self, sides.changed, self.show_side)
        self.show_side()

    def show_side(self) -> None:
        """Show what is seen."""
        self.setVisible(self._sides.has_both)
        side = self._sides.side
        for option, button in self.buttons.items():
            button.setChecked(option == side)

    def _on_click(self, side: Side) -> None:
        self._sides.choose(side)
        self.show_side()
