"""The labels of every iteration, kept as what changed from one to the next."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LabelArray = npt.NDArray[np.uint8]


# Bytes of a site that is kept with its place. Where many change, all of them without are fewer.
_SITE_BYTES = 5


@dataclass(frozen=True, slots=True)
class _Change:
    """What an iteration changed in a slab: the bits of the labels that differ.

    Applied to the labels before, it gives those after, and the other way round.
    """

    sites: npt.NDArray[np.int32] | None
    bits: LabelArray

    @classmethod
    def between(
        cls, sites: npt.NDArray[np.int64], before: LabelArray, after: LabelArray, n_sites: int
    ) -> _Change:
        """The change at some sites of a slab."""
        bits = before ^ after
        if _SITE_BYTES * len(sites) < n_sites:
            return cls(sites.astype(np.int32), bits)
        everywhere = np.zeros(n_sites, np.uint8)
        everywhere[sites] = bits
        return cls(None, everywhere)

    def apply(self, labels: LabelArray) -> None:
        if self.sites is None:
            labels ^= self.bits
        else:
            labels[self.sites] ^= self.bits

    def mark(self, where: npt.NDArray[np.bool_]) -> None:
        """Set ``where`` at the sites."""
        if self.sites is None:
            where |= self.bits != 0
        else:
            where[self.sites] = True


class LabelHistory:
    """Labels of all slabs at any iteration so far; going back and forth costs what changed.

    An iteration takes a byte a site at most, and most of them a small part of that.

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
        changed = sites[differ]
        change = _Change.between(changed, before[differ], labels[differ], len(newest))
        self._changes[slab].append(change)
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
            change.apply(row)
        for change in reversed(changes[wanted:now]):
            change.apply(row)
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
            self._changes[slab][self._at[slab] - 1].mark(result)
        return result
