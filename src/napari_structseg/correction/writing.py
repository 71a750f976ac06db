"""Follows a correction with a copy of its own, and writes the copy to a session folder."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from napari_structseg.correction.actions import Correction
from napari_structseg.correction.entries import Event
from napari_structseg.correction.folders import FolderLock, new_folder
from napari_structseg.correction.journal import (
    Journal,
    Work,
    action_record,
    note_record,
    numbers_record,
)
from napari_structseg.correction.stored import Note, SessionHeader
from napari_structseg.errors import InputError, StructSegError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class News:
    """What the thread has to keep.

    Attributes
    ----------
    fresh
        A correction to follow from now on, in place of the copy that there is.
    events, note
        What happened since.
    number, saved
        How many actions there were then, and how many of them were saved.
    """

    fresh: Correction | None
    events: list[Event]
    note: Note
    number: int
    saved: int


class SessionWriter:
    """Writes one session. One thread at a time calls it.

    It has a copy of the correction, so that all of it can be written while the user goes on.

    Parameters
    ----------
    work
        What there is to begin with.
    root
        Where a folder is made, with the first action.
    shorten_beyond
        By how many bytes the journal grows, at least, before it is written afresh.
    folder, lock
        Those of a session that goes on; None: a new one.

    Attributes
    ----------
    folder
        The session folder; None: it was not made yet.
    is_lost
        Whether an action could not be followed: the next news need a fresh correction.
    """

    def __init__(
        self,
        work: Work,
        root: Path,
        shorten_beyond: int,
        folder: Path | None,
        lock: FolderLock | None,
    ) -> None:
        self.folder = folder
        self.is_lost = False
        self._root, self._lock = root, lock
        self._shorten_beyond = shorten_beyond
        self._copy = replace(work, correction=work.correction.copy())
        self._journal: Journal | None = None
        # Whether something could not be written.
        self._is_behind = False

    @property
    def header(self) -> SessionHeader:
        """What the session is about."""
        return self._copy.header

    @property
    def number(self) -> int:
        """How many actions were followed."""
        return self._copy.number

    def end(self, *, is_wanted: bool) -> Exception | None:
        """Try a last time to write what could not be written, and let go of the folder.

        Parameters
        ----------
        is_wanted
            False: the session is thrown away.
        """
        error = None
        if self._is_behind and is_wanted:
            error = self.keep(News(None, [], Note(), self._copy.number, self._copy.saved))
        if self._journal is not None:
            self._journal.close()
        if self._lock is not None:
            self._lock.release()
        return error

    def keep(self, news: News) -> Exception | None:
        """Follow, and write; what went wrong comes back."""
        error = self._kept(news)
        self._is_behind = error is not None
        return error

    def _kept(self, news: News) -> Exception | None:
        try:
            try:
                records = self._follow(news)
            finally:
                if self.is_lost or news.fresh is not None:
                    # What is in it is another history: it has to be written as a whole.
                    self._let_go_of_journal()
            self._write(records)
        except OSError as error:
            return InputError(
                f"Cannot write the session in {self.folder}: {error.strerror or error}. Check "
                "that the disk has room and that you may write there. Your work is in memory and "
                "is written with the next action; save the result to another disk."
            )
        except StructSegError as error:
            return error
        except Exception as error:  # at the top of a thread: it must live on
            logger.error("the session could not be written", exc_info=error)
            self._let_go_of_journal()
            return error
        return None

    def _follow(self, news: News) -> list[list[bytes]]:
        """Bring the copy up to date; the records that say how."""
        copy = self._copy
        records = []
        if news.fresh is not None:
            copy.correction, copy.number = news.fresh, news.number - len(news.events)
            self.is_lost = False
        if self.is_lost:
            raise InputError(
                "The session could not follow an action. It is written again with the next one."
            )
        for event in news.events:
            self.is_lost = True
            copy.correction.replay(event)
            self.is_lost = False
            copy.number += 1
            records.append(action_record(event, copy.number))
        if news.note != Note():
            copy.state = copy.state if news.note.state is None else news.note.state
            copy.recipe = copy.recipe if news.note.recipe is None else news.note.recipe
            records.append(note_record(news.note))
        if copy.saved != news.saved:
            copy.saved = news.saved
            records.append(numbers_record(copy))
        return records

    def _write(self, records: list[list[bytes]]) -> None:
        if self._journal is None:
            if self.folder is None:
                self.folder = new_folder(self._root, self._copy.header.image)
            if self._lock is None:
                self._lock = FolderLock(self.folder)
            self._journal = Journal(self.folder, self._shorten_beyond)
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

    def _let_go_of_journal(self) -> None:
        if self._journal is not None:
            self._journal.close()
