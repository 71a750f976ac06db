"""Where runs of a window are kept: one folder for each, and which of them can go on."""

from __future__ import annotations

import os
import secrets
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from napari_structseg.correction.folders import is_locked, sessions_root
from napari_structseg.errors import StructSegError
from napari_structseg.finetuning.events import Ended
from napari_structseg.finetuning.report import read_report
from napari_structseg.io.atomic import atomic_path
from napari_structseg.training.trainer import CHECKPOINT_NAME

VARIABLE = "STRUCTSEG_FINETUNING"
ENDED_NAME = "ended.json"
_MAY_GO_ON = ("cancelled", "orphaned", "crashed")


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A run that was interrupted, and has a checkpoint to go on from.

    Attributes
    ----------
    folder
        Of the run.
    model_name
        What it fine-tunes.
    changed
        When its checkpoint was written, in UTC.
    steps
        How many it is to take.
    """

    folder: Path
    model_name: str
    changed: datetime
    steps: int


def runs_root() -> Path:
    """The folder of all runs: ``STRUCTSEG_FINETUNING``, or beside that of sessions."""
    named = os.environ.get(VARIABLE)
    return Path(named).expanduser() if named else sessions_root().parent / "finetuning"


def new_run_folder(root: Path) -> Path:
    """A folder for a new run, not made yet."""
    now = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    return root / f"{now}-{secrets.token_hex(4)}"


def note_ended(folder: Path, ended: Ended) -> None:
    """Write down how a run has ended.

    Raises
    ------
    InputError
        If the system refuses.
    """
    with atomic_path(folder / ENDED_NAME) as temporary:
        temporary.write_text(ended.model_dump_json(), encoding="utf-8")


def unfinished_runs(root: Path) -> list[Unfinished]:
    """Runs that can go on and that no program is at, the one of last first."""
    try:
        folders = [one for one in root.iterdir() if one.is_dir()]
    except OSError:
        return []
    found = (_unfinished(folder) for folder in folders)
    return sorted(
        (one for one in found if one is not None), key=lambda one: one.changed, reverse=True
    )


def remove_run(folder: Path) -> None:
    """Remove a run with everything in it, as far as the system allows."""
    shutil.rmtree(folder, ignore_errors=True)


def _unfinished(folder: Path) -> Unfinished | None:
    try:
        changed = datetime.fromtimestamp((folder / CHECKPOINT_NAME).stat().st_mtime, UTC)
        report = read_report(folder)
    except (OSError, StructSegError):
        return None
    if report.weights is not None or is_locked(folder) or not _may_go_on(folder):
        return None
    return Unfinished(folder, report.model_name, changed, report.settings.steps)


def _may_go_on(folder: Path) -> bool:
    """Whether a run has ended in a way that leaves something to do; a killed one says nothing."""
    try:
        ended = Ended.model_validate_json((folder / ENDED_NAME).read_bytes())
    except (OSError, ValidationError):
        return True
    return ended.reason in _MAY_GO_ON
