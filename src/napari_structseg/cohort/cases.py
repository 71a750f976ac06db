"""The cases that models are evaluated on: a selection of a data set, read one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from napari_structseg.cohort.table import CaseTable, named, read_table
from napari_structseg.data.cases import ReadCase
from napari_structseg.data.sources import CaseEntry, open_source
from napari_structseg.data.splits import spread
from napari_structseg.errors import ConfigError
from napari_structseg.interrupts import deferred_interrupt

_MAX_NAMED = 5


@dataclass(frozen=True, slots=True)
class Selection:
    """Which part of a data set counts.

    Attributes
    ----------
    table
        CSV file with patients, splits or both, which go before those of the data set; None
        without.
    split
        Only cases of this split; None: all.
    patient_separator
        The patient is what comes before it in a case's name; None: as the table or the data set
        says, or else every case is a patient of its own.
    raters
        Only these; empty: all.
    mixed_raters
        Whether cases may have different numbers of raters.
    limit
        At most so many cases, spread evenly over them in order of name; None: all.
    """

    table: Path | None = None
    split: str | None = None
    patient_separator: str | None = None
    raters: tuple[str, ...] = ()
    mixed_raters: bool = False
    limit: int | None = None


class Cohort:
    """The selected cases of a data set.

    Parameters
    ----------
    folder
        A data set as `structseg train` reads it.
    selection
        Which part of it.

    Attributes
    ----------
    cases
        In order of name, each with its patient and the selected raters.

    Raises
    ------
    ConfigError
        If the data set is not valid, or the selection does not fit it; before an image is read.
    """

    def __init__(self, folder: Path, selection: Selection) -> None:
        self._source = open_source(folder)
        entries = sorted(self._source.entries, key=lambda entry: entry.name)
        if selection.table is not None:
            entries = _with_table(entries, read_table(selection.table), selection.table)
        if selection.split is not None:
            entries = _of_split(entries, selection.split)
        if selection.patient_separator:
            _check_separator(entries, selection.patient_separator)
        entries = [
            replace(entry, patient=_patient(entry, selection.patient_separator))
            for entry in spread(entries, selection.limit)
        ]
        if selection.raters:
            entries = _of_raters(entries, selection.raters)
        if not selection.mixed_raters:
            _check_equal_raters(entries)
        self.cases = tuple(entries)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the labels 0, 1, ..."""
        return self._source.class_names

    @property
    def unit(self) -> str:
        """Of distances: mm, or pixels where the data set does not say how large they are."""
        return self._source.unit

    def read(self, entry: CaseEntry) -> ReadCase:
        """Read one case; Ctrl-C comes after it, since libraries leave files half read behind.

        Raises
        ------
        ConfigError, InputError, MemoryLimitError
            If a file is damaged, or does not fit the data set or the image; naming it.
        """
        with deferred_interrupt() as interrupted:
            case = self._source.read(entry)
        if interrupted():
            raise KeyboardInterrupt
        return case

    def __iter__(self) -> Iterator[ReadCase]:
        return map(self.read, self.cases)

    def __len__(self) -> int:
        return len(self.cases)


def _with_table(entries: Sequence[CaseEntry], table: CaseTable, path: Path) -> list[CaseEntry]:
    missing = [entry.name for entry in entries if entry.name not in table]
    if missing:
        raise ConfigError(
            f"The table {path} says nothing about {named(missing)}. Add a line for every case of "
            "the data set."
        )
    found = [(entry, table[entry.name]) for entry in entries]
    return [
        replace(
            entry,
            patient=said.get("patient") or entry.patient,
            split=said.get("split") or entry.split,
        )
        for entry, said in found
    ]


def _of_split(entries: Sequence[CaseEntry], split: str) -> list[CaseEntry]:
    chosen = [entry for entry in entries if entry.split == split]
    known = sorted({entry.split for entry in entries if entry.split})
    if not known:
        raise ConfigError(
            f"The split {split!r} was asked for, but nothing says which case is in it. Give a CSV "
            "file with the columns case and split with --table."
        )
    if not chosen:
        raise ConfigError(f"No case is in the split {split!r}. The splits are: {', '.join(known)}.")
    return chosen


def _check_separator(entries: Sequence[CaseEntry], separator: str) -> None:
    """Patients are told apart by every name or by none: else intervals are too narrow."""
    without = [entry.name for entry in entries if separator not in entry.name]
    if without:
        raise ConfigError(
            f"--patient-separator {separator!r} does not occur in the names of {len(without)} of "
            f"{len(entries)} cases: {', '.join(without[:_MAX_NAMED])}. Give one that all names "
            "have, or a table with --table that says each patient."
        )


def _patient(entry: CaseEntry, separator: str | None) -> str:
    return entry.name.partition(separator)[0] if separator else entry.patient or entry.name


def _of_raters(entries: Sequence[CaseEntry], raters: tuple[str, ...]) -> list[CaseEntry]:
    lacking = [entry.name for entry in entries if not set(raters) <= set(entry.raters)]
    if lacking or len(set(raters)) < len(raters):
        known = sorted({name for entry in entries for name in entry.raters if name})
        raise ConfigError(
            f"--rater needs names that every case has, each once, but it is "
            f"{', '.join(map(repr, raters))}; without them: {named(lacking) or 'no case'}. The "
            f"raters of this data set are: {', '.join(known) or 'one without a name'}."
        )
    return [replace(entry, raters=raters) for entry in entries]


def _check_equal_raters(entries: Sequence[CaseEntry]) -> None:
    numbers = Counter(len(entry.raters) for entry in entries)
    if len(numbers) > 1:
        usual = numbers.most_common(1)[0][0]
        others = [entry.name for entry in entries if len(entry.raters) != usual]
        said = ", ".join(f"{n} cases have {number}" for number, n in sorted(numbers.items()))
        raise ConfigError(
            f"Cases differ in the number of their raters: {said}; among them {named(others)}. "
            "Diversities of different numbers of raters are not comparable. Choose raters that "
            "every case has with --rater, or accept this with --mixed-raters."
        )
