"""References to files: their names today, and the hashes that tell them apart."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from napari_structseg.errors import InputError
from napari_structseg.source_files import SourceFiles

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class FileReference(BaseModel):
    """One file, whatever it is called today."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="File name, without its folder; of several files, the folder's.")
    sha256: Sha256 = Field(
        description="SHA-256 of the file; of several, of their sorted hashes, one in a line."
    )


class ModelReference(FileReference):
    """One model."""

    model: str = Field(description="As it was asked for: the name of a shipped model, or a path.")


def refer_to(path: str | os.PathLike[str]) -> FileReference:
    """The reference to a file as it is now."""
    return FileReference(name=Path(path).name, sha256=file_hash(path))


def refer_to_parts(source: SourceFiles) -> tuple[FileReference, ...]:
    """References to the files that an image was read from: one for each image that was given.

    Several files of one image, such as the slices of a DICOM series, are one reference: the
    SHA-256 of their hashes, sorted, so that neither names nor order matter. It has the name of
    their folder.
    """
    return tuple(map(_refer_to_all, source.parts))


def _refer_to_all(files: tuple[Path, ...]) -> FileReference:
    if len(files) == 1:
        return refer_to(files[0])
    hashes = "\n".join(sorted(map(file_hash, files)))
    folder = Path(os.path.commonpath([file.absolute().parent for file in files]))
    sha256 = hashlib.sha256(hashes.encode("ascii")).hexdigest()
    return FileReference(name=folder.name, sha256=sha256)


def file_hash(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(
            f"Cannot read {path}: {error.strerror or error}. Check the name and the folder."
        ) from error


def voxel_hash(array: npt.NDArray[Any]) -> str:
    """SHA-256 of an array's values, little-endian, last axis fastest."""
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return hashlib.sha256(little.data).hexdigest()
