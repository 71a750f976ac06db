"""The labels of every iteration, kept as what changed from one to the next."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LabelArray = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class _Change:
    """Sites of a slab whose label an iteration changed, and what it was before and after."""

    sites: npt.NDArray[np.int32]
    before: LabelArray
    after: LabelArray


class LabelHistory:
    """Labels of all slabs at any iteration so far; going back and forth costs what changed.

    Parameters
    ----------
    n_slabs, n_sites
        Slabs, and sites of each.
    """

    def __init__(self, n_slabs: int, n_sites: int) -> None:
        self.labels = np.zeros((n_slabs, n_sites), np.uint8)
        self._start = np.zeros((n_slabs, n_sites), np.uint8)
        self._changes: list[list[_Change]] = [[] for _ in range(n_slabs)]
        self._at = np.zeros(n_slabs, np.int64)
        self._newest = np.zeros((n_slabs, n_sites), np.uint8)

    def begin(self, slab: int, labels: LabelArray) -> None:
        """Set the labels of a slab before the first iteration, ``(n_sites,)``."""
        self._start[slab] = self._newest[slab] = self.labels[slab] = labels
        self._changes[slab].clear()
        self._at[slab] = 0

    def append(self, slab: int, sites: npt.NDArray[np.int64], labels: LabelArray) -> int:
        """Add an iteration of a slab.

        Parameters
        ----------
        slab
            Which.
        sites
            Those that were computed, ``(n,)``; the others keep their labels.
        labels
            Their labels, ``(n,)``.

        Returns
        -------
        int
            How many labels changed.
        """
        newest = self._newest[slab]
        before = newest[sites]
        differ = np.flatnonzero(before != labels)
        changed = sites[differ].astype(np.int32)
        self._changes[slab].append(_Change(changed, before[differ], labels[differ]))
        newest[changed] = labels[differ]
        return len(changed)

    def n_iterations(self, slab: int) -> int:
        """How many iterations a slab has."""
        return len(self._changes[slab])

    def seek(self, slab: int, iteration: int) -> LabelArray:
        """Bring :attr:`labels` of a slab to an iteration, or the last there is, ``(n_sites,)``."""
        row: LabelArray = self.labels[slab]
        changes = self._changes[slab]
        wanted = min(iteration, len(changes))
        now = int(self._at[slab])
        for change in changes[now:wanted]:
            row[change.sites] = change.after
        for change in reversed(changes[wanted:now]):
            row[change.sites] = change.before
        self._at[slab] = wanted
        return row

    def differs_from_start(self, slab: int) -> npt.NDArray[np.bool_]:
        """Where :attr:`labels` of a slab differ from those before the first iteration."""
        result: npt.NDArray[np.bool_] = self.labels[slab] != self._start[slab]
        return result

    def differs_from_previous(self, slab: int) -> npt.NDArray[np.bool_]:
        """Where :attr:`labels` of a slab differ from those one iteration before."""
        result = np.zeros(self.labels.shape[1], bool)
        if self._at[slab]:
            result[self._changes[slab][self._at[slab] - 1].sites] = True
        return result
