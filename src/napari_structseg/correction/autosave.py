"""Writes every action to the session folder, in a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from psygnal import EmitLoopError, Signal

from napari_structseg.correction.actions import Correction
from napari_structseg.correction.entries import Event
from napari_structseg.correction.folders import FolderLock, remove, sessions_root
from napari_structseg.correction.identity import ImageIdentity
from napari_structseg.correction.journal import SHORTEN_BEYOND_BYTES, Work, read_work
from napari_structseg.correction.stored import Note, SessionHeader
from napari_structseg.correction.writing import News, SessionWriter
from napari_structseg.errors import InputError, StructSegError
from napari_structseg.models import ClassSpec

logger = logging.getLogger(__name__)

# So long an action waits for the one before it to be on disk. Without a limit a disk that hangs
# would stop the program.
_PATIENCE_SECONDS = 2.0
# So long a note waits for another one: while a slider moves, not every value goes to disk.
_NOTE_SECONDS = 0.5


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
        with ExitStack() as stack:
            lock = FolderLock(folder)
            stack.callback(lock.release)
            work = read_work(folder)
            stack.pop_all()
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
        self._writer = SessionWriter(work, root, shorten_beyond, folder, lock)
        self._condition = threading.Condition()
        self._events: list[Event] = []
        self._note = Note()
        self._number = work.number
        self._handled = work.number
        self._saved = work.saved
        # What the writer has to go on with, once it could not follow.
        self._fresh: Correction | None = None
        self._n_hurried = 0
        self._has_saved = False
        self._is_busy = self._is_closed = self._is_discarded = False
        work.correction.recorded.connect(self._on_recorded)
        self._thread = threading.Thread(target=self._loop, name="structseg-autosave", daemon=True)
        self._thread.start()

    @property
    def folder(self) -> Path | None:
        """The session folder; None: nothing was written yet."""
        return self._writer.folder

    @property
    def header(self) -> SessionHeader:
        """What the session is about."""
        return self._writer.header

    @property
    def number(self) -> int:
        """How many actions there were: done, undone, done again."""
        return self._number

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

    def note_saved(self, number: int | None = None) -> None:
        """The result is in a file of the user.

        Parameters
        ----------
        number
            The :attr:`number` that there was when the result that was saved was copied; None: it
            is as it is now.
        """
        with self._condition:
            self._saved = self._number if number is None else number
            self._has_saved = True
            self._condition.notify_all()

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until everything was written, or could not be; False after `timeout` seconds."""
        with self._condition:
            self._n_hurried += 1
            self._condition.notify_all()
            is_done = self._condition.wait_for(
                lambda: not (self._has_work() or self._is_busy), timeout
            )
            self._n_hurried -= 1
            return is_done

    def close(self, timeout: float | None = None) -> bool:
        """Write what is left and end; False if `timeout` seconds were not enough.

        A session without unsaved work is not offered for recovery.
        """
        self._correction.recorded.disconnect(self._on_recorded, missing_ok=True)
        with self._condition:
            if self._writer.is_lost and not self._is_closed:
                self._fresh = self._correction.copy()
                self._events.clear()
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
        if self.folder is not None and self.folder.exists():
            remove(self.folder)

    def _on_recorded(self, event: Event) -> None:
        with self._condition:
            self._number += 1
            if self._writer.is_lost:
                self._fresh = self._correction.copy()
                self._events.clear()
            else:
                self._events.append(event)
            self._condition.notify_all()
            keeps_up = self._condition.wait_for(
                lambda: self._number - self._handled <= 1, _PATIENCE_SECONDS
            )
        if not keeps_up:
            self._tell(
                InputError(
                    f"Writing the session to {self.folder or 'its folder'} takes long: the last "
                    f"{self._number - self._handled} actions are not on disk yet."
                )
            )

    def _has_actions(self) -> bool:
        return bool(self._events) or self._has_saved or self._fresh is not None

    def _has_work(self) -> bool:
        has_note = self._note != Note() and self._number > 0
        return self._has_actions() or has_note

    def _is_urgent(self) -> bool:
        return self._has_actions() or self._is_closed or self._n_hurried > 0

    def _loop(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._has_work() or self._is_closed)
                self._condition.wait_for(self._is_urgent, _NOTE_SECONDS)
                if not self._has_work() or self._is_discarded:
                    break
                news = self._take_news()
                self._is_busy = True
            error = self._writer.keep(news)
            with self._condition:
                self._handled = news.number
                self._condition.notify_all()
            if error is not None:
                self._tell(error)
            else:
                self._emit_written()
            # Whoever waits until all is done has been told, too.
            with self._condition:
                self._is_busy = False
                self._condition.notify_all()
        error = self._writer.end(is_wanted=not self._is_discarded)
        if error is not None:
            self._tell(error)

    def _take_news(self) -> News:
        news = News(self._fresh, self._events, self._note, self._number, self._saved)
        self._fresh, self._events, self._note, self._has_saved = None, [], Note(), False
        return news

    def _emit_written(self) -> None:
        try:
            self.written.emit(self._writer.number)
        except EmitLoopError:
            logger.exception("a listener failed")

    def _tell(self, error: Exception) -> None:
        if isinstance(error, StructSegError):
            logger.warning("%s", error)
        try:
            self.failed.emit(error)
        except EmitLoopError:
            logger.exception("a listener failed")
