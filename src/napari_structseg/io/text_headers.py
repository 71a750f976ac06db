"""Headers of NRRD and MetaImage files, as text: checked before a library allocates for them.

NRRD: http://teem.sourceforge.net/nrrd/format.html; MetaImage: the ITK wiki, MetaIO/Documentation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath

from napari_structseg.errors import InputError
from napari_structseg.memory import check_memory

# Far more than the names and colours of a thousand segments.
_MAX_HEADER = 1 << 22
_MAX_AXES = 4
# Longer names no file system has.
_MAX_NAME = 255
# As for NIfTI: no deflate stream expands further.
_MAX_GZIP_RATIO = 1040
_NRRD_BYTES = {
    **dict.fromkeys(("signed char", "int8", "int8_t", "uchar", "unsigned char", "uint8"), 1),
    "uint8_t": 1,
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16"), 2),
    **dict.fromkeys(("int16_t", "ushort", "unsigned short", "unsigned short int", "uint16"), 2),
    "uint16_t": 2,
    **dict.fromkeys(("int", "signed int", "int32", "int32_t", "uint", "unsigned int"), 4),
    **dict.fromkeys(("uint32", "uint32_t", "float"), 4),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long", "int64"), 8),
    **dict.fromkeys(("signed long long int", "int64_t", "ulonglong", "unsigned long long"), 8),
    **dict.fromkeys(("unsigned long long int", "uint64", "uint64_t", "double"), 8),
}
_META_BYTES = {
    "MET_CHAR": 1, "MET_UCHAR": 1, "MET_SHORT": 2, "MET_USHORT": 2, "MET_INT": 4, "MET_UINT": 4,
    "MET_LONG": 4, "MET_ULONG": 4, "MET_LONG_LONG": 8, "MET_ULONG_LONG": 8, "MET_FLOAT": 4,
    "MET_DOUBLE": 8,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TextHeader:
    """What a header says of its voxels.

    Attributes
    ----------
    files
        The file, and that of its voxels where they are in another one.
    sizes
        Voxels along each axis as stored, that of components included.
    has_spacing
        Whether it says how large voxels are.
    values
        What a program has added, by name: NRRD's ``key:=value``.
    """

    files: tuple[Path, ...]
    sizes: tuple[int, ...]
    has_spacing: bool
    values: Mapping[str, str] = field(default_factory=dict)


def read_nrrd_header(path: Path) -> TextHeader:
    """Read and check the header of a .nrrd or .nhdr file.

    Raises
    ------
    InputError
        If it is no NRRD file, cannot be right, or names voxels in another folder.
    MemoryLimitError
        If the voxels do not fit into memory.
    """
    content = _start_of(path)
    if not content.startswith(b"NRRD000"):
        raise InputError(f"{path} is not an NRRD file: it does not begin with NRRD000.")
    ends = [at for at in (content.find(b"\n\n"), content.find(b"\r\n\r\n")) if at >= 0]
    end = min(ends, default=-1)
    text = (content if end < 0 else content[:end]).decode("utf-8", "replace")
    fields: dict[str, str] = {}
    values: dict[str, str] = {}
    for line in text.splitlines()[1:]:
        if line.startswith("#"):
            continue
        key, between, value = line.partition(":=")
        if between:
            values[key] = value
            continue
        name, colon, value = line.partition(":")
        name = " ".join(name.lower().split())
        if not colon or name in fields:
            raise _damaged(path, f"the line {line[:60]!r} says nothing, or a second time")
        fields[name] = value.strip()
    sizes = _integers(fields.get("sizes", ""), path)
    item = _NRRD_BYTES.get(fields.get("type", "").lower())
    if item is None:
        raise _damaged(path, f"its voxels are of the type {fields.get('type', '')!r}")
    if fields.get("dimension") != str(len(sizes)):
        raise _damaged(path, "dimension and sizes do not agree")
    data_file = fields.get("data file", fields.get("datafile"))
    encoding = fields.get("encoding", "").lower()
    if data_file is None and end < 0:
        raise _damaged(path, "no empty line ends its header")
    files = _files(path, data_file)
    ratio = {"raw": 1, "gzip": _MAX_GZIP_RATIO, "gz": _MAX_GZIP_RATIO}.get(encoding)
    if ratio is None:
        raise InputError(
            f"{path} is encoded as {encoding!r}, but raw or gzip was expected. Save it again as "
            "one of these."
        )
    _check_size(path, files[-1], sizes, item, ratio)
    has_spacing = "spacings" in fields or "space directions" in fields
    return TextHeader(files, sizes, has_spacing, values)


def read_meta_header(path: Path) -> TextHeader:
    """Read and check the header of a .mha or .mhd file.

    Raises
    ------
    InputError, MemoryLimitError
        As :func:`read_nrrd_header`.
    """
    fields: dict[str, str] = {}
    for line in _start_of(path).split(b"\n"):
        key, equals, value = line.decode("utf-8", "replace").partition("=")
        name = key.strip()
        if not equals or name in fields or len(fields) > 1000:
            raise InputError(
                f"{path} is not a MetaImage file: its header does not consist of names and values "
                "that end with ElementDataFile. Save it again."
            )
        fields[name] = value.strip()
        if name == "ElementDataFile":
            break
    if "ElementDataFile" not in fields:
        raise _damaged(path, "it does not say where its voxels are (ElementDataFile)")
    sizes = _integers(fields.get("DimSize", ""), path)
    if fields.get("NDims") != str(len(sizes)):
        raise _damaged(path, "NDims and DimSize do not agree")
    item = _META_BYTES.get(fields.get("ElementType", ""))
    if item is None:
        raise _damaged(path, f"its voxels are of the type {fields.get('ElementType', '')!r}")
    components = fields.get("ElementNumberOfChannels", "1")
    if components != "1":
        sizes = (*_integers(components, path), *sizes)
    where = fields["ElementDataFile"]
    files = _files(path, None if where.upper() == "LOCAL" else where)
    compressed = fields.get("CompressedData", "False").lower() == "true"
    _check_size(path, files[-1], sizes, item, _MAX_GZIP_RATIO if compressed else 1)
    has_spacing = "ElementSpacing" in fields or "ElementSize" in fields
    return TextHeader(files, sizes, has_spacing)


def _start_of(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_HEADER)
    except OSError as error:
        raise InputError(
            f"Cannot read {path}: {error.strerror or error}. Check the name and the folder."
        ) from error


def _integers(text: str, path: Path) -> tuple[int, ...]:
    words = text.split()
    if not 1 <= len(words) <= _MAX_AXES + 1 or not all(
        word.isascii() and word.isdigit() and 1 <= len(word) < 12 and int(word) > 0
        for word in words
    ):
        raise _damaged(path, f"its sizes are {text[:60]!r}, not 2 to 4 positive numbers")
    return tuple(map(int, words))


def _files(path: Path, data_file: str | None) -> tuple[Path, ...]:
    """The header's file, and that of its voxels, which must lie in the header's folder."""
    if data_file is None:
        return (path,)
    names = PurePosixPath(data_file), PureWindowsPath(data_file)
    outside = any(name.is_absolute() or name.drive or ".." in name.parts for name in names)
    if outside or "\0" in data_file or len(data_file.encode()) > _MAX_NAME:
        raise InputError(
            f"{path} says that its voxels are in {data_file!r}, outside of its own folder. Files "
            "that come from elsewhere may not name any file of this machine: move the voxels "
            "beside the header, and correct the name in it."
        )
    if data_file.split()[:1] == ["LIST"] or "%" in data_file:
        raise InputError(
            f"{path} has its voxels in several files, which is not read. Save it as one file."
        )
    voxels = path.parent / data_file
    if not voxels.is_file():
        raise InputError(
            f"{path} says that its voxels are in {data_file!r}, but there is no such file beside "
            "it. Copy both."
        )
    return (path, voxels)


def _check_size(path: Path, voxels: Path, sizes: tuple[int, ...], item: int, ratio: int) -> None:
    promised, there = math.prod(sizes) * item, voxels.stat().st_size
    if promised > there * ratio:
        raise InputError(
            f"{path} is cut short, or its header is wrong: the header promises {promised} bytes of "
            f"voxels ({' x '.join(map(str, sizes))}), but the file has {there} bytes. Copy or "
            "download it again."
        )
    # As read, as an array, and once more in the order of the viewer; the mask of the finite.
    check_memory(math.prod(sizes) * (3 * item + 1) + there, f"Opening {path}")


def _damaged(path: Path, what: str) -> InputError:
    return InputError(f"The header of {path} cannot be used: {what}. Save it again.")
