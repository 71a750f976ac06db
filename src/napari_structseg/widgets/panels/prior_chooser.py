"""Whose MRF refines the labels."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog, QWidget

from napari_structseg.session.state import ExplorerState
from napari_structseg.widgets.binding import bind
from napari_structseg.widgets.parts.combo import NarrowCombo
from napari_structseg.widgets.parts.names import told_apart

_OTHER = "MRF of another model…"
_OWN = {True: "MRF of the model itself", False: "No MRF"}


class PriorChooser(NarrowCombo):
    """The model's own MRF, those of other models that fit, or one from a file.

    Parameters
    ----------
    state
        Whose ``source.prior`` it shows and sets.
    """

    def __init__(self, state: ExplorerState, parent: QWidget | None = None) -> None:
        super().__init__(parent=parent)
        self._state = state
        self.file_dialog: QFileDialog | None = None
        self.setToolTip(
            "Whose prior speaks for the neighbours: one that another model was trained with serves "
            "as well, if it is for as many classes, in the same order."
        )
        self.setAccessibleName("MRF")
        self.offer((), has_own=False)
        bind(self, state.source, "prior", self._show_choice)
        self.activated.connect(self._on_activated)

    @property
    def choice(self) -> str | None:
        """The model whose MRF is shown as in use; None: the model's own, if it has one."""
        choice: str | None = self.currentData()
        return choice

    def offer(self, models: Sequence[str], *, has_own: bool) -> None:
        """List what there is to choose from.

        Parameters
        ----------
        models
            Names or files of other models whose MRF fits.
        has_own
            Whether the model has an MRF.
        """
        self.clear()
        self.addItem(_OWN[has_own], None)
        for model in models:
            self._add(model)
        self.addItem(_OTHER, None)
        self._show_choice(self._state.source.prior)

    def _show_choice(self, model: str | None) -> None:
        """Show a model's MRF as chosen; None: the model's own, if it has one."""
        index = 0 if model is None else self.findData(model)
        if model is not None and index < 0:
            index = self._add(model)
        self.setCurrentIndex(index)

    def _add(self, model: str) -> int:
        """Add a model before the last entry, if that is there yet."""
        index = self.findText(_OTHER)
        index = self.count() if index < 0 else index
        self.insertItem(index, "", model)
        self.setItemData(index, model, Qt.ItemDataRole.ToolTipRole)
        listed = [self.itemData(place) for place in range(1, index + 1)]
        for place, name in enumerate(told_apart(listed), start=1):
            self.setItemText(place, f"MRF of {name}")
        return index

    def _on_activated(self, index: int) -> None:
        wanted: str | None = self.itemData(index)
        is_other = self.itemText(index) == _OTHER
        self._show_choice(self._state.source.prior)
        if not is_other:
            self._choose(wanted)
            return
        self.file_dialog = QFileDialog(self, "Choose a model", "", "Models (*.safetensors)")
        self.file_dialog.setFileMode(QFileDialog.FileMode.ExistingFile)
        self.file_dialog.fileSelected.connect(self._choose)
        self.file_dialog.open()

    def _choose(self, model: str | None) -> None:
        self._state.source.prior = model
