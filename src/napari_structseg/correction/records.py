"""The journal of a session as a file: checksummed records, one behind the other.

After the first line comes record after record: its kind, a checksum, its length, then JSON and
behind it packed bytes. A record that was not written to its end has the wrong checksum, or is too
short; what comes before it is whole. So a journal that is only appended to is never corrupt.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import BinaryIO, TypeVar

from pydantic import BaseModel, ValidationError

from napari_structseg.errors import InputError

FIRST_LINE = b"structseg session\n"
# Kind, checksum of all that follows it, length of the rest.
_HEAD = struct.Struct("<4sIQ")
_LENGTH = struct.Struct("<I")

Meta = TypeVar("Meta", bound=BaseModel)


class Kind(Enum):
    """What a record holds."""

    HEADER = b"head"
    SNAPSHOT = b"snap"
    ACTION = b"done"
    NOTE = b"note"
    COUNT = b"numb"


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a journal.

    Attributes
    ----------
    kind
        What it holds.
    meta
        JSON.
    packed
        The bytes behind it.
    """

    kind: Kind
    meta: bytes
    packed: bytes

    def read_meta(self, model: type[Meta]) -> Meta:
        """The JSON as a model.

        Raises
        ------
        InputError
            If it is something else.
        """
        try:
            return model.model_validate_json(self.meta)
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(str(part) for part in problem["loc"]) or "a record"
            raise InputError(
                f"It holds something that this version does not know ({where}: {problem['msg']})."
            ) from error


def record_parts(kind: Kind, meta: BaseModel, packed: Sequence[bytes] = ()) -> list[bytes]:
    """A record as it is in the file, in parts: large ones are not copied together."""
    text = json.dumps(meta.model_dump(mode="json"), allow_nan=False).encode()
    rest = [_LENGTH.pack(len(text)), text, *packed]
    checksum = zlib.crc32(kind.value)
    for part in rest:
        checksum = zlib.crc32(part, checksum)
    return [_HEAD.pack(kind.value, checksum, sum(map(len, rest))), *rest]


def records_of(file: BinaryIO, path: Path) -> Iterator[Record]:
    """Records of a journal, up to the end or the first that is not whole.

    Where a record is not whole, the file is left at its beginning.

    Raises
    ------
    InputError
        If the file is no journal, or a whole record is of an unknown kind.
    """
    size = path.stat().st_size
    if file.read(len(FIRST_LINE)) != FIRST_LINE:
        raise InputError("It does not begin as the journal of a session.")
    while True:
        start = file.tell()
        record = _next_record(file, size)
        if record is None:
            file.seek(start)
            return
        yield record


def outline_of(file: BinaryIO, path: Path) -> Iterator[tuple[Kind, int]]:
    """Kind and place of every record that is there in full, without reading what it holds."""
    size = path.stat().st_size
    place = len(FIRST_LINE)
    while True:
        file.seek(place)
        head = file.read(_HEAD.size)
        if len(head) < _HEAD.size:
            return
        kind, _, length = _HEAD.unpack(head)
        if file.tell() + length > size or kind not in _KINDS:
            return
        yield _KINDS[kind], place
        place += _HEAD.size + length


def record_at(file: BinaryIO, path: Path, place: int) -> Record | None:
    """The record at a place; None: it is not whole.

    Raises
    ------
    InputError
        If it is of an unknown kind.
    """
    file.seek(place)
    return _next_record(file, path.stat().st_size)


_KINDS = {kind.value: kind for kind in Kind}


def _next_record(file: BinaryIO, size: int) -> Record | None:
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    kind, checksum, length = _HEAD.unpack(head)
    # Asked before anything is read: a damaged length must not take memory.
    if length < _LENGTH.size or file.tell() + length > size:
        return None
    rest = file.read(length)
    if _checksum(kind, rest) != checksum:
        return None
    if kind not in _KINDS:
        raise InputError(f"It holds a record of an unknown kind, {kind!r}.")
    (n_meta,) = _LENGTH.unpack_from(rest)
    end = _LENGTH.size + n_meta
    if end > length:
        raise InputError("It holds a record that is longer than it says.")
    return Record(_KINDS[kind], rest[_LENGTH.size : end], rest[end:])


def _checksum(kind: bytes, rest: bytes) -> int:
    return zlib.crc32(rest, zlib.crc32(kind))
