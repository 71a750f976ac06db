"""Work came back without what a model says of the image: an offer to run the model again."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_structseg.session.state import SourceState
from napari_structseg.widgets.binding import bind
from napari_structseg.widgets.parts.section import Note, SmallButton

_SAYS = (
    "Your result and your strokes are back. Run a model on the image to see what it makes of them."
)


class RerunRow(QWidget):
    """A note, and a button that runs the chosen model.

    Parameters
    ----------
    source
        Says which model is chosen.
    """

    def __init__(self, source: SourceState, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.note = Note(_SAYS)
        self.run_button = SmallButton("Run", "Run the model on the image, as in Explore.")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.note)
        layout.addWidget(self.run_button)
        bind(self, source, "model", self._show_model)

    def _show_model(self, model: str | None) -> None:
        name = "" if model is None else Path(model).name.removesuffix(".safetensors")
        self.run_button.setText(f"Run {name}".strip())
        self.run_button.setEnabled(model is not None)
