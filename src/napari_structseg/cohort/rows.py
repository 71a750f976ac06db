"""The rows of an evaluation, one for each case and model, in a file that grows as they come.

The file is JSON lines: the settings, then the rows. It is the one file that is not written under
a temporary name: an interrupted evaluation goes on from what it holds, and a last line that was
cut off is dropped.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from napari_structseg.errors import InputError
from napari_structseg.evaluation.calibration import N_BINS
from napari_structseg.evaluation.metrics import METRICS, OF_EACH_CLASS, metric_of

SUFFIX = ".rows.jsonl"
FORMAT_VERSION = 1

Settings = Mapping[str, Any]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Bins = Annotated[list[Finite], Field(min_length=N_BINS, max_length=N_BINS)]


class Row(BaseModel):
    """One model on one case."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(description="SHA-256 of the model.")
    case: str
    patient: str
    seed: int = Field(description="Of the samples of this case.")
    refined_by: Literal["none", "mean-field", "cut"] = Field(
        "none", description="What made the labels beside the model."
    )
    scores: dict[str, list[Finite | None]] = Field(
        description="By metric: one value, or one for each foreground class and rater."
    )
    reliability: tuple[Bins, Bins, Bins] = Field(
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
        self._names = _score_names(settings)
        self.done: set[tuple[str, str]] = set()
        try:
            if resume and _drop_incomplete_line(path):
                self._check(settings)
                for row in self:
                    self.done.add(row.key)
                self._file = path.open("a", encoding="utf-8")
            else:
                self._file = path.open("w", encoding="utf-8")
                try:
                    self._write(header)
                except OSError:
                    # The rest would be tried again; a file that is not closed is worse.
                    with contextlib.suppress(OSError):
                        self._file.close()
                    raise
        except OSError as error:
            raise self._refused(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        try:
            self._file.close()
        except OSError as refused:
            # What could not be written is tried again at the end; the first error says why.
            if error is None:
                raise self._refused(refused) from refused

    def append(self, row: Row) -> None:
        """Add a row, on disk when this returns.

        Raises
        ------
        InputError
            If the system refuses to write.
        """
        try:
            self._write(row.model_dump(mode="json"))
        except OSError as error:
            raise self._refused(error) from error
        self.done.add(row.key)

    def __iter__(self) -> Iterator[Row]:
        """Rows one by one, as they are in the file.

        Raises
        ------
        InputError
            If a line is no row of this evaluation, or a case comes twice.
        """
        seen: set[tuple[str, str]] = set()
        # As bytes: a line that is no text is no row either.
        with self.path.open("rb") as lines:
            next(lines, None)
            for number, line in enumerate(lines, start=2):
                try:
                    row = Row.model_validate_json(line)
                except ValidationError as error:
                    raise self._foreign(number, error.errors()[0]["msg"]) from error
                if set(row.scores) != self._names:
                    odd = sorted(self._names ^ set(row.scores))[0]
                    raise self._foreign(number, f"it lacks or adds the metric {odd!r:.80}")
                if row.key in seen:
                    raise self._foreign(number, f"the case {row.case!r:.80} came before")
                seen.add(row.key)
                yield row

    def in_order(self) -> Iterator[Row]:
        """Rows by case, whatever order they came in: sums over them are rounded alike.

        Raises
        ------
        InputError
            As by iterating.
        """
        with self.path.open("rb") as lines:
            place = len(next(lines, b""))
            places = []
            for row, line in zip(self, lines, strict=False):
                places.append((*row.key[::-1], place))
                place += len(line)
            for _, _, place in sorted(places):
                lines.seek(place)
                yield Row.model_validate_json(lines.readline())

    def _foreign(self, number: int, problem: str) -> InputError:
        return InputError(
            f"Line {number} of {self.path} is not a row of an evaluation ({problem}). Remove the "
            "line and continue with --resume, or start again with --overwrite."
        )

    def _refused(self, error: OSError) -> InputError:
        return InputError(
            f"Cannot write {self.path}: {error.strerror or error}. Check that the disk has room "
            "and that you may write there, then continue with --resume, or choose another file "
            "for --json."
        )

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
                f"{self.path} holds no rows of this version's evaluation. Start again with "
                "--overwrite, or choose another file for --json."
            ) from error
        if version != FORMAT_VERSION or different:
            was = ", ".join(f"{name} {_said(found.get(name))}" for name in sorted(different))
            now = ", ".join(f"{name} {_said(settings.get(name))}" for name in sorted(different))
            raise InputError(
                f"{self.path} holds rows of another evaluation: {was or f'format {version}'}; now "
                f"{now or f'format {FORMAT_VERSION}'}. Continue with the same settings and data, "
                "choose another file for --json, or start again with --overwrite."
            )

    def _write(self, content: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(content, allow_nan=False) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def _score_names(settings: Settings) -> set[str]:
    """The metrics that every row has."""
    names = {*METRICS, *(f"ged_{n}" for n in settings.get("counts", ()))}
    foreground = settings.get("classes", ())[1:]
    if len(foreground) > 1:
        names |= {f"{metric}: {name}" for metric in OF_EACH_CLASS for name in foreground}
    return names


def _drop_incomplete_line(path: Path) -> int:
    """Cut off what follows the last end of a line; gives the bytes that are left."""
    with path.open("rb+") as file:
        complete = sum(len(line) for line in file if line.endswith(b"\n"))
        file.truncate(complete)
    return complete


def _said(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 20 else f"{text[:17]}…"
