"""The list of models, and the dialogs that add one of the user's files to it."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog, QWidget

from napari_structseg.io.model_files import shipped_models
from napari_structseg.session.state import ExplorerState
from napari_structseg.widgets.binding import bind
from napari_structseg.widgets.parts.combo import NarrowCombo
from napari_structseg.widgets.parts.names import told_apart

# What is chosen by a dialog: its title, and the files it lists.
_MAPS, _FROM_FILE = "Probability map…", "From file…"
_MEMBERS = "Predictions of other programs…"
_DIALOGS = {
    _MAPS: ("Choose class probabilities", "Class probabilities (*.nii *.nii.gz)"),
    _MEMBERS: ("Choose a folder that holds one folder for each member, such as each fold", ""),
    _FROM_FILE: ("Choose a model", "Models (*.safetensors *.toml *.npz)"),
}


class ModelChooser(NarrowCombo):
    """Shipped models by name, files that were chosen, and class probabilities in their place.

    Parameters
    ----------
    state
        Whose ``source.model`` it shows and sets.
    """

    def __init__(self, state: ExplorerState, parent: QWidget | None = None) -> None:
        super().__init__("Choose a model", parent)
        self._source = state.source
        self.file_dialog: QFileDialog | None = None
        self.setToolTip(
            "What segments the image. Class probabilities from elsewhere can take a model's place: "
            "a 4-D file on the image's voxel grid, with classes along the last axis. So can "
            "predictions of other programs, such as the folds of nnU-Net."
        )
        for name in shipped_models():
            self.addItem(name, name)
        for name in _DIALOGS:
            self.addItem(name, None)
        bind(self, state.source, "model", self._show_model)
        self.activated.connect(self._on_activated)

    @property
    def listed(self) -> list[str]:
        """Every entry that can be run, by name or path."""
        entries = [self.itemData(index) for index in range(self.count())]
        return [entry for entry in entries if entry is not None]

    def _show_model(self, model: str | None) -> None:
        index = -1 if model is None else self.findData(model)
        if model is not None and index < 0:
            index = self._add(model)
        self.setCurrentIndex(index)

    def _add(self, model: str) -> int:
        index = self.findText(_MAPS)
        self.insertItem(index, "", model)
        self.setItemData(index, model, Qt.ItemDataRole.ToolTipRole)
        listed = [self.itemData(place) for place in range(index + 1)]
        for place, name in enumerate(told_apart(listed)):
            self.setItemText(place, name)
        return index

    def _on_activated(self, index: int) -> None:
        dialog = _DIALOGS.get(self.itemText(index))
        if dialog is None:
            self._source.model = self.itemData(index)
            return
        self._show_model(self._source.model)
        title, listed = dialog
        self.file_dialog = QFileDialog(self, title, "", listed)
        is_folder = dialog is _DIALOGS[_MEMBERS]
        mode = QFileDialog.FileMode.Directory if is_folder else QFileDialog.FileMode.ExistingFile
        self.file_dialog.setFileMode(mode)
        self.file_dialog.fileSelected.connect(self._choose)
        self.file_dialog.open()

    def _choose(self, file: str) -> None:
        self._source.model = file
