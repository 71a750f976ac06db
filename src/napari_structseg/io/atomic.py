"""Files that are either the old one or the whole new one, whatever happens in between."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from napari_structseg.errors import InputError


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary name to write to, which becomes `path` if the block succeeds.

    The temporary file lies in the same folder and ends in the same suffixes, so that libraries
    that choose a format by name choose the same. It is flushed to disk before it is renamed. If
    the block raises, it is removed, and a file already at `path` is left as it was.

    Raises
    ------
    InputError
        If there is no such folder, or the system refuses to write there.

    Examples
    --------
    >>> with atomic_path(folder / "report.json") as temporary:  # doctest: +SKIP
    ...     temporary.write_text("{}")
    """
    path = Path(path)
    if not _is_folder(path.parent):
        raise InputError(
            f"Cannot write {path}: there is no folder {path.parent}. Create it, or choose another."
        )
    temporary = path.with_name(f".{secrets.token_hex(8)}{''.join(path.suffixes[-2:])}")
    try:
        yield temporary
        # Windows flushes only what is open for writing.
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
        _flush_folder(path.parent)
    # safetensors wraps the system's refusals in an error of its own.
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"Cannot write {path}: {reason}. Check that the disk has room and that you may write "
            f"there, or choose another folder."
        ) from error
    finally:
        # A folder that became read-only keeps it, and the refusal to write is what matters.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    # A name that is too long, or holds a NUL.
    except (OSError, ValueError):
        return False


def _flush_folder(folder: Path) -> None:
    # A renamed file is safe only once its folder is on disk, too; Windows cannot open folders.
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
