"""Writes every action to the session folder, in a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from psygnal import EmitLoopError, Signal

from napari_structseg.correction.actions import Correction
from napari_structseg.correction.entries import Event
from napari_structseg.correction.folders import FolderLock, new_folder, remove, sessions_root
from napari_structseg.correction.identity import ImageIdentity
from napari_structseg.correction.journal import (
    SHORTEN_BEYOND_BYTES,
    Journal,
    Work,
    action_record,
    note_record,
    read_work,
    saved_record,
)
from napari_structseg.correction.stored import Note, SessionHeader
from napari_structseg.errors import InputError, StructSegError
from napari_structseg.models import ClassSpec

logger = logging.getLogger(__name__)

# So long an action waits for the one before it to be on disk. Without a limit a disk that hangs
# would stop the program.
_PATIENCE_SECONDS = 2.0


class Autosave:
    """Keeps a session folder up to date with a correction.

    Every action is appended to a journal, in a thread. An action waits until the one before it is
    on disk, so that a crash loses the last one at most. The folder is made with the first action.

    ``failed(error)`` is emitted, mostly in that thread, when something could not be written; the
    work stays in memory, and everything is written again with the next action. ``written(number)``
    is emitted there when all up to an action is on disk.

    Parameters
    ----------
    correction
        What is kept. Nothing else may keep it.
    image
        What it belongs to.
    classes
        In label order.
    root
        Where sessions are kept; None: :func:`~napari_structseg.correction.folders.sessions_root`.
    shorten_beyond
        By how many bytes the journal grows, at least, before it is written afresh.

    Raises
    ------
    ValueError
        If the classes are not those of the correction.
    """

    written = Signal(int)
    failed = Signal(object)

    def __init__(
        self,
        correction: Correction,
        image: ImageIdentity,
        classes: Sequence[ClassSpec],
        *,
        root: Path | None = None,
        shorten_beyond: int = SHORTEN_BEYOND_BYTES,
    ) -> None:
        if len(classes) != correction.result.n_classes:
            raise ValueError(f"{len(classes)} classes, not {correction.result.n_classes}")
        header = SessionHeader(
            program=version("napari-structseg"),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            image=image,
            classes=tuple(classes),
        )
        root = sessions_root() if root is None else root
        self._start(Work(header, correction), root, shorten_beyond)

    @classmethod
    def reopen(
        cls, folder: Path, *, shorten_beyond: int = SHORTEN_BEYOND_BYTES
    ) -> tuple[Autosave, Work]:
        """Go on with the session in a folder.

        Returns
        -------
        autosave
            Of ``work.correction``; it writes to the same folder.
        work
            What was in it.

        Raises
        ------
        InputError
            If it cannot be read, or another program writes to it.
        """
        if not folder.is_dir():
            raise InputError(f"There is no session folder {folder}.")
        lock = FolderLock(folder)
        try:
            work = read_work(folder)
        except StructSegError:
            lock.release()
            raise
        autosave = cls.__new__(cls)
        autosave._start(work, folder.parent.parent, shorten_beyond, folder, lock)
        return autosave, work

    def _start(
        self,
        work: Work,
        root: Path,
        shorten_beyond: int,
        folder: Path | None = None,
        lock: FolderLock | None = None,
    ) -> None:
        self._correction = work.correction
        self._root, self._folder, self._lock = root, folder, lock
        self._shorten_beyond = shorten_beyond
        # The thread follows with a copy: it can write all of it while the user goes on.
        self._copy = replace(work, correction=work.correction.copy())
        self._journal: Journal | None = None
        self._condition = threading.Condition()
        self._events: list[Event] = []
        self._note = Note()
        self._number = work.number
        self._handled = work.number
        self._saved = work.saved
        self._is_busy = self._is_closed = self._is_discarded = False
        # Whether something could not be written.
        self._is_behind = False
        work.correction.recorded.connect(self._on_recorded)
        self._thread = threading.Thread(target=self._loop, name="structseg-autosave", daemon=True)
        self._thread.start()

    @property
    def folder(self) -> Path | None:
        """The session folder; None: nothing was written yet."""
        return self._folder

    @property
    def header(self) -> SessionHeader:
        """What the session is about."""
        return self._copy.header

    @property
    def is_unsaved(self) -> bool:
        """Whether there is work that is in no file of the user."""
        return self._number > self._saved

    @property
    def worker(self) -> threading.Thread:
        """The thread that writes."""
        return self._thread

    def note(self, *, state: str | None = None, recipe: str | None = None) -> None:
        """Keep what was chosen, too; it is written with the next action, or soon.

        Parameters
        ----------
        state
            JSON of the explorer's state; None: as before.
        recipe
            JSON of what made the segmentation that is explored; None: as before.
        """
        with self._condition:
            self._note = Note(
                state=self._note.state if state is None else state,
                recipe=self._note.recipe if recipe is None else recipe,
            )
            self._condition.notify_all()

    def note_saved(self) -> None:
        """The result as it is now is in a file of the user."""
        with self._condition:
            self._saved = self._number
            self._condition.notify_all()

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until everything was written, or could not be; False after `timeout` seconds."""
        with self._condition:
            return self._condition.wait_for(
                lambda: not (self._has_work() or self._is_busy), timeout
            )

    def close(self, timeout: float | None = None) -> bool:
        """Write what is left and end; False if `timeout` seconds were not enough.

        A session without unsaved work is not offered for recovery.
        """
        self._correction.recorded.disconnect(self._on_recorded, missing_ok=True)
        with self._condition:
            self._is_closed = True
            self._condition.notify_all()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def discard(self) -> None:
        """End, and remove the session folder: the user does not want it.

        Raises
        ------
        InputError
            If the system refuses to remove it.
        """
        with self._condition:
            self._is_discarded = True
        self.close()
        if self._folder is not None and self._folder.exists():
            remove(self._folder)

    def _on_recorded(self, event: Event) -> None:
        with self._condition:
            self._number += 1
            self._events.append(event)
            self._condition.notify_all()
            keeps_up = self._condition.wait_for(
                lambda: self._number - self._handled <= 1, _PATIENCE_SECONDS
            )
        if not keeps_up:
            self._tell(
                InputError(
                    f"Writing the session to {self._folder or self._root} takes long: the last "
                    f"{self._number - self._handled} actions are not on disk yet."
                )
            )

    def _has_work(self) -> bool:
        has_note = self._note != Note() and self._number > 0
        return bool(self._events) or has_note or self._copy.saved != self._saved

    def _loop(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._has_work() or self._is_closed)
                if not self._has_work() or self._is_discarded:
                    break
                events, self._events = self._events, []
                note, self._note = self._note, Note()
                saved = self._saved
                self._is_busy = True
            error = self._keep(events, note, saved)
            self._is_behind = error is not None
            with self._condition:
                self._is_busy = False
                self._handled += len(events)
                self._condition.notify_all()
            if error is not None:
                self._tell(error)
            else:
                self._emit_written()
        self._end()

    def _end(self) -> None:
        if self._is_behind and not self._is_discarded:
            error = self._keep([], Note(), self._saved)
            if error is not None:
                self._tell(error)
        if self._journal is not None:
            self._journal.close()
        if self._lock is not None:
            self._lock.release()

    def _keep(self, events: list[Event], note: Note, saved: int) -> Exception | None:
        """Follow with the copy, and write; what went wrong comes back."""
        copy = self._copy
        records = self._saved_records(saved)
        try:
            for event in events:
                copy.correction.replay(event)
                copy.number += 1
                records.append(action_record(event, copy.number))
                # Where it belongs: what comes behind it is unsaved.
                records += self._saved_records(saved)
            if note != Note():
                copy.state = copy.state if note.state is None else note.state
                copy.recipe = copy.recipe if note.recipe is None else note.recipe
                records.append(note_record(note))
            self._write(records)
        except OSError as error:
            return InputError(
                f"Cannot write the session in {self._folder}: {error.strerror or error}. Check "
                "that the disk has room and that you may write there. Your work is in memory and "
                "is written with the next action; save the result to another disk."
            )
        except StructSegError as error:
            return error
        except Exception as error:  # at the top of a thread: it must live on
            logger.error("the session could not be written", exc_info=error)
            if self._journal is not None:
                self._journal.close()
            return error
        return None

    def _saved_records(self, saved: int) -> list[bytes]:
        copy = self._copy
        if copy.saved == saved or copy.number != saved:
            return []
        copy.saved = saved
        return [saved_record(saved)]

    def _write(self, records: list[bytes]) -> None:
        if self._journal is None:
            if self._folder is None:
                self._folder = new_folder(self._root, self._copy.header.image)
            if self._lock is None:
                self._lock = FolderLock(self._folder)
            self._journal = Journal(self._folder, self._shorten_beyond)
        if not self._journal.is_whole:
            self._journal.write(self._copy)
            return
        self._journal.append(records)
        if self._journal.is_long:
            try:
                self._journal.write(self._copy)
            except InputError as error:
                # What there is, is whole; it only grows on.
                logger.warning("the journal was not shortened: %s", error)
                self._journal.postpone()

    def _emit_written(self) -> None:
        try:
            self.written.emit(self._copy.number)
        except EmitLoopError:
            logger.exception("a listener failed")

    def _tell(self, error: Exception) -> None:
        if isinstance(error, StructSegError):
            logger.warning("%s", error)
        try:
            self.failed.emit(error)
        except EmitLoopError:
            logger.exception("a listener failed")
