"""Labels that are the user's own, and what of them is locked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_structseg.correction.entries import Entry
from napari_structseg.distributions.region import Region
from napari_structseg.errors import InputError


class UserResult:
    """The result of one image. Only a :class:`Correction` changes it.

    Parameters
    ----------
    shape
        Of the image, ``(*spatial)``.
    n_classes
        Number of classes C, at most 256.
    labels
        To begin with, ``(*spatial)``; None: background everywhere.

    Attributes
    ----------
    labels
        ``(*spatial)``, uint8. The array stays the same one and is changed in place, so that a
        layer can show it.
    locked
        Where it is locked, ``(*spatial)``.
    locked_classes
        Which classes are locked.
    counts
        Voxels of each class, ``(C,)``.

    Raises
    ------
    InputError
        If the labels have another shape or other classes.
    """

    def __init__(
        self,
        shape: Sequence[int],
        n_classes: int,
        labels: npt.NDArray[np.integer[Any]] | None = None,
    ) -> None:
        if not 1 <= n_classes <= 256:
            raise ValueError(f"{n_classes} classes do not fit into uint8")
        self.n_classes = n_classes
        self.labels = np.zeros(tuple(shape), np.uint8)
        if labels is not None:
            self.labels[...] = self.checked_labelling(labels)
        self.locked = np.zeros(self.shape, bool)
        self.locked_classes: frozenset[int] = frozenset()
        self.counts = counts_of(self.labels, n_classes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the image."""
        return self.labels.shape

    def copy(self) -> UserResult:
        """The same, with arrays of its own."""
        other = UserResult(self.shape, self.n_classes)
        other.labels[...] = self.labels
        other.locked[...] = self.locked
        other.locked_classes = self.locked_classes
        other.counts = self.counts
        return other

    def protected(self, box: Region) -> npt.NDArray[np.bool_]:
        """Which voxels of a box nothing may overwrite but the user's own hand."""
        mask = self.locked[box].copy()
        for label in self.locked_classes:
            mask |= self.labels[box] == label
        return mask

    def apply(self, entry: Entry, *, is_forward: bool) -> None:
        """Do what an entry says, or take it back.

        Raises
        ------
        InputError
            If its differences are damaged.
        """
        if entry.labels is not None:
            entry.labels.apply(self.labels)
            gains = np.asarray(entry.gains, np.int64)
            self.counts = self.counts + gains if is_forward else self.counts - gains
        if entry.locked is not None:
            entry.locked.apply(self.locked.view(np.uint8))
        if entry.locked_classes is not None:
            self.locked_classes = entry.locked_classes[is_forward]

    def check_region(self, region: npt.NDArray[np.bool_]) -> None:
        """Raise InputError unless a mask is one of the whole image."""
        if region.shape != self.shape:
            raise InputError(
                f"A region of the image's shape {self.shape} was expected, but it is "
                f"{region.shape}."
            )

    def checked_labelling(self, labelling: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.uint8]:
        """A labelling as uint8, or an InputError if it is none of this image and its classes."""
        if labelling.shape != self.shape:
            raise InputError(
                f"A labelling of the image's shape {self.shape} was expected, but it is "
                f"{labelling.shape}."
            )
        self.check_classes(labelling)
        return labelling.astype(np.uint8, copy=False)

    def checked_voxels(self, voxels: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int64]:
        """Indices of voxels as int64, or an InputError if one lies outside."""
        if len(voxels) and (voxels.min() < 0 or voxels.max() >= math.prod(self.shape)):
            raise InputError(f"There are voxels outside the image, whose shape is {self.shape}.")
        return voxels.astype(np.int64, copy=False)

    def check_classes(self, labels: npt.NDArray[np.integer[Any]]) -> None:
        """Raise InputError unless every label is a class."""
        if labels.size and (labels.min() < 0 or labels.max() >= self.n_classes):
            raise InputError(
                f"Classes from 0 to {self.n_classes - 1} were expected, but there are labels from "
                f"{labels.min()} to {labels.max()}. Choose a class of the model."
            )


def counts_of(labels: npt.NDArray[np.uint8], n_classes: int) -> npt.NDArray[np.int64]:
    """Voxels of each class, ``(C,)``."""
    # For a few classes much faster than bincount, which converts every voxel to 8 bytes.
    return np.array([np.count_nonzero(labels == label) for label in range(n_classes)], np.int64)
