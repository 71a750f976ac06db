"""The zip archive of a program, read with bounds before anything of it is understood."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import PurePosixPath

from napari_structseg.errors import WeightsError
from napari_structseg.memory import check_memory
from napari_structseg.models.program_spec import MAX_PROGRAM_BYTES, ProgramKind

_MAX_MEMBERS = 100_000
# Code and graphs are text that is compressed; a few kilobytes of it must not become gigabytes.
_MAX_TEXT_BYTES = 1 << 26
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)
_FORMAT_FILE = "archive_format"

WAY_OUT = (
    "Make a program of it where you trust it: torch.jit.trace(network, example).save('NAME.pt'), "
    "or torch.export.save(torch.export.export(network, (example,)), 'NAME.pt2')."
)

Members = Mapping[str, bytes]
"""Contents by path, without the folder that all of them lie in."""


def read_archive(content: bytes, name: str) -> Members:
    """All members of an archive, of bounded size, each with the checksum it should have.

    Parameters
    ----------
    content
        Of the file.
    name
        Of the file, for messages.

    Raises
    ------
    WeightsError
        If it is no archive of a program, or is damaged.
    MemoryLimitError
        If its contents do not fit into memory.
    """
    if content[:4] != b"PK\x03\x04":
        raise WeightsError(
            f"{name} is no program: a TorchScript archive (.pt) or a torch.export archive (.pt2) "
            f"was expected, which are zip files. Pickled checkpoints are not opened: doing so can "
            f"run any program hidden in them. {WAY_OUT}"
        )
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            infos = [one for one in file.infolist() if not one.is_dir()]
            _check_infos(infos, name)
            members = {_inside(one.filename): file.read(one) for one in infos}
    except _BROKEN as error:
        raise WeightsError(
            f"The archive {name} is damaged ({error}). Copy it again, or save the program again."
        ) from error
    if len(members) < len(infos):
        raise WeightsError(f"The archive {name} has two files of one name. Save the program again.")
    return members


def kind_of(members: Members, name: str) -> ProgramKind:
    """Which kind of program an archive holds.

    Raises
    ------
    WeightsError
        If it is another archive, such as that of a pickled checkpoint.
    """
    if members.get(_FORMAT_FILE, b"").strip() == b"pt2":
        return "export"
    if "constants.pkl" in members and any(one.startswith("code/") for one in members):
        return "torchscript"
    what = "a pickled checkpoint" if "data.pkl" in members else "no archive of torch"
    raise WeightsError(
        f"{name} is {what}, not a program: it holds no code, and weights alone do not say what is "
        f"computed with them. {WAY_OUT}"
    )


def packed(members: Members) -> io.BytesIO:
    """An archive of these members and nothing else: what is opened is what was checked."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as file:
        for path, content in members.items():
            file.writestr(zipfile.ZipInfo(f"archive/{path}"), content)
    buffer.seek(0)
    return buffer


def _check_infos(infos: list[zipfile.ZipInfo], name: str) -> None:
    total = sum(one.file_size for one in infos)
    text = sum(one.file_size for one in infos if one.compress_type != zipfile.ZIP_STORED)
    if len(infos) > _MAX_MEMBERS or total > MAX_PROGRAM_BYTES or text > _MAX_TEXT_BYTES:
        raise WeightsError(
            f"The archive {name} would take {total / 1e9:.1f} GB in {len(infos)} files, "
            f"{text / 1e6:.0f} MB of them compressed. No more than {MAX_PROGRAM_BYTES / 1e9:.1f} "
            f"GB and {_MAX_TEXT_BYTES / 1e6:.0f} MB are opened."
        )
    # The members, the archive that is made of them, and what torch makes of that.
    check_memory(3 * total, f"Opening {name}")
    for one in infos:
        parts = PurePosixPath(one.filename).parts
        if ".." in parts or one.filename.startswith("/") or len(parts) < 2 or one.flag_bits & 1:
            raise WeightsError(
                f"The archive {name} has a file {one.filename!r:.80}, which none of torch has. "
                "Save the program again."
            )


def _inside(path: str) -> str:
    return path.partition("/")[2]
