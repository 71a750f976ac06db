"""What happened at each step of a run: ``log.csv``, and TensorBoard where it is installed."""

from __future__ import annotations

import csv
import importlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from napari_structseg.errors import InputError
from napari_structseg.io.atomic import atomic_path
from napari_structseg.training.checkpoint import ValidationScore

LOG_NAME, BOARD_NAME = "log.csv", "tensorboard"
COLUMNS = ("step", "loss", "learning_rate", "seconds_per_step", "dice", "sample_dice", "ged")


class _Board(Protocol):
    """What is used of TensorBoard's writer."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None: ...

    def close(self) -> None: ...


class TrainingLog:
    """A line for each step, on disk when the step is reported.

    A run that goes on keeps the lines of the steps that it does not take again.

    Parameters
    ----------
    folder
        Of the run; it exists.
    step
        Steps taken so far.

    Raises
    ------
    InputError
        If ``log.csv`` is something else, or the system refuses to write it.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self.path = folder / LOG_NAME
        self._board = _open_board(folder / BOARD_NAME, step)
        with atomic_path(self.path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows(_kept(self.path, step))
        try:
            self._file = self.path.open("a", newline="", buffering=1)
        except OSError as error:
            raise _refused(self.path, error) from error

    def write(
        self,
        step: int,
        loss: float,
        learning_rate: float,
        seconds: float,
        score: ValidationScore | None,
    ) -> None:
        """Add a step.

        Parameters
        ----------
        step
            Steps taken.
        loss
            In nats per voxel.
        learning_rate
            Of this step.
        seconds
            Running mean of the time of a step.
        score
            Of the validation after this step; None without.

        Raises
        ------
        InputError
            If the system refuses to write.
        """
        scores: dict[str, float] = {}
        if score is not None:
            scores["dice"] = score.mean_dice
            if score.sample_dice:
                scores["sample_dice"] = sum(score.sample_dice.values()) / len(score.sample_dice)
            if score.ged is not None:
                scores["ged"] = score.ged
        values = {
            "loss": loss,
            "learning_rate": learning_rate,
            "seconds_per_step": seconds,
            **scores,
        }
        try:
            row = [f"{values[name]:.6g}" if name in values else "" for name in COLUMNS[1:]]
            self._file.write(",".join([f"{step}", *row]) + "\r\n")
        except OSError as error:
            raise _refused(self.path, error) from error
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if self._board is not None:
            self._board.close()
        try:
            self._file.close()
        except OSError as refused:
            # What was not written is written at closing again; the first error says why.
            if error is None:
                raise _refused(self.path, refused) from refused


def _kept(path: Path, step: int) -> Iterator[list[str]]:
    """Lines of an earlier part of the run up to a step, without one that was cut off."""
    if not step or not path.exists():
        return
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.reader(file)
            if tuple(next(rows, ())) != COLUMNS:
                raise ValueError("its first line is another")
            for row in rows:
                if len(row) == len(COLUMNS) and int(row[0]) <= step:
                    yield row
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(
            f"{path} is not the log of a training run ({error}). Move it elsewhere; the run then "
            "begins a new one."
        ) from error


def _open_board(folder: Path, step: int) -> _Board | None:
    """TensorBoard's writer; None where it is not installed."""
    try:
        board = importlib.import_module("torch.utils.tensorboard")
    except ImportError:
        return None
    writer: _Board = board.SummaryWriter(str(folder), purge_step=step + 1)
    return writer


def _refused(path: Path, error: OSError) -> InputError:
    return InputError(
        f"Cannot write {path}: {error.strerror or error}. Check that the disk has room and that "
        "you may write there. What was written before is kept; continue with --resume."
    )
