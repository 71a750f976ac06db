"""Where to save the segmentation, and in which format."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple, Protocol

from qtpy.QtWidgets import QFileDialog, QWidget

from napari_structseg.image import Image
from napari_structseg.results.kept_files import stem_of
from napari_structseg.session.state import ControlsState, LatentPosition, Sample

_UNSAFE = re.compile(r"[^\w.-]+")


class Listed(NamedTuple):
    """A format as the dialog lists it.

    Attributes
    ----------
    words
        What it is.
    suffix
        Of its files, without the first dot.
    keep_patient
        Whether its files say who the patient is.
    """

    words: str
    suffix: str
    keep_patient: bool = False


NIFTI = Listed("NIfTI (*.nii.gz *.nii)", "nii.gz")
NRRD = Listed("Segmentation for 3D Slicer (*.seg.nrrd)", "seg.nrrd")
DICOM = Listed("DICOM segmentation, the patient not named (*.dcm)", "dcm")
DICOM_NAMED = Listed("DICOM segmentation that names the patient (*.dcm)", "dcm", keep_patient=True)
REPORT = Listed("Report on one page (*.html)", "html")


class Chosen(Protocol):
    """What is called with the path that was chosen."""

    def __call__(self, path: str, *, keep_patient: bool) -> object:
        """Save there."""


def formats_of(image: Image, *, with_report: bool = False) -> list[Listed]:
    """What an image's segmentation can be saved as: DICOM needs a DICOM series."""
    is_dicom = image.source is not None and bool(image.source.frames)
    listed = [NIFTI, NRRD, *([DICOM, DICOM_NAMED] if is_dicom else [])]
    return [*listed, REPORT] if with_report else listed


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
    parent: QWidget, name: str, folder: Path | None, formats: list[Listed], chosen: Chosen
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
    formats
        What can be chosen, the suggested one first.
    chosen
        Called with the path, which ends in the suffix of the format where nothing else was typed.
    """
    dialog = QFileDialog(parent, "Save the segmentation", "" if folder is None else str(folder))
    dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
    by_words = {one.words: one for one in formats}

    def list_format(words: str) -> None:
        # Qt adds a suffix after asking about an existing file, so that it must be complete before.
        one = by_words[words]
        dialog.setDefaultSuffix(one.suffix)
        selected = dialog.selectedFiles()
        written = Path(selected[0]).name if selected else name
        # Qt may have replaced the last part of a double suffix already.
        stem = stem_of(Path(stem_of(Path(written)))).removesuffix(".seg")
        dialog.selectFile(f"{stem}.{one.suffix}")

    def choose(path: str) -> None:
        chosen(path, keep_patient=by_words[dialog.selectedNameFilter()].keep_patient)

    dialog.setNameFilters(list(by_words))
    dialog.selectFile(name)
    dialog.setDefaultSuffix(formats[0].suffix)
    dialog.filterSelected.connect(list_format)
    dialog.fileSelected.connect(choose)
    dialog.open()
    return dialog


def _stem(image: str) -> str:
    stem = image.removesuffix(".gz").removesuffix(".nii")
    return _UNSAFE.sub("-", stem).strip("-.") or "image"
