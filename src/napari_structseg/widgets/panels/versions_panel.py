"""The versions of a model that were adopted: go back to one, or export it."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from pathlib import Path

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QListWidgetItem, QVBoxLayout, QWidget

from napari_structseg.finetuning.families import versions_of
from napari_structseg.finetuning.versions import Version, Versions
from napari_structseg.io.model_files import find_model
from napari_structseg.models import ModelSpec
from napari_structseg.widgets.binding import follow
from napari_structseg.widgets.controller import Controller
from napari_structseg.widgets.finetuning.preview import Preview
from napari_structseg.widgets.panels.disputed_panel import RegionList
from napari_structseg.widgets.parts.section import Note, SmallButton
from napari_structseg.widgets.threads.background import Background

_NONE = "What you adopt is kept here for good, together with the model as it was."


class VersionsPanel(QWidget):
    """A list, newest first, with a button to go back and one to export.

    Parameters
    ----------
    controller
        Knows which model is shown.
    preview
        Runs a version and puts it in the place of what is shown.
    """

    def __init__(
        self, controller: Controller, preview: Preview, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._controller, self._preview = controller, preview
        self.versions: list[Version] = []
        self._family: Versions | None = None
        self._model: str | None = None
        self._reading: Background[tuple[Versions, list[Version]]] | None = None
        self._exporting: Background[Path] | None = None
        self.save_dialog: QFileDialog | None = None
        self.note = Note(_NONE)
        self.list = RegionList()
        self.list.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.list.setMaximumHeight(self.list.sizeHint().height())
        self.list.currentRowChanged.connect(self.show_buttons)
        self.back_button = SmallButton(
            "Use this one", "Put this version in the place of the model, exactly as it was."
        )
        self.export_button = SmallButton("Export…", "Write its weights to a file of yours.")
        self.back_button.clicked.connect(self._on_back)
        self.export_button.clicked.connect(self._on_export)
        row = QHBoxLayout()
        row.setSpacing(4)
        row.addWidget(self.back_button)
        row.addWidget(self.export_button)
        row.addStretch(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.note)
        layout.addWidget(self.list)
        layout.addLayout(row)
        follow(self, preview.changed, self.refresh)
        self.refresh()

    @property
    def chosen(self) -> Version | None:
        """The version that is marked in the list."""
        row = self.list.currentRow()
        return self.versions[row] if 0 <= row < len(self.versions) else None

    def is_busy(self) -> bool:
        """Whether it reads or writes."""
        return self._reading is not None or self._exporting is not None

    def refresh(self) -> None:
        """List the versions of the model that is shown, if it is another one now."""
        shown = self._controller.current
        is_model = shown is not None and shown.run is not None
        model = None
        if shown is not None and shown.run is not None and isinstance(shown.given, ModelSpec):
            model = shown.run.model
        if model != self._model:
            self._model = model
            self._read(model if is_model else None)
        self.show_buttons()

    def close_reading(self) -> None:
        """Tell nothing of what is still read."""
        for background in (self._reading, self._exporting):
            if background is not None:
                background.close()

    def export(self, path: str) -> None:
        """Write the weights of the version that is marked to a new file."""
        chosen, family = self.chosen, self._family
        if chosen is not None and family is not None:
            self._exporting = Background(
                partial(family.export, chosen, Path(path)), self._on_exported
            )

    def show_buttons(self, _row: int = 0) -> None:
        """Offer what can be done with the version that is marked."""
        chosen, in_use = self.chosen, self._model
        self.export_button.setEnabled(chosen is not None)
        is_other = chosen is not None and str(chosen.weights) != in_use
        self.back_button.setEnabled(is_other)

    def _read(self, model: str | None) -> None:
        if self._reading is not None:
            self._reading.close()
            self._reading = None
        if model is None:
            self._show((None, []))
            return
        self._reading = Background(partial(_versions, model), self._on_read)

    def _on_read(self, found: tuple[Versions, list[Version]] | Exception) -> None:
        self._reading = None
        if isinstance(found, Exception):
            self._controller.failed.emit(found)
        else:
            self._show(found)

    def _show(self, found: tuple[Versions | None, list[Version]]) -> None:
        self._family, versions = found
        self.versions = versions[::-1]
        self.list.clear()
        for version in self.versions:
            text, tip = in_words(version, self.versions)
            is_used = str(version.weights) == self._model
            item = QListWidgetItem(f"{text} · in use" if is_used else text)
            item.setToolTip(tip)
            self.list.addItem(item)
        has_any = bool(self.versions)
        self.note.setVisible(not has_any)
        for widget in (self.list, self.back_button, self.export_button):
            widget.setVisible(has_any)
        self.show_buttons()

    def _on_back(self) -> None:
        if self.chosen is not None and self._family is not None:
            self._preview.go_back(self._family, self.chosen)

    def _on_export(self) -> None:
        dialog = QFileDialog(self, "Export the weights")
        dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        dialog.setNameFilter("Models (*.safetensors)")
        dialog.setDefaultSuffix("safetensors")
        dialog.fileSelected.connect(self.export)
        dialog.open()
        self.save_dialog = dialog

    def _on_exported(self, path: Path | Exception) -> None:
        self._exporting = None
        if isinstance(path, Exception):
            self._controller.failed.emit(path)
        else:
            self._controller.said.emit(f"Exported {path.name}")


def _versions(model: str) -> tuple[Versions, list[Version]]:
    family = versions_of(find_model(model))
    return family, family.all()


def in_words(version: Version, versions: list[Version]) -> tuple[str, str]:
    """A version in a line, and what else is known of it."""
    record = version.record
    when = datetime.fromisoformat(record.adopted).astimezone().strftime("%d %b %Y, %H:%M")
    if record.parent is None:
        return f"{record.number} · the model as it was", f"Kept {when}"
    parents = [
        one.record.number
        for one in versions
        if one.record.sha256 == record.parent and one.record.number < record.number
    ]
    parts = [str(record.number), f"from {parents[0]}" if parents else "", when]
    before, after = record.corrections.before, record.corrections.after
    if before is not None and after is not None:
        parts.append(f"Dice {before.mean_dice:.3f} → {after.mean_dice:.3f}")
    tip = f"{record.steps} steps. "
    if record.held_out:
        tip += f"Dice on {record.held_out}. "
    return " · ".join(part for part in parts if part), f"{tip}{version.weights}"
