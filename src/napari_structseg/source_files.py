"""Which files an image was read from, so that results can refer to them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SourceFrame:
    """One slice of a DICOM image.

    Attributes
    ----------
    path
        Of its file.
    instance_uid
        SOP Instance UID of the file.
    number
        Of the frame in the file, from 1 on, as DICOM counts.
    """

    path: Path
    instance_uid: str
    number: int = 1


@dataclass(frozen=True, slots=True)
class SourceFiles:
    """Where the voxels of an image came from.

    Attributes
    ----------
    parts
        Files of each image that was given: one for each channel that is in a file or folder of
        its own, or one for all.
    series_uid
        Series Instance UID of a DICOM series; empty for other formats.
    frames
        The slices of a DICOM series, along the third axis of the file order (X columns, Y rows, Z
        slices): frame ``k`` shows the pixels ``geometry.to_file(labels)[:, :, k].T``.
    notices
        What is unusual about the files and does not stop anybody, in sentences.
    """

    parts: tuple[tuple[Path, ...], ...]
    series_uid: str = ""
    frames: tuple[SourceFrame, ...] = ()
    notices: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that were read."""
        return tuple(file for part in self.parts for file in part)
