"""Which images are predicted together: those of a folder, or of a list in a file.

Several channels of a case lie in several files. In a folder, and in a list of lines, they are
found by nnU-Net's rule: ``CASE_0000``, ``CASE_0001`` and so on, counted from 0. In a table each
row names them. Nothing is opened here but the list.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from napari_structseg.errors import ConfigError, InputError
from napari_structseg.io.formats import META, NIFTI, NRRD, PNG, TIFF, has_ending, stem_of

# A folder of DICOM files is one image: a list names several of them.
IMAGE_SUFFIXES = NIFTI + NRRD + META + PNG + TIFF
LINES, TABLE = ".txt", ".csv"
_CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")
# A list of a million files is far below it.
_MAX_LIST_BYTES = 1 << 28


@dataclass(frozen=True, slots=True)
class Case:
    """One image.

    Attributes
    ----------
    name
        Of the case, and of the folder of its results.
    images
        One file for each channel, or one file for all.
    """

    name: str
    images: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """One of several parts of the cases, for job arrays.

    Attributes
    ----------
    number
        Which, from 1 to ``total``.
    total
        How many parts there are.
    """

    number: int
    total: int

    @classmethod
    def parse(cls, text: str) -> Part:
        """A part from ``i/n``.

        Raises
        ------
        ConfigError
            If it is not of this form, or there is no such part.
        """
        number, _, total = text.partition("/")
        if not (number.isascii() and number.isdigit() and total.isascii() and total.isdigit()):
            raise ConfigError(
                f"--part needs NUMBER/TOTAL, for example 2/10 for the second of ten, but it is "
                f"{text!r}."
            )
        part = cls(int(number), int(total))
        if not 1 <= part.number <= part.total:
            raise ConfigError(
                f"--part counts from 1 to the number of parts, but it is {text!r}. Give 1/"
                f"{total} to {total}/{total}; job arrays that count from 0 need one more."
            )
        return part

    def of(self, cases: Sequence[Case]) -> tuple[Case, ...]:
        """Every ``total``-th case in order of name: the same whatever the order on disk."""
        ordered = sorted(cases, key=lambda case: case.name)
        return tuple(ordered[self.number - 1 :: self.total])


def are_many(images: Sequence[Path]) -> bool:
    """Whether what was given in an image's place stands for several: a folder, or a list."""
    if len(images) != 1:
        return False
    (path,) = images
    if path.suffix.lower() in (LINES, TABLE):
        return True
    return path.is_dir() and any(_is_image(file) for file in path.iterdir())


def find_cases(path: Path) -> tuple[Case, ...]:
    """The cases of a folder or a list, in order of name.

    Parameters
    ----------
    path
        A folder with images; a file ``*.txt`` with one image in each line; or a file ``*.csv``
        with the column ``case`` and one column for each channel. Names in lists are relative to
        the list's folder.

    Raises
    ------
    ConfigError
        If there is none, two have the same name, a channel is missing, or the list is not of
        its form.
    InputError
        If the folder or the list cannot be read.
    """
    suffix = path.suffix.lower()
    if path.is_dir():
        cases = _by_channel(_visible(path), str(path))
    elif suffix == TABLE:
        cases = _of_table(_text(path), path)
    elif suffix == LINES:
        lines = [line.strip() for line in _text(path).splitlines()]
        files = [path.parent / line for line in lines if line]
        cases = _by_channel(files, str(path))
    else:
        raise InputError(
            f"A folder with images, or a list of them (*{LINES}, *{TABLE}) was expected, but it is "
            f"{path}."
        )
    if not cases:
        raise ConfigError(
            f"There is no image in {path}. A folder needs files that end in "
            f"{', '.join(IMAGE_SUFFIXES)}; a list, one image in each line."
        )
    _check_names(cases, path)
    return tuple(sorted(cases, key=lambda case: case.name))


def _visible(folder: Path) -> list[Path]:
    try:
        return sorted(file for file in folder.iterdir() if _is_image(file))
    except OSError as error:
        raise InputError(f"Cannot read {folder}: {error.strerror or error}.") from error


