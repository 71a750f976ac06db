"""cases.csv of a stack: name, patient and split of each image."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_structseg.errors import ConfigError

TRAIN, VALIDATION, TEST = "train", "val", "test"
_COLUMNS = ("case", "patient", "split")
_MAX_NAMED = 5


@dataclass(frozen=True, slots=True)
class StackCase:
    """One image of a stack.

    Attributes
    ----------
    index
        Where it lies in the arrays.
    name, patient, split
        What cases.csv says.
    """

    index: int
    name: str
    patient: str
    split: str


def read_cases(path: Path, n_images: int) -> tuple[StackCase, ...]:
    """Read the table, a line for each image.

    Raises
    ------
    ConfigError
        If it cannot be read, does not fit the images, or a patient is in several splits.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file)
            missing = [name for name in _COLUMNS if name not in (table.fieldnames or [])]
            rows = list(table)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"Cannot read {path}: {error}. It has a line for each image.") from error
    if missing:
        raise ConfigError(f"{path} lacks the columns {', '.join(missing)} in its first line.")
    if len(rows) != n_images:
        raise ConfigError(f"{path} has {len(rows)} lines for {n_images} images. It needs one each.")
    cases = tuple(
        StackCase(index, row["case"] or "", row["patient"] or "", row["split"] or "")
        for index, row in enumerate(rows)
    )
    _check_cases(path, cases)
    return cases


def _check_cases(path: Path, cases: Sequence[StackCase]) -> None:
    known = (TRAIN, VALIDATION, TEST)
    odd = [case.name for case in cases if case.split not in known or not case.name]
    twice = [name for name, count in Counter(case.name for case in cases).items() if count > 1]
    splits: dict[str, set[str]] = {}
    for case in cases:
        splits.setdefault(case.patient, set()).add(case.split)
    torn = [patient for patient, found in splits.items() if patient and len(found) > 1]
    for wrong, what in (
        (odd, f"Lines without a name, or with a split other than {', '.join(known)}"),
        (twice, "Cases that are named more than once"),
        (torn, "Patients on both sides of a split, so that its scores would be too good"),
    ):
        if wrong:
            named = ", ".join(map(repr, wrong[:_MAX_NAMED]))
            raise ConfigError(f"{path}: {what}: {named}. {len(wrong)} in all; correct them.")
