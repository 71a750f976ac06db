"""Where sessions are kept: one folder for each, which one program at a time writes to."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from napari_structseg.correction.identity import ImageIdentity
from napari_structseg.correction.journal import JOURNAL_NAME
from napari_structseg.correction.records import Kind, outline_of, record_at, records_of
from napari_structseg.correction.stored import Numbers, SessionHeader
from napari_structseg.errors import InputError

VARIABLE = "STRUCTSEG_SESSIONS"
_LOCK_NAME = "lock"


@dataclass(frozen=True, slots=True)
class Found:
    """A session that lies in a folder.

    Attributes
    ----------
    folder
        Its folder.
    header
        What it is about; None: its journal cannot be read.
    changed
        When it was written to last, in UTC.
    n_unsaved
        Actions since the result was saved last; taking one back is one, too.
    is_open
        Whether a program that runs now writes to it.
    error
        Why it cannot be read.
    """

    folder: Path
    header: SessionHeader | None
    changed: datetime
    n_unsaved: int
    is_open: bool
    error: InputError | None = None

    @property
    def is_recoverable(self) -> bool:
        """Whether it holds work that is in no file of the user, and no program has it open."""
        return self.n_unsaved > 0 and not self.is_open and self.header is not None


def sessions_root() -> Path:
    """The folder of all sessions.

    ``STRUCTSEG_SESSIONS`` names it; otherwise it lies where the system keeps data of programs:
    ``~/.local/share`` (or ``XDG_DATA_HOME``), ``~/Library/Application Support``, or
    ``%LOCALAPPDATA%``, and there in ``napari-structseg/sessions``.
    """
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        base = "~/Library/Application Support"
    else:
        base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser() / "napari-structseg" / "sessions"


def new_folder(root: Path, image: ImageIdentity) -> Path:
    """Make a folder for a new session of an image, which only the user may look into.

    Raises
    ------
    InputError
        If the system refuses.
    """
    now = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    folder = _folder_of(root, image) / f"{now}-{secrets.token_hex(4)}"
    try:
        folder.mkdir(parents=True, mode=0o700)
    except OSError as error:
        raise InputError(
            f"Cannot make the session folder {folder}: {error.strerror or error}. Check that the "
            f"disk has room and that you may write there, or name another folder in {VARIABLE}."
        ) from error
    return folder


def find_sessions(root: Path, image: ImageIdentity | None = None) -> list[Found]:
    """All sessions, the one that was written to last first.

    Parameters
    ----------
    root
        See :func:`sessions_root`.
    image
        Whose; None: of every image.
    """
    parents = [_folder_of(root, image)] if image is not None else _folders_in(root)
    found = [
        look_at(folder)
        for parent in parents
        for folder in _folders_in(parent)
        if (folder / JOURNAL_NAME).is_file()
    ]
    # The name of its folder is the beginning of the hash alone.
    mine = [one for one in found if image is None or _is_of(one, image)]
    return sorted(mine, key=lambda one: one.changed, reverse=True)


def look_at(folder: Path) -> Found:
    """What a session is about and whether it holds unsaved work, without reading all of it."""
    path = folder / JOURNAL_NAME
    changed, n_unsaved = datetime.fromtimestamp(0, UTC), 0
    try:
        changed = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        with path.open("rb") as file:
            first = next(records_of(file, path), None)
            if first is None or first.kind is not Kind.HEADER:
                raise InputError("Its journal is damaged at the beginning.")
            header = first.read_meta(SessionHeader)
            for kind, place in list(outline_of(file, path)):
                if kind is Kind.ACTION:
                    n_unsaved += 1
                elif kind is Kind.COUNT:
                    record = record_at(file, path, place)
                    if record is None:
                        # What comes behind it cannot be read either.
                        break
                    numbers = record.read_meta(Numbers)
                    n_unsaved = numbers.number - numbers.saved
    except (OSError, InputError) as error:
        refused = InputError(f"The session in {folder} cannot be read: {error}")
        return Found(folder, None, changed, 0, is_locked(folder), refused)
    return Found(folder, header, changed, n_unsaved, is_locked(folder))


def remove(folder: Path) -> None:
    """Remove a session and everything in it.

    Raises
    ------
    InputError
        If a program writes to it, or the system refuses.
    """
    if is_locked(folder):
        raise InputError(
            f"Another program that runs now writes to the session in {folder}. Close the image "
            "there first."
        )
    try:
        shutil.rmtree(folder)
        # Of an image without sessions nothing is left.
        if not any(folder.parent.iterdir()):
            folder.parent.rmdir()
    except OSError as error:
        raise InputError(
            f"Cannot remove the session in {folder}: {error.strerror or error}. Check that you "
            "may write there."
        ) from error


class FolderLock:
    """Held by the program that writes to a session folder; the system takes it from a dead one.

    Parameters
    ----------
    folder
        The folder of a session.

    Raises
    ------
    InputError
        If another program holds it, or the system refuses.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self._file = (folder / _LOCK_NAME).open("ab")
            try:
                is_mine = _try_lock(self._file)
            except OSError:
                self._file.close()
                raise
        except OSError as error:
            raise InputError(
                f"Cannot write to the session folder {folder}: {error.strerror or error}. Check "
                f"that you may write there, or name another folder in {VARIABLE}."
            ) from error
        if not is_mine:
            self._file.close()
            raise InputError(
                f"Another program that runs now writes to the session in {folder}. Close the image "
                "there first."
            )

    def release(self) -> None:
        """Let others have it."""
        self._file.close()


def is_locked(folder: Path) -> bool:
    """Whether a program that runs now writes to a session folder."""
    try:
        with (folder / _LOCK_NAME).open("rb") as file:
            return not _try_lock(file)
    except OSError:
        return False


if sys.platform == "win32":
    import msvcrt

    def _try_lock(file: BinaryIO) -> bool:
        file.seek(0)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

else:
    import fcntl

    def _try_lock(file: BinaryIO) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _folder_of(root: Path, image: ImageIdentity) -> Path:
    # A hash, and not a name: folders are listed in more places than files are read.
    return root / image.content[:16]


def _folders_in(folder: Path) -> Iterator[Path]:
    try:
        inside = sorted(folder.iterdir())
    except OSError:
        return
    yield from (one for one in inside if one.is_dir())


def _is_of(found: Found, image: ImageIdentity) -> bool:
    return found.header is None or found.header.image.is_of_same_image(image)
