"""Sizes that compressed frames say they have, looked at before a decoder allocates for them."""

from __future__ import annotations

import struct

from napari_structseg.errors import InputError

_J2K_START, _J2K_SIZ = b"\xff\x4f", 0x51
_JP2_BOX = b"\x00\x00\x00\x0cjP  "
_JPEG_START = b"\xff\xd8"
# Markers of JPEG and JPEG-LS that begin a frame: SOF0 to SOF15 and SOF55, but for three others.
_SOF = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
_END_OF_HEADER = 0xDA
# PackBits makes at most 128 bytes of two (PS3.5, annex G).
_MAX_RLE_RATIO = 64


def check_codestream(frame: bytes, rows: int, columns: int, frame_bytes: int, what: str) -> None:
    """Raise InputError unless a compressed frame has the size that its header says.

    Parameters
    ----------
    frame
        As it is in the file.
    rows, columns
        As the header says.
    frame_bytes
        What the frame becomes.
    what
        What to call the file.
    """
    found = _size(frame)
    if found is None:
        # Run lengths, or nothing that any decoder knows.
        if frame_bytes > _MAX_RLE_RATIO * max(1, len(frame)):
            raise InputError(
                f"{what} is cut short, or its header is wrong: a frame of {columns} x {rows} "
                f"pixels cannot come from {len(frame)} bytes. Export it again."
            )
    elif found != (rows, columns):
        raise InputError(
            f"{what} is damaged: its header says {columns} x {rows} pixels, but the compressed "
            f"frame in it says {found[1]} x {found[0]}. Export it again."
        )


def _size(frame: bytes) -> tuple[int, int] | None:
    """Rows and columns of a JPEG, JPEG-LS or JPEG 2000 frame; None: it is another kind."""
    if frame.startswith(_JP2_BOX):
        start = frame.find(_J2K_START + bytes([0xFF, _J2K_SIZ]))
        return _size(frame[start:]) if start >= 0 else (0, 0)
    if frame.startswith(_J2K_START):
        return _size_of_jpeg2000(frame)
    return _size_of_jpeg(frame) if frame.startswith(_JPEG_START) else None


def _size_of_jpeg2000(frame: bytes) -> tuple[int, int]:
    # ISO/IEC 15444-1, A.5.1: marker, length, capabilities; then the ends and offsets of the grid.
    if len(frame) < 24 or frame[2:4] != bytes([0xFF, _J2K_SIZ]):
        return (0, 0)
    width, height, left, top = struct.unpack_from(">4I", frame, 8)
    return (height - top, width - left)


def _size_of_jpeg(frame: bytes) -> tuple[int, int]:
    at = 2
    while at + 9 <= len(frame):
        if frame[at] != 0xFF:
            return (0, 0)
        marker = frame[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker in _SOF:
            rows, columns = struct.unpack_from(">2H", frame, at + 5)
            return (rows, columns)
        if marker == _END_OF_HEADER:
            return (0, 0)
        at += 2 + struct.unpack_from(">H", frame, at + 2)[0]
    return (0, 0)
