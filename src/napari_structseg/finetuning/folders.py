"""Where runs of a window are kept: one folder for each, and which of them can go on."""

from __future__ import annotations

import os
import re
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
# As new_run_folder makes them.
_NAME = re.compile(r"\d{8}-\d{6}-[0-9a-f]{8}")
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
    found = (_unfinished(folder) for folder in _folders(root))
    return sorted(
        (one for one in found if one is not None), key=lambda one: one.changed, reverse=True
    )


@dataclass(frozen=True, slots=True)
class Done:
    """A run that has nothing left to do.

    Attributes
    ----------
    folder
        Of the run.
    model_name
        What it fine-tuned; empty: it cannot be read.
    reason
        How it ended.
    changed
        When, in UTC.
    n_bytes
        What its files take.
    weights
        Hash of what it offers; None: nothing.
    """

    folder: Path
    model_name: str
    reason: str
    changed: datetime
    n_bytes: int
    weights: str | None


def done_runs(root: Path) -> list[Done]:
    """Runs that no program is at and that cannot go on, the one of last first.

    Versions that were adopted of them are files of their own, see :class:`Versions`.
    """
    found = (_done(folder) for folder in _folders(root))
    return sorted(
        (one for one in found if one is not None), key=lambda one: one.changed, reverse=True
    )


def remove_run(folder: Path) -> None:
    """Remove a run with everything in it, as far as the system allows."""
    shutil.rmtree(folder, ignore_errors=True)


def _folders(root: Path) -> list[Path]:
    """Folders of runs by their name: nothing else is looked at, and nothing else removed."""
    try:
        return [one for one in root.iterdir() if _NAME.fullmatch(one.name) and one.is_dir()]
    except OSError:
        return []


def _done(folder: Path) -> Done | None:
    """A run that says how it ended, or whose report says that it has finished."""
    if is_locked(folder) or _unfinished(folder) is not None:
        return None
    try:
        reason = str(Ended.model_validate_json((folder / ENDED_NAME).read_bytes()).reason)
    except (OSError, ValidationError):
        reason = ""
    try:
        report = read_report(folder)
    except StructSegError:
        report = None
    if report is not None and report.weights is not None:
        reason = "finished"
    if not reason:
        # Somebody may be about to write it.
        return None
    try:
        files = [one.stat() for one in folder.rglob("*") if one.is_file()]
    except OSError:
        return None
    newest = max((one.st_mtime for one in files), default=0.0)
    return Done(
        folder,
        model_name="" if report is None else report.model_name,
        reason=reason,
        changed=datetime.fromtimestamp(newest, UTC),
        n_bytes=sum(one.st_size for one in files),
        weights=None if report is None else report.weights,
    )


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
