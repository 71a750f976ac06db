"""Data that a fine-tuning mixes in against forgetting: the folder the model was trained on."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QWidget

from napari_structseg.session.state import FinetuningState
from napari_structseg.widgets.binding import bind
from napari_structseg.widgets.parts.section import Caption, SmallButton

REPLAY_TIP = (
    "Against forgetting: half of the patches come from the data set that the model was trained on, "
    "where you have it."
)


class ReplayRow(QWidget):
    """Name of the folder, and buttons to choose another or none.

    Parameters
    ----------
    choices
        Whose field it shows and sets.
    """

    def __init__(self, choices: FinetuningState, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._choices = choices
        self.caption = Caption()
        self.choose_button = SmallButton("Choose…", REPLAY_TIP)
        self.none_button = SmallButton("None", "Replay nothing.")
        self.dialog: QFileDialog | None = None
        self.choose_button.clicked.connect(self._on_choose)
        self.none_button.clicked.connect(partial(setattr, choices, "replay", ""))
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(4)
        row.addWidget(self.caption, 1)
        row.addWidget(self.none_button)
        row.addWidget(self.choose_button)
        bind(self, choices, "replay", self._show)

    def _on_choose(self) -> None:
        dialog = QFileDialog(self, "The data that the model was trained on")
        dialog.setFileMode(QFileDialog.FileMode.Directory)
        dialog.fileSelected.connect(partial(setattr, self._choices, "replay"))
        dialog.open()
        self.dialog = dialog

    def _show(self, folder: str) -> None:
        self.caption.setText(Path(folder).name if folder else "nothing")
        self.caption.setToolTip(folder)
        self.none_button.setVisible(bool(folder))