def _is_image(path: Path) -> bool:
    # macOS writes ._NAME beside each file on some disks.
    is_named = has_ending(path, IMAGE_SUFFIXES) and not path.name.startswith(".")
    return is_named and path.is_file()


def _by_channel(files: Iterable[Path], where: str) -> list[Case]:
    channels: dict[tuple[Path, str], dict[int, Path]] = {}
    alone: list[Case] = []
    for file in files:
        match = _CHANNEL.fullmatch(stem_of(file, IMAGE_SUFFIXES))
        if match is None:
            alone.append(Case(stem_of(file, IMAGE_SUFFIXES), (file,)))
            continue
        of_case = channels.setdefault((file.parent, match["case"]), {})
        number = int(match["channel"])
        if number in of_case:
            raise ConfigError(
                f"{where} holds channel {number:04d} of {match['case']!r} twice: "
                f"{of_case[number].name} and {file.name}. Leave one of them out."
            )
        of_case[number] = file
    for (_, name), found in channels.items():
        if 0 not in found:
            # Four digits that count something else, such as years.
            alone += [Case(stem_of(file, IMAGE_SUFFIXES), (file,)) for file in found.values()]
            continue
        if sorted(found) != list(range(len(found))):
            raise ConfigError(
                f"The case {name!r} in {where} has the channels "
                f"{', '.join(f'{number:04d}' for number in sorted(found))}: some are missing. Add "
                "them; or name the files of each case in a table, *.csv, if these digits count "
                "something else."
            )
        alone.append(Case(name, tuple(found[number] for number in range(len(found)))))
    return alone


def _of_table(text: str, path: Path) -> list[Case]:
    try:
        rows = list(csv.reader(text.splitlines(), strict=True))
    except csv.Error as error:
        raise ConfigError(f"{path} is not a table ({error}). Give comma-separated values.") from (
            error
        )
    if not rows or len(rows[0]) < 2 or rows[0][0].strip().lower() != "case":
        raise ConfigError(
            f"{path} needs a first line with the names of its columns: case, and one for each "
            "channel of an image, for example case,image."
        )
    cases = []
    for number, row in enumerate(rows[1:], start=2):
        cells = [cell.strip() for cell in row]
        if not any(cells):
            continue
        if len(cells) != len(rows[0]) or not all(cells):
            raise ConfigError(
                f"Line {number} of {path} needs {len(rows[0])} cells that are not empty, as many "
                f"as the first line, but has {sum(map(bool, cells))}."
            )
        cases.append(Case(cells[0], tuple(path.parent / cell for cell in cells[1:])))
    return cases


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_LIST_BYTES:
            raise ConfigError(f"{path} is larger than any list of images. Give another file.")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(
            f"Cannot read the list {path}: {error.strerror or error}. Check the name."
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is no text in UTF-8 ({error}). Save it as such.") from error
    if "\0" in text:
        raise ConfigError(f"{path} is no text: it holds zero bytes. Give a list of images.")
    return text


def _check_names(cases: Sequence[Case], path: Path) -> None:
    """Raise ConfigError unless every case has a folder name of its own."""
    seen: dict[str, Case] = {}
    for case in cases:
        name = case.name
        is_plain = all(kind(name).name == name for kind in (PurePosixPath, PureWindowsPath))
        if not is_plain or name.startswith(".") or not name.isprintable():
            raise ConfigError(
                f"A case's name becomes a folder, but {name!r} in {path} cannot be one. Use "
                "letters, digits, - and _."
            )
        if name.lower().endswith(TABLE):
            raise ConfigError(
                f"The case {name!r} in {path} has the name of a table of results. Give it another."
            )
        # Some disks do not tell upper from lower case.
        other = seen.setdefault(name.casefold(), case)
        if other is not case:
            raise ConfigError(
                f"Two cases of {path} are called {name!r}: {other.images[0]} and "
                f"{case.images[0]}. Give each a name of its own in a table, *{TABLE}, with the "
                "columns case and image."
            )
