"""How a valid input becomes another: bytes, JSON, TOML, and the headers of the formats read."""

from __future__ import annotations

import gzip
import io
import json
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from random import Random
from typing import Any

import nibabel as nib

from napari_structseg.correction.records import FIRST_LINE

NESTED = 3000
_LONG = "9" * 5000
# Values at and beyond the ends of what any field can mean, as JSON and TOML write them.
TEXTS = (
    "0", "-1", "1", "2", "255", "256", "65536", "1000000", "2147483648", "9223372036854775807",
    "9223372036854775808", "1e308", "1e400", "-1e308", "1e-308", "0.5", "-0.0", "NaN", "Infinity",
    "-Infinity", "nan", "inf", "null", "true", "false", '""', '"a"', '"\\u0000"', '"../../x"',
    '"/"', '"é"', "[]", "{}", "[1]", "[1, 2, 3, 4]", "[[[1]]]", '{"a": 1}', _LONG, f"-{_LONG}",
    f'"{"a" * 5000}"', "[" * NESTED + "]" * NESTED, '{"a":' * 200 + "1" + "}" * 200,
)  # fmt: skip
NUMBERS = (0, 1, -1, 2, 3, 127, 128, 255, 256, 32767, 32768, 65535, 2**31 - 1, 2**31, 2**32 - 1)
FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-30, 1e30, 3.4e38, math.inf, -math.inf, math.nan, 352.0, 1e9)
_RECORD = struct.Struct("<4sIQ")
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_VALUE = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*|true|false|null|NaN')


