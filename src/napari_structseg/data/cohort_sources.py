"""Where the cases of a cohort come from: files in nnU-Net's layout, or a stack of arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from napari_structseg.data.cases import read_case_image, read_case_labels
from napari_structseg.data.dataset import (
    DESCRIPTION,
    RATER_SEPARATOR,
    Case,
    read_dataset,
    read_description,
)
from napari_structseg.data.stack import is_stack, read_stack
from napari_structseg.evaluation.overlaps import LabelArray
from napari_structseg.image import Image
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

    def read(self, name: str, raters: Sequence[str]) -> tuple[Image, LabelArray]:
        """The image of a case on its own grid, and the labels of some raters, ``(M, *spatial)``.

        Raises
        ------
        ConfigError, InputError, MemoryLimitError
            If a file is damaged, or does not fit the data set or the image; naming it.
        """
        ...


class FileCases:
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
        self.entries = tuple(CaseEntry(case.name, _raters(case)) for case in self._dataset.cases)
        first = self._dataset.cases[0].images[0]
        self.unit = PIXELS if first.name.endswith(PNG_SUFFIX) else MM

    def read(self, name: str, raters: Sequence[str]) -> tuple[Image, LabelArray]:
        """As :meth:`CaseSource.read`."""
        case = self._cases[name]
        image = read_case_image(case, self._dataset)
        files = dict(zip(_raters(case), case.labels, strict=True))
        labels = [read_case_labels(files[rater], image, self._dataset) for rater in raters]
        return image, np.stack(labels)


class StackCases:
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

    def read(self, name: str, raters: Sequence[str]) -> tuple[Image, LabelArray]:
        """As :meth:`CaseSource.read`."""
        case = self._cases[name]
        chosen = [self._stack.raters.index(rater) for rater in raters]
        return self._stack.image(case), self._stack.labels(case)[chosen]


def open_source(folder: Path) -> CaseSource:
    """Open a data set in either layout, without reading an image.

    Raises
    ------
    ConfigError, InputError
        If it is not valid.
    """
    return StackCases(folder) if is_stack(folder) else FileCases(folder)


def _raters(case: Case) -> tuple[str, ...]:
    """Names of the raters, from those of the files."""
    names = []
    for path in case.labels:
        name = path.name.removeprefix(case.name).removeprefix(RATER_SEPARATOR)
        for ending in (".gz", ".nii", PNG_SUFFIX):
            name = name.removesuffix(ending)
        names.append(name)
    return tuple(names)
