"""The journal of one session: a snapshot, and every action since.

The whole file is only ever replaced by another whole one; besides that, records are appended.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from napari_structseg.correction.actions import Correction
from napari_structseg.correction.differences import StrokesDifference, VolumeDifference
from napari_structseg.correction.entries import Entry, Event, Step
from napari_structseg.correction.records import (
    FIRST_LINE,
    Kind,
    Record,
    record_parts,
    records_of,
)
from napari_structseg.correction.stored import (
    Action,
    Note,
    Numbers,
    SessionHeader,
    Snapshot,
    Unpacking,
    stored_entry,
    stored_step,
)
from napari_structseg.distributions import Strokes
from napari_structseg.errors import InputError
from napari_structseg.io.atomic import atomic_path
from napari_structseg.memory import check_memory

JOURNAL_NAME = "journal"
SHORTEN_BEYOND_BYTES = 16_000_000
"""A journal that has grown by this, and to twice what it was, is written afresh."""


@dataclass
class Work:
    """Everything that a session keeps.

    Attributes
    ----------
    header
        What it is about.
    correction
        Result, locks, strokes, history.
    number
        How many actions there were: done, undone, done again.
    saved
        How many of them there were when the result was saved last.
    state, recipe
        JSON of whoever has noted it; None: nothing was noted.
    n_lost_bytes
        At the end of the journal that it was read from, of a record that is not whole.
    """

    header: SessionHeader
    correction: Correction
    number: int = 0
    saved: int = 0
    state: str | None = None
    recipe: str | None = None
    n_lost_bytes: int = 0


class Journal:
    """Writes the journal in one folder.

    Parameters
    ----------
    folder
        It exists.
    shorten_beyond
        By how many bytes it grows, at least, before it is written afresh.
    """

    def __init__(self, folder: Path, shorten_beyond: int = SHORTEN_BEYOND_BYTES) -> None:
        self._path = folder / JOURNAL_NAME
        self._shorten_beyond = shorten_beyond
        self._file: BinaryIO | None = None
        self._largest = 0

    @property
    def is_whole(self) -> bool:
        """Whether everything so far is in the file, so that it can be appended to."""
        return self._file is not None

    def write(self, work: Work) -> None:
        """Replace the journal by one that begins with what there is now.

        Raises
        ------
        InputError
            If the system refuses; the journal from before is left as it was.
        """
        self._sweep()
        was_whole = self.is_whole
        # Windows replaces no file that is open.
        self.close()
        try:
            with atomic_path(self._path) as temporary:
                with temporary.open("wb") as file:
                    file.write(FIRST_LINE)
                    for parts in _records_of_work(work):
                        file.writelines(parts)
                temporary.chmod(0o600)
        except InputError:
            if was_whole:
                self._file = self._path.open("ab")
            raise
        self._file = self._path.open("ab")
        self._largest = self._shorten_beyond + 2 * self._file.tell()

    def _sweep(self) -> None:
        """Remove what a process has left that was killed while it wrote."""
        for left in self._path.parent.glob(".*"):
            with suppress(OSError):
                left.unlink()

    def append(self, records: Sequence[Sequence[bytes]]) -> None:
        """Add records, on disk when this returns.

        Raises
        ------
        OSError
            If the system refuses. The journal ends in half a record then, and is not appended to
            until it was written afresh.
        """
        if self._file is None:
            raise ValueError("the journal is not open")
        try:
            for parts in records:
                self._file.writelines(parts)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError:
            self.close()
            raise

    @property
    def is_long(self) -> bool:
        """Whether it should be written afresh."""
        return self._file is not None and self._file.tell() > self._largest

    def postpone(self) -> None:
        """Let it grow on: it could not be written afresh."""
        self._largest *= 2

    def close(self) -> None:
        """Let go of the file."""
        file, self._file = self._file, None
        if file is not None:
            # What could not be written is tried again here, and was reported before.
            with suppress(OSError):
                file.close()


def action_record(event: Event, number: int) -> list[bytes]:
    """An event as a record; what is undone is known already."""
    if event.kind != "do":
        return record_parts(Kind.ACTION, Action(number=number, kind=event.kind, entry=None))
    stored, packed = stored_entry(event.entry)
    return record_parts(Kind.ACTION, Action(number=number, kind="do", entry=stored), packed)


def note_record(note: Note) -> list[bytes]:
    """A note as a record."""
    return record_parts(Kind.NOTE, note)


def numbers_record(work: Work) -> list[bytes]:
    """How many actions there are, and how many of them were saved, as a record."""
    return record_parts(Kind.COUNT, Numbers(number=work.number, saved=work.saved))


def read_work(folder: Path) -> Work:
    """Read a session.

    Raises
    ------
    InputError
        If it cannot be read, is damaged before its first whole snapshot, or is of another version.
    MemoryLimitError
        If there is no memory for it.
    """
    path = folder / JOURNAL_NAME
    try:
        with path.open("rb") as file:
            records = records_of(file, path)
            work = _begin(*(next(records, None) for _ in range(3)))
            for record in records:
                _follow(work, record)
            _check(work)
            work.n_lost_bytes = path.stat().st_size - file.tell()
    except OSError as error:
        raise InputError(
            f"Cannot read the session in {folder}: {error.strerror or error}. Check that the "
            "folder is there and that you may read it."
        ) from error
    except InputError as error:
        raise InputError(
            f"The session in {folder} cannot be read. {error} Open it with the version of "
            "napari-structseg that wrote it, or remove the folder if you do not need it."
        ) from error
    return work


def _begin(header: Record | None, numbers: Record | None, snapshot: Record | None) -> Work:
    if header is None or header.kind is not Kind.HEADER:
        raise InputError("Its journal is damaged at the beginning.")
    said = header.read_meta(SessionHeader)
    if (
        numbers is None
        or numbers.kind is not Kind.COUNT
        or snapshot is None
        or snapshot.kind is not Kind.SNAPSHOT
    ):
        raise InputError("Its journal is damaged before the first result.")
    shape, n_classes = said.image.shape, len(said.classes)
    n_voxels = int(np.prod([float(size) for size in shape]))
    check_memory(8 * n_voxels, "Opening the session")
    work = Work(said, Correction(shape, n_classes))
    content = snapshot.read_meta(Snapshot)
    unpacking = Unpacking(snapshot.packed, shape, n_classes)
    first = unpacking.entry(content.content)
    past = work.correction.past
    work.correction.begin(first)
    past.done += [unpacking.entry(one) for one in content.done]
    past.undone += [unpacking.entry(one) for one in content.undone]
    past.beyond_undo += [Step(one.name, one.details) for one in content.beyond_undo]
    counted = numbers.read_meta(Numbers)
    work.number, work.saved = counted.number, counted.saved
    return work


def _follow(work: Work, record: Record) -> None:
    """Do what a record says."""
    if record.kind is Kind.NOTE:
        note = record.read_meta(Note)
        work.state = work.state if note.state is None else note.state
        work.recipe = work.recipe if note.recipe is None else note.recipe
    elif record.kind is Kind.COUNT:
        counted = record.read_meta(Numbers)
        if counted.number != work.number:
            raise InputError(f"It counts {counted.number} actions after action {work.number}.")
        work.saved = counted.saved
    elif record.kind is Kind.ACTION:
        action = record.read_meta(Action)
        shape, n_classes = work.header.image.shape, len(work.header.classes)
        if action.number != work.number + 1:
            raise InputError(f"Action {action.number} follows action {work.number}.")
        entry = Entry("")
        if action.entry is not None:
            entry = Unpacking(record.packed, shape, n_classes).entry(action.entry)
        elif action.kind == "do":
            raise InputError("An action says nothing of what was done.")
        work.correction.replay(Event(action.kind, entry))
        work.number = action.number
    else:
        raise InputError(f"There is a second {record.kind.name.lower()}.")


def _check(work: Work) -> None:
    """Raise InputError unless the result consists of classes."""
    result = work.correction.result
    result.check_classes(result.labels)
    if result.locked.view(np.uint8).max() > 1:
        raise InputError("Its locked regions are damaged.")
    result.check_classes(work.correction.strokes.labels)


def _records_of_work(work: Work) -> list[list[bytes]]:
    result, past = work.correction.result, work.correction.past
    nothing = np.zeros_like(result.labels)
    gains = result.counts.copy()
    gains[0] -= nothing.size
    content = Entry(
        "",
        labels=VolumeDifference.between(nothing, result.labels),
        gains=tuple(gains.tolist()),
        locked=VolumeDifference.between(nothing, result.locked.view(np.uint8)),
        locked_classes=(frozenset(), result.locked_classes),
        strokes=StrokesDifference.between(Strokes.none(result.shape), work.correction.strokes),
    )
    packed: list[bytes] = []
    stored = []
    for entry in (content, *past.done, *past.undone):
        one, parts = stored_entry(entry)
        stored.append(one)
        packed += parts
    snapshot = Snapshot(
        content=stored[0],
        done=tuple(stored[1 : 1 + len(past.done)]),
        undone=tuple(stored[1 + len(past.done) :]),
        beyond_undo=tuple(stored_step(step) for step in past.beyond_undo),
    )
    return [
        record_parts(Kind.HEADER, work.header),
        numbers_record(work),
        record_parts(Kind.SNAPSHOT, snapshot, packed),
        note_record(Note(state=work.state, recipe=work.recipe)),
    ]
