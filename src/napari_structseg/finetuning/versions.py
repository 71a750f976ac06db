"""The versions of a model that were adopted: kept for good, listed, exported, gone back to.

.. code-block:: text

    ROOT/FAMILY/                 one folder for each model that was fine-tuned
        current.json             which version is in use
        0000-HASH/               the model as it was before the first fine-tuning
            weights.safetensors
            version.json
        0001-HASH/               each adopted version

A version's folder is made under a temporary name and renamed, and never changed after that. So
going back is exact: the file is the one that was in use, byte for byte.
"""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from napari_structseg.errors import ConfigError, InputError, WeightsError
from napari_structseg.finetuning.report import Report, Scores
from napari_structseg.finetuning.settings import FinetuneSettings
from napari_structseg.io.atomic import atomic_path
from napari_structseg.io.references import Sha256, file_hash
from napari_structseg.io.weights import load_weights, read_spec

WEIGHTS_NAME, RECORD_NAME, CURRENT_NAME = "weights.safetensors", "version.json", "current.json"
_FOLDER = re.compile(r"(?P<number>\d{4,9})-[0-9a-f]{16}")
SHOWN_OF_HASH = 16
"""So much of a hash is a part of the names of folders."""


class VersionRecord(BaseModel):
    """Where a version comes from, and what it reached."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")
    format_version: Literal[1] = 1
    number: Annotated[int, Field(ge=0)] = Field(description="0 is the model as it was first.")
    sha256: Sha256 = Field(description="Of the weights.")
    parent: Sha256 | None = Field(description="Of the weights it was made from; None: the first.")
    model_name: str
    adopted: str = Field(description="When, in UTC, as ISO 8601 has it.")
    held_out: str = ""
    corrections: Scores = Scores()
    replay: Scores = Scores()
    settings: FinetuneSettings | None = None
    steps: int = 0
    seconds: float = 0.0
    note: str = Field("", max_length=1000, description="What the user said of it.")


class _Current(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    format_version: Literal[1] = 1
    folder: str


@dataclass(frozen=True, slots=True)
class Version:
    """A version that is kept.

    Attributes
    ----------
    folder
        Where it lies.
    record
        What is known of it.
    """

    folder: Path
    record: VersionRecord

    @property
    def weights(self) -> Path:
        """The file of its weights. Nothing ever writes to it."""
        return self.folder / WEIGHTS_NAME

    def checked_weights(self) -> Path:
        """The same, after its bytes were compared with their hash.

        Raises
        ------
        WeightsError
            If the file is not what was adopted.
        """
        if file_hash(self.weights) != self.record.sha256:
            raise WeightsError(
                f"{self.weights} is not the file that was adopted: it was changed or is damaged. "
                "Choose another version."
            )
        return self.weights


class Versions:
    """All versions of one model.

    Parameters
    ----------
    folder
        Of the family, see :mod:`~napari_structseg.finetuning.families`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def all(self) -> list[Version]:
        """Every version that can be read, the first one first."""
        return sorted(_versions_in(self.folder), key=lambda one: one.record.number)

    @property
    def current(self) -> Version:
        """The one that is in use.

        Raises
        ------
        InputError
            If there is none.
        """
        kept = {one.folder.name: one for one in self.all()}
        try:
            found = _Current.model_validate_json((self.folder / CURRENT_NAME).read_bytes())
        except (OSError, ValidationError):
            # Before the first choice was written, the last one that was adopted.
            found = _Current(folder=max(kept, default=""))
        if found.folder not in kept:
            raise InputError(
                f"There is no version of a model in {self.folder} that can be used. Fine-tune the "
                "model, and adopt the result."
            )
        return kept[found.folder]

    def find(self, number: int) -> Version:
        """The version of a number.

        Raises
        ------
        ConfigError
            If there is none.
        """
        kept = {one.record.number: one for one in self.all()}
        if number not in kept:
            raise ConfigError(
                f"There is no version {number} in {self.folder}. There are: "
                f"{', '.join(map(str, kept)) or 'none'}."
            )
        return kept[number]

    def adopt(self, weights: Path, report: Report | None = None, note: str = "") -> Version:
        """Keep weights as the newest version, and put them into use.

        Parameters
        ----------
        weights
            A file of a model; it is copied.
        report
            Of the run that made it; None: it is the model as it was before.
        note
            What the user says of it.

        Raises
        ------
        WeightsError
            If the file cannot be used as a model. Nothing has changed.
        InputError
            If the system refuses.
        """
        load_weights(weights)
        kept = self.all()
        record = VersionRecord(
            number=kept[-1].record.number + 1 if kept else 0,
            sha256=file_hash(weights),
            parent=None if report is None else report.parent,
            model_name=read_spec(weights).name,
            adopted=datetime.now(UTC).isoformat(timespec="seconds"),
            note=note,
            **_of_report(report),
        )
        version = self._written(weights, record)
        self.use(version)
        return version

    def use(self, version: Version) -> Version:
        """Put a version into use: one file is replaced, so that it is the old one or the new one.

        Raises
        ------
        WeightsError
            If its weights are not what was adopted.
        InputError
            If the system refuses.
        """
        version.checked_weights()
        with atomic_path(self.folder / CURRENT_NAME) as temporary:
            temporary.write_text(
                _Current(folder=version.folder.name).model_dump_json(), encoding="utf-8"
            )
        return version

    def go_back(self) -> Version:
        """Put the parent of the version in use into use.

        Raises
        ------
        ConfigError
            If it has none.
        WeightsError, InputError
            As :meth:`use`.
        """
        current = self.current
        parents = [one for one in self.all() if one.record.sha256 == current.record.parent]
        if not parents:
            raise ConfigError(
                f"Version {current.record.number} is the first one of {current.record.model_name}: "
                "there is nothing to go back to."
            )
        # The same weights may have been adopted twice; the later one was in use.
        return self.use(parents[-1])

    def export(self, version: Version, path: Path) -> Path:
        """Copy the weights of a version to a file of the user's.

        Raises
        ------
        InputError
            If there is a file already, its name does not end in .safetensors, or the system
            refuses.
        WeightsError
            If the weights are not what was adopted.
        """
        if path.suffix != ".safetensors" or path.exists():
            raise InputError(
                f"A new file with a name that ends in .safetensors was expected, but {path} "
                f"{'exists already' if path.exists() else 'does not'}. Choose another name."
            )
        source = version.checked_weights()
        with atomic_path(path) as temporary:
            shutil.copyfile(source, temporary)
        return path

    def _written(self, weights: Path, record: VersionRecord) -> Version:
        name = f"{record.number:04d}-{record.sha256[:SHOWN_OF_HASH]}"
        temporary = self.folder / f".{secrets.token_hex(8)}"
        try:
            temporary.mkdir(parents=True)
            try:
                with atomic_path(temporary / WEIGHTS_NAME) as file:
                    shutil.copyfile(weights, file)
                if file_hash(temporary / WEIGHTS_NAME) != record.sha256:
                    raise InputError(f"{weights} changed while it was copied. Adopt it again.")
                with atomic_path(temporary / RECORD_NAME) as file:
                    file.write_text(record.model_dump_json(indent=2), encoding="utf-8")
                temporary.rename(self.folder / name)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
        except OSError as error:
            raise InputError(
                f"Cannot keep a version in {self.folder}: {error.strerror or error}. Check that "
                "the disk has room, and that you may write there."
            ) from error
        return Version(self.folder / name, record)


def _of_report(report: Report | None) -> dict[str, object]:
    if report is None:
        return {}
    names = ("held_out", "corrections", "replay", "settings", "steps", "seconds")
    return {name: getattr(report, name) for name in names}


def _versions_in(folder: Path) -> Iterator[Version]:
    for one in folders_in(folder):
        if _FOLDER.fullmatch(one.name) is None:
            continue
        try:
            record = VersionRecord.model_validate_json((one / RECORD_NAME).read_bytes())
        except (OSError, ValidationError):
            # Not ours, or damaged: the others can still be used.
            continue
        if (one / WEIGHTS_NAME).is_file():
            yield Version(one, record)


def folders_in(folder: Path) -> Iterator[Path]:
    """The folders in a folder, in order of name; none where there is no such folder."""
    try:
        inside = sorted(folder.iterdir())
    except OSError:
        return
    yield from (one for one in inside if one.is_dir())
