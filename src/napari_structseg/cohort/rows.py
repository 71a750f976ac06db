"""The rows of an evaluation, one for each case and model, in a file that grows as they come.

The file is JSON lines: the settings, then the rows. It is the one file that is not written under
a temporary name: an interrupted evaluation goes on from what it holds, and a last line that was
cut off is dropped.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from napari_structseg.errors import InputError
from napari_structseg.evaluation.metrics import metric_of

SUFFIX = ".rows.jsonl"
FORMAT_VERSION = 1

Settings = Mapping[str, Any]


class Row(BaseModel):
    """One model on one case."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(description="SHA-256 of the model.")
    case: str
    patient: str
    seed: int = Field(description="Of the samples of this case.")
    scores: dict[str, list[Annotated[float, Field(allow_inf_nan=False)] | None]] = Field(
        description="By metric: one value, or one for each foreground class and rater."
    )
    reliability: tuple[list[float], list[float], list[float]] = Field(
        description="Observations, sum of confidences, correct ones, by bin of confidence."
    )

    @field_validator("scores")
    @classmethod
    def _known(cls, scores: dict[str, Any]) -> dict[str, Any]:
        for name in scores:
            try:
                metric_of(name)
            except KeyError as error:
                raise ValueError(f"there is no metric {name!r}") from error
        return scores

    @property
    def key(self) -> tuple[str, str]:
        """Model and case."""
        return self.model, self.case


def defined(values: list[float]) -> list[float | None]:
    """Values as JSON has them: null for one that is undefined."""
    return [None if math.isnan(value) else value for value in values]


class RowFile:
    """Rows on disk; those of an earlier run, if it is continued.

    Parameters
    ----------
    path
        The file; its folder exists.
    settings
        What every row depends on, apart from model and case; JSON.
    resume
        Go on with the file that is there.

    Raises
    ------
    InputError
        If the file cannot be read or written, or holds something else, or rows of an evaluation
        with other settings.
    """

    def __init__(self, path: Path, settings: Settings, *, resume: bool) -> None:
        self.path = path
        header = {"format_version": FORMAT_VERSION, "settings": dict(settings)}
        self.done: set[tuple[str, str]] = set()
        try:
            if resume and _drop_incomplete_line(path):
                self._check(settings)
                self.done = {row.key for row in self}
                self._file = path.open("a", encoding="utf-8")
            else:
                self._file = path.open("w", encoding="utf-8")
                self._write(header)
        except OSError as error:
            raise InputError(
                f"Cannot write {path}: {error.strerror or error}. Choose another file for --json."
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._file.close()

    def append(self, row: Row) -> None:
        """Add a row, on disk when this returns."""
        self._write(row.model_dump(mode="json"))
        self.done.add(row.key)

    def __iter__(self) -> Iterator[Row]:
        """Rows one by one, as they are in the file.

        Raises
        ------
        InputError
            If a line is no row.
        """
        # As bytes: a line that is no text is no row either.
        with self.path.open("rb") as lines:
            next(lines, None)
            for number, line in enumerate(lines, start=2):
                try:
                    yield Row.model_validate_json(line)
                except ValidationError as error:
                    raise InputError(
                        f"Line {number} of {self.path} is not a row of an evaluation "
                        f"({error.errors()[0]['msg']}). Remove the line and continue with "
                        "--resume, or start anew with --overwrite."
                    ) from error

    def _check(self, settings: Settings) -> None:
        with self.path.open("rb") as lines:
            first = next(lines, b"")
        try:
            header = json.loads(first)
            version, found = header["format_version"], header["settings"]
            different = {
                name for name in {*found, *settings} if found.get(name) != settings.get(name)
            }
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise InputError(
                f"{self.path} holds no rows of this version's evaluation. Start anew with "
                "--overwrite, or choose another file for --json."
            ) from error
        if version != FORMAT_VERSION or different:
            was = ", ".join(f"{name} {_said(found.get(name))}" for name in sorted(different))
            now = ", ".join(f"{name} {_said(settings.get(name))}" for name in sorted(different))
            raise InputError(
                f"{self.path} holds rows of another evaluation: {was or f'format {version}'}; now "
                f"{now or f'format {FORMAT_VERSION}'}. Continue with the same settings and data, "
                "choose another file for --json, or start anew with --overwrite."
            )

    def _write(self, content: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(content, allow_nan=False) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def _drop_incomplete_line(path: Path) -> int:
    """Cut off what follows the last end of a line; gives the bytes that are left."""
    with path.open("rb+") as file:
        complete = sum(len(line) for line in file if line.endswith(b"\n"))
        file.truncate(complete)
    return complete


def _said(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 20 else f"{text[:17]}…"
