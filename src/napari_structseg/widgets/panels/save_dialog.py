"""Where to save the segmentation."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from qtpy.QtWidgets import QFileDialog, QWidget

from napari_structseg.session.state import ControlsState, LatentPosition, Sample

_LISTED = "NIfTI (*.nii.gz *.nii)"
_UNSAFE = re.compile(r"[^\w.-]+")


def suggested_name(image: str, controls: ControlsState) -> str:
    """A name that says of what the segmentation is, and which one."""
    chosen = controls.chosen
    which = "mean"
    if isinstance(chosen, Sample):
        which = f"seed-{controls.seed}-sample-{chosen.number:03d}"
    elif isinstance(chosen, LatentPosition):
        which = "latent"
    return f"{_stem(image)}_{which}.nii.gz"


def result_name(image: str) -> str:
    """A name for the user's own result."""
    return f"{_stem(image)}_result.nii.gz"


def open_save_dialog(
    parent: QWidget, name: str, folder: Path | None, chosen: Callable[[str], None]
) -> QFileDialog:
    """Ask for a file, without keeping the window waiting.

    Parameters
    ----------
    parent
        The dialog lies above it.
    name
        What is suggested.
    folder
        Where the dialog begins; None: where it was last.
    chosen
        Called with the path, which ends in .nii.gz where nothing else was typed.
    """
    dialog = QFileDialog(parent, "Save the segmentation", "" if folder is None else str(folder))
    dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
    dialog.setNameFilter(_LISTED)
    dialog.selectFile(name)
    # Qt adds a suffix after asking about an existing file, so that it must be complete before.
    dialog.setDefaultSuffix("nii.gz")
    dialog.fileSelected.connect(chosen)
    dialog.open()
    return dialog


def _stem(image: str) -> str:
    stem = image.removesuffix(".gz").removesuffix(".nii")
    return _UNSAFE.sub("-", stem).strip("-.") or "image"
