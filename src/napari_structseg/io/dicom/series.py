"""Which files make up one series, and which series is meant."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_structseg.errors import InputError
from napari_structseg.io.dicom.headers import Header, is_dicom_file, read_header

_MAX_FILES = 50_000
_MAX_DEPTH = 8
# To answer whether a folder is one of DICOM files.
_MAX_LOOKED_AT = 1000
_MAX_LISTED = 20
_DICOMDIR = "1.2.840.10008.1.3.10"
_SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
# What people take for an image, and is none: in words, and what to do with it.
_NO_IMAGES = {
    "1.2.840.10008.5.1.4.1.1.481.3": (
        "a set of contours (RTSTRUCT)",
        "Export it as a segmentation (DICOM SEG, NIfTI or NRRD).",
    ),
    "1.2.840.10008.5.1.4.1.1.481.2": ("a radiation dose (RTDOSE)", "Give the image."),
    "1.2.840.10008.5.1.4.1.1.66": ("a registration or raw data", "Give the image."),
    _DICOMDIR: ("a directory of files (DICOMDIR)", "Give the folder that it lies in."),
}


@dataclass(frozen=True, slots=True)
class Series:
    """Files with one Series Instance UID.

    Attributes
    ----------
    uid
        Series Instance UID.
    headers
        Of its files, in order of name.
    """

    uid: str
    headers: tuple[Header, ...]

    @property
    def first(self) -> Header:
        """The header that speaks for all."""
        return self.headers[0]

    @property
    def n_frames(self) -> int:
        """Slices in all files."""
        return sum(len(header.frames) for header in self.headers)

    @property
    def is_segmentation(self) -> bool:
        """Whether it holds segments rather than intensities."""
        return self.first.sop_class in _SEGMENTATIONS

    @property
    def is_image(self) -> bool:
        """Whether it can be an image of intensities."""
        return why_no_image(self.first) is None

    @property
    def name(self) -> str:
        """What to call it: never by the patient."""
        described = "".join(
            letter if letter.isprintable() and letter not in "/\\" else "_"
            for letter in self.first.description
        ).strip(" ._")
        if described:
            return described
        number = f" {self.first.series_number}" if self.first.series_number else ""
        return f"{self.first.modality or 'DICOM'} series{number}"

    def __str__(self) -> str:
        number = f"number {self.first.series_number}, " if self.first.series_number else ""
        return (
            f"{self.first.modality or '?'} {self.name!r} ({number}{self.n_frames} slices): "
            f"{self.uid}"
        )


def dicom_files(paths: Sequence[Path]) -> list[Path]:
    """The DICOM files among files and in folders, in order of name.

    Raises
    ------
    InputError
        If there is none, a file that was named is none, or there are too many.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += _in_folder(path)
        elif not path.exists():
            raise InputError(f"There is no file {path}. Check the name and the folder.")
        elif not is_dicom_file(path):
            raise InputError(
                f"{path} is not a DICOM file: it does not begin with a DICOM header. Export it "
                "again, or give it the ending of its format."
            )
        else:
            found.append(path)
    if not found:
        raise InputError(
            f"{', '.join(map(str, paths))} is a folder without DICOM files. Give a folder of DICOM "
            "files, or the name of a file of another format."
        )
    return found


def has_dicom_files(folder: Path) -> bool:
    """Whether there is a DICOM file in a folder or below it: looked at until the first is found."""
    return next(_in_folder(folder, _MAX_LOOKED_AT), None) is not None


def _in_folder(folder: Path, most: int | None = None) -> Iterator[Path]:
    """DICOM files in a folder and below it; `most` files are looked at."""
    count = looked_at = 0
    for where, folders, names in os.walk(folder):
        depth = len(Path(where).relative_to(folder).parts)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if depth >= _MAX_DEPTH:
            folders.clear()
        for name in sorted(names):
            looked_at += 1
            if most is not None and looked_at > most:
                return
            path = Path(where, name)
            if not name.startswith(".") and path.is_file() and is_dicom_file(path):
                count += 1
                if count > _MAX_FILES:
                    raise InputError(
                        f"{folder} holds more than {_MAX_FILES} DICOM files. Give the folder of "
                        "one series."
                    )
                yield path


def group_series(paths: Iterable[Path]) -> list[Series]:
    """The series that files belong to, those with most slices first.

    Raises
    ------
    InputError
        If a file is damaged.
    """
    # A report may have been put into the series of its image.
    headers: dict[tuple[str, str], list[Header]] = {}
    for path in paths:
        header = read_header(path)
        if header.sop_class != _DICOMDIR:
            kind = "" if why_no_image(header) is None else header.sop_class
            headers.setdefault((header.series_uid, kind), []).append(header)
    series = [Series(uid, tuple(files)) for (uid, _), files in headers.items()]
    return sorted(series, key=lambda one: (not one.is_image, -one.n_frames, one.uid))


def choose_series(found: Sequence[Series], chosen: str | None, where: str) -> Series:
    """The one series of images, or the one that was chosen.

    Parameters
    ----------
    found
        All series.
    chosen
        Series Instance UID or Series Number; None: there is only one.
    where
        What to call the place where they were found.

    Raises
    ------
    InputError
        If there is none or not exactly one.
    """
    images = [one for one in found if one.is_image]
    if chosen is not None:
        matching = [one for one in images if chosen in (one.uid, one.first.series_number)]
        if len(matching) == 1:
            return matching[0]
        many = "several series" if matching else "no series of images"
        raise InputError(
            f"There is {many} {chosen!r} in {where}. Give the UID of one of these:{_listed(images)}"
        )
    if not images:
        if not found:
            raise InputError(f"{where} holds no DICOM images, only a directory of them.")
        raise _no_image(found[0])
    if len(images) > 1:
        raise InputError(
            f"One series was expected, but {where} holds {len(images)}. Choose one with --series "
            f"and its UID or number, or give its files alone:{_listed(images)}"
        )
    return images[0]


def why_no_image(header: Header) -> tuple[str, str] | None:
    """What a file is instead of an image of intensities, and what to do; None: it is one."""
    if header.sop_class in _SEGMENTATIONS:
        return (
            "a segmentation (DICOM SEG)",
            "Give the image that it belongs to; to look at the segmentation, open it in napari.",
        )
    for sop_class, described in _NO_IMAGES.items():
        if header.sop_class == sop_class or header.sop_class.startswith(f"{sop_class}."):
            return described
    if not header.is_image:
        return f"a document without pixels ({header.sop_class_name})", "Give the image."
    if header.is_tiled:
        return "a microscopy image in tiles", "Export the region of interest as PNG or TIFF."
    if header.samples != 1 or not header.photometric.startswith("MONOCHROME"):
        return (
            f"a colour picture ({header.photometric or 'with no stated colours'})",
            "Give an image of measured intensities, or export it as a grey one.",
        )
    return None


def _no_image(series: Series) -> InputError:
    found = why_no_image(series.first)
    what, advice = found or ("no image", "Give the image.")
    return InputError(f"{series.first.path} is {what}, not an image of intensities. {advice}")


def _listed(series: Sequence[Series]) -> str:
    lines = [f"\n  {one}" for one in series[:_MAX_LISTED]]
    more = len(series) - _MAX_LISTED
    return "".join(lines) + (f"\n  and {more} more" if more > 0 else "")
