"""Where cases come from, in training and in evaluation: files in nnU-Net's layout, or a stack."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from napari_structseg.data.cases import ReadCase, read_case
from napari_structseg.data.dataset import read_dataset
from napari_structseg.data.description import DESCRIPTION, read_description
from napari_structseg.data.stack import is_stack, read_stack
from napari_structseg.io.png import SUFFIX as PNG_SUFFIX

MM, PIXELS = "mm", "pixels"


@dataclass(frozen=True, slots=True)
class CaseEntry:
    """One case before it is read.

    Attributes
    ----------
    name
        Of the case.
    raters
        Names of those who labelled it, in order; a single rater may have the empty name.
    patient, split
        Whom it is of, and to which split it belongs; empty where nobody says.
    """

    name: str
    raters: tuple[str, ...]
    patient: str = ""
    split: str = ""


class CaseSource(Protocol):
    """A data set whose cases are read one by one."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the labels 0, 1, ..."""
        ...

    @property
    def unit(self) -> str:
        """Of distances: mm, or pixels where nobody says how large they are."""
        ...

    @property
    def entries(self) -> tuple[CaseEntry, ...]:
        """All cases."""
        ...

    def read(self, entry: CaseEntry) -> ReadCase:
        """A case on its own grid, with the raters of the entry.

        Raises
        ------
        ConfigError, InputError, MemoryLimitError
            If a file is damaged, or does not fit the data set or the image; naming it.
        """
        ...


class FileSource:
    """A data set in nnU-Net's layout.

    Parameters
    ----------
    folder
        See :mod:`napari_structseg.data.dataset`.

    Raises
    ------
    ConfigError
        If it is not valid.
    """

    def __init__(self, folder: Path) -> None:
        self._dataset = read_dataset(folder)
        self._cases = {case.name: case for case in self._dataset.cases}
        self.class_names = self._dataset.classes
        self.entries = tuple(CaseEntry(case.name, case.raters) for case in self._dataset.cases)
        first = self._dataset.cases[0].images[0]
        self.unit = PIXELS if first.name.endswith(PNG_SUFFIX) else MM

    def read(self, entry: CaseEntry) -> ReadCase:
        """As :meth:`CaseSource.read`."""
        case = read_case(self._cases[entry.name], self._dataset, raters=entry.raters)
        return replace(case, patient=entry.patient)


class StackSource:
    """A data set as two arrays, which are mapped into memory.

    Parameters
    ----------
    folder
        See :mod:`napari_structseg.data.stack`.

    Raises
    ------
    ConfigError, InputError
        If it is not valid.
    """

    def __init__(self, folder: Path) -> None:
        self._stack = read_stack(folder)
        self._cases = {case.name: case for case in self._stack.cases}
        self.class_names = self._stack.classes
        self.entries = tuple(
            CaseEntry(case.name, self._stack.raters, case.patient, case.split)
            for case in self._stack.cases
        )
        self.unit = PIXELS if read_description(folder / DESCRIPTION).spacing is None else MM

    def read(self, entry: CaseEntry) -> ReadCase:
        """As :meth:`CaseSource.read`."""
        case = self._stack.read(self._cases[entry.name], entry.raters)
        return replace(case, patient=entry.patient)


def open_source(folder: Path) -> CaseSource:
    """Open a data set in either layout, without reading an image.

    Raises
    ------
    ConfigError, InputError
        If it is not valid.
    """
    return StackSource(folder) if is_stack(folder) else FileSource(folder)