def bytes_(rng: Random, data: bytes) -> bytes:
    """Flip, cut, repeat, insert and overwrite bytes, a few times."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(found) + 1)
        length = rng.choice((1, 2, 4, 8, 64, 1000))
        match rng.randrange(6):
            case 0 if at < len(found):
                found[at] ^= 1 << rng.randrange(8)
            case 1:
                del found[at:]
            case 2:
                del found[at : at + length]
            case 3:
                found[at:at] = rng.randbytes(length)
            case 4:
                found[at : at + length] = bytes([rng.choice((0, 255, 127, 128))]) * length
            case 5:
                found[at:at] = found[at : at + length]
    return bytes(found)


def json_text(rng: Random, text: str) -> str:
    """Replace a value, or a key, of JSON text by something else, or the whole of it."""
    if rng.random() < 0.05:
        return rng.choice(TEXTS)
    places = list(_VALUE.finditer(text))
    for _ in range(rng.choice((1, 1, 1, 2))):
        place = rng.choice(places)
        text = text[: place.start()] + rng.choice(TEXTS) + text[place.end() :]
        places = list(_VALUE.finditer(text))
        if len(text) > 20_000:
            break
    return text


def json_bytes(rng: Random, data: bytes) -> bytes:
    """JSON with other values, or other bytes."""
    if rng.random() < 0.2:
        return bytes_(rng, data)
    return json_text(rng, data.decode()).encode()


def json_lines(rng: Random, data: bytes) -> bytes:
    """Lines of JSON: one of them changed, repeated, cut or left out."""
    lines = data.splitlines(keepends=True)
    at = rng.randrange(len(lines))
    match rng.randrange(5):
        case 0:
            lines[at] = json_bytes(rng, lines[at].rstrip(b"\n")) + b"\n"
        case 1:
            lines.insert(at, lines[at])
        case 2:
            lines[-1] = lines[-1][: rng.randrange(len(lines[-1]))]
        case 3:
            lines.insert(at, rng.choice((b"\n", b"\xff\xfe\n", b"null\n", b"[]\n", b"{}\n")))
        case _:
            return bytes_(rng, data)
    return b"".join(lines)


def toml_bytes(rng: Random, data: bytes) -> bytes:
    """TOML with another value, a line left out or repeated, or other bytes."""
    if rng.random() < 0.15:
        return bytes_(rng, data)
    lines = data.decode().splitlines()
    at = rng.choice([index for index, line in enumerate(lines) if "=" in line])
    key = lines[at].partition("=")[0]
    match rng.randrange(6):
        case 0:
            del lines[at]
        case 1:
            lines.insert(at, lines[at])
        case 2:
            lines.insert(at, f"unknown = {rng.choice(TEXTS)}")
        case _:
            lines[at] = f"{key}= {rng.choice(TEXTS)}"
    return "\n".join(lines).encode()


def nifti(rng: Random, data: bytes) -> bytes:
    """NIfTI with other numbers in its header, or other bytes."""
    if rng.random() < 0.3:
        return bytes_(rng, data)
    found = bytearray(data)
    fields = nib.Nifti1Header().structarr.dtype.fields
    for _ in range(rng.choice((1, 1, 2, 3))):
        dtype, at = fields[rng.choice(sorted(fields))][:2]
        base = dtype.base
        at += base.itemsize * rng.randrange(max(1, dtype.itemsize // base.itemsize))
        if base.kind == "f":
            found[at : at + 4] = struct.pack("<f", rng.choice(FLOATS))
        elif base.kind in "iu":
            value = rng.choice(NUMBERS) % (1 << (8 * base.itemsize))
            found[at : at + base.itemsize] = value.to_bytes(base.itemsize, "little")
        else:
            found[at : at + base.itemsize] = rng.randbytes(base.itemsize)
    return bytes(found)


def nifti_gz(rng: Random, data: bytes) -> bytes:
    """A compressed NIfTI with other contents, other bytes, or very much behind it."""
    match rng.randrange(4):
        case 0:
            return bytes_(rng, data)
        case 1 if rng.random() < 0.2:
            return data + gzip.compress(bytes(1 << 26), 1) * 8
        case _:
            return gzip.compress(nifti(rng, gzip.decompress(data)), 1)


def png(rng: Random, data: bytes) -> bytes:
    """PNG with another size or kind of pixel, chunks repeated or left out, or other bytes."""
    if rng.random() < 0.4:
        return bytes_(rng, data)
    chunks = []
    at = len(_SIGNATURE)
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += length + 12
    if rng.random() < 0.7:
        header = list(struct.unpack(">IIBBBBB", chunks[0][1]))
        field = rng.randrange(7)
        numbers = (0, 1, 2, 7, 60_000, 100_000, 2**31 - 1, 2**32 - 1)
        header[field] = rng.choice(numbers) if field < 2 else rng.choice((0, 1, 3, 4, 6, 16, 255))
        chunks[0] = (chunks[0][0], struct.pack(">IIBBBBB", *header))
    else:
        index = rng.randrange(len(chunks))
        chunks[index : index + 1] = [chunks[index]] * rng.choice((0, 2, 3))
    return _SIGNATURE + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def npy(rng: Random, data: bytes) -> bytes:
    """A NumPy array with another header, or other bytes."""
    if rng.random() < 0.3:
        return bytes_(rng, data)
    (length,) = struct.unpack_from("<H", data, 8)
    header = data[10 : 10 + length].decode().rstrip()
    shapes = ("()", "(1,)", "(-1, 5)", f"({2**32}, {2**32})", f"({2**62},)", "(0, 1, 4, 4)", "'a'")
    types = ("'<f2'", "'<f8'", "'|O'", "'<c8'", "'|b1'", "'>i4'", "'<U4'", "'<M8[s]'", "[]", "'?!'")
    match rng.randrange(4):
        case 0:
            header = re.sub(r"\([^)]*\)", rng.choice(shapes), header)
        case 1:
            header = re.sub(r"'descr': '[^']*'", f"'descr': {rng.choice(types)}", header)
        case 2:
            header = header[: rng.randrange(len(header))]
        case _:
            header = header.replace("False", rng.choice(("True", "7", "None", "open('x')")))
    padded = header.encode() + b" " * 20 + b"\n"
    return data[:8] + struct.pack("<H", len(padded)) + padded + data[10 + length :]


def safetensors(rng: Random, data: bytes) -> bytes:
    """safetensors with other numbers in its header or its description, or other bytes."""
    if rng.random() < 0.25:
        return bytes_(rng, data)
    (length,) = struct.unpack_from("<Q", data)
    text = data[8 : 8 + length].decode()
    if rng.random() < 0.6:
        header: dict[str, Any] = json.loads(text)
        for key, value in header.get("__metadata__", {}).items():
            header["__metadata__"][key] = json_text(rng, value)
        text = json.dumps(header)
    elif rng.random() < 0.3:
        other = rng.choice(("F16", "F64", "I64", "BOOL", "F8_E4M3", "U8", "C64", "XX"))
        text = text.replace('"F32"', f'"{other}"', rng.choice((1, 1000)))
    else:
        text = json_text(rng, text)
    body = text.encode()
    if rng.random() < 0.1:
        return struct.pack("<Q", rng.choice((0, 1, 2**31, 2**63, len(body) + 1))) + body
    return struct.pack("<Q", len(body)) + body + data[8 + length :]


def archive(rng: Random, data: bytes) -> bytes:
    """A zip archive one of whose files has other bytes under a right checksum, or other bytes."""
    if rng.random() < 0.2:
        return bytes_(rng, data)
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        members = {name: file.read(name) for name in file.namelist()}
    name = rng.choice(sorted(members))
    match rng.randrange(6):
        case 0:
            del members[name]
        case 1:
            members[rng.choice(("../x", "/x", "x", f"{name}x", "a/" * 500 + "x"))] = b"x"
        case 2:
            members[name] = bytes(rng.choice((0, 1, 1 << 20, 1 << 24)))
        case _:
            members[name] = bytes_(rng, members[name])
    packed = io.BytesIO()
    method = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(packed, "w", method) as file:
        for one, content in members.items():
            file.writestr(one, content)
    return packed.getvalue()


def npz(rng: Random, data: bytes) -> bytes:
    """An .npz file one of whose arrays is another, or an archive that was damaged."""
    if rng.random() < 0.4:
        return archive(rng, data)
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(packed, "w") as new:
        changed = rng.choice(old.namelist())
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, npy(rng, content) if name == changed else content)
    return packed.getvalue()


Mutator = Callable[[Random, bytes], bytes]


def session(rng: Random, data: bytes) -> bytes:
    """Damage the journal of a session: its bytes, or what a record holds under a right checksum."""
    if rng.random() < 0.3:
        return bytes_(rng, data)
    records, place = [], len(FIRST_LINE)
    while place < len(data):
        kind, _, length = _RECORD.unpack_from(data, place)
        place += _RECORD.size
        records.append((kind, data[place : place + length]))
        place += length
    at = rng.randrange(len(records))
    kind, rest = records[at]
    (n_text,) = struct.unpack_from("<I", rest)
    text, packed = rest[4 : 4 + n_text], rest[4 + n_text :]
    match rng.randrange(6):
        case 0:
            packed = bytes_(rng, packed)
        case 1:
            kind = rng.choice((b"head", b"snap", b"done", b"note", b"numb", b"else"))
        case 2:
            records.insert(rng.randrange(len(records) + 1), records[at])
        case 3:
            n_text = rng.choice(NUMBERS) % 2**32
        case _:
            text = json_text(rng, text.decode()).encode()
            n_text = len(text)
    records[at] = (kind, struct.pack("<I", n_text) + text + packed)
    found = [FIRST_LINE]
    for kind, rest in records:
        checksum = zlib.crc32(rest, zlib.crc32(kind))
        found.append(_RECORD.pack(kind, checksum, len(rest)) + rest)
    return b"".join(found)
