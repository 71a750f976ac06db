"""Where versions are kept: one folder for each model, and how a run becomes a version."""

from __future__ import annotations

import os
from pathlib import Path

from napari_structseg.correction.folders import sessions_root
from napari_structseg.errors import InputError
from napari_structseg.finetuning.report import Report, read_report
from napari_structseg.finetuning.run import PARENT_NAME, TUNED_NAME
from napari_structseg.finetuning.versions import SHOWN_OF_HASH, Version, Versions, folders_in
from napari_structseg.io.references import file_hash
from napari_structseg.io.weights import weights_hash

VARIABLE = "STRUCTSEG_VERSIONS"


def versions_root() -> Path:
    """The folder of all versions: ``STRUCTSEG_VERSIONS``, or beside that of sessions."""
    named = os.environ.get(VARIABLE)
    return Path(named).expanduser() if named else sessions_root().parent / "versions"


def versions_of(model: Path, root: Path | None = None) -> Versions:
    """The family of a model: that which has a version with these weights, or one yet to be made.

    Parameters
    ----------
    model
        File of its weights.
    root
        See :func:`versions_root`, which is the default.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    root = versions_root() if root is None else root
    sha256 = weights_hash(model)
    for family in families(root):
        if any(one.record.sha256 == sha256 for one in family.all()):
            return family
    return Versions(root / sha256[:SHOWN_OF_HASH])


def families(root: Path | None = None) -> list[Versions]:
    """Every model with versions, in order of its folder's name."""
    found = (Versions(folder) for folder in folders_in(root or versions_root()))
    return [family for family in found if family.all()]


def adopt_run(folder: Path, root: Path | None = None, note: str = "") -> Version:
    """Keep the result of a run, and what it was made from, and put the result into use.

    Parameters
    ----------
    folder
        Of a run that has finished.
    root
        See :func:`versions_root`, which is the default.
    note
        What the user says of it.

    Raises
    ------
    InputError
        If it is no run that has finished, its weights were changed since, or the system refuses.
    WeightsError
        If a file cannot be used.
    """
    report = read_report(folder)
    tuned = folder / TUNED_NAME
    if report.weights is None or not tuned.is_file() or file_hash(tuned) != report.weights:
        raise InputError(
            f"The run in {folder} has not finished, or {TUNED_NAME} was changed since. Go on with "
            f"it: structseg finetune --resume --out {folder}"
        )
    parent = _parent_file(folder, report)
    family = versions_of(parent, root)
    if not family.all():
        family.adopt(parent)
    return family.adopt(tuned, report, note)


def _parent_file(folder: Path, report: Report) -> Path:
    """The weights that a run began with, as a file with their bytes."""
    kept = folder / PARENT_NAME
    if not kept.is_file() or file_hash(kept) != report.parent:
        raise InputError(
            f"{kept} is not the model that the run in {folder} began with: it was changed or "
            "removed. Fine-tune again."
        )
    return kept
