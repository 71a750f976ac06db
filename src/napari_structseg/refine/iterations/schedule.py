"""Which slab is next: the visible one as soon as its neighbours allow it, then the rest.

An iteration of a slab needs the iteration before of the two slabs beside it, and nothing else. So
slabs are not taken in lockstep: the visible slab runs ahead, and only what its next iteration
needs is computed first.
"""

from __future__ import annotations

import numpy as np


class Schedule:
    """How many iterations each slab has.

    Parameters
    ----------
    n_slabs
        How many slabs there are.
    has_neighbours
        Whether slabs depend on those beside them.
    is_coloured
        Whether odd slabs come after the even ones of the same iteration.
    """

    def __init__(self, n_slabs: int, *, has_neighbours: bool, is_coloured: bool) -> None:
        self._has_neighbours = has_neighbours
        self._is_coloured = is_coloured
        self._at = np.zeros(n_slabs, np.int64)

    def reached(self, slab: int) -> int:
        """Iterations of a slab so far."""
        return int(self._at[slab])

    @property
    def n_complete(self) -> int:
        """Iterations that every slab has."""
        return int(self._at.min())

    @property
    def n_furthest(self) -> int:
        """Iterations that at least one slab has."""
        return int(self._at.max())

    def share(self, target: int) -> float:
        """How much of so many iterations of all slabs is there, from 0 to 1."""
        return float(np.minimum(self._at, target).mean()) / target if target else 1.0

    def next(self, toward: int, target: int) -> int | None:
        """The slab to do one more iteration of; None if all have as many as wanted."""
        behind = np.flatnonzero(self._at < target)
        if not len(behind):
            return None
        slab = int(behind[np.abs(behind - toward).argmin()])
        while (needed := self._lagging(slab)) is not None:
            slab = needed
        return slab

    def note(self, slab: int) -> None:
        """A slab has one more iteration."""
        self._at[slab] += 1

    def _lagging(self, slab: int) -> int | None:
        """A neighbour that must go first."""
        needed = self._at[slab]
        if self._is_coloured and slab % 2:
            needed += 1
        for beside in (slab - 1, slab + 1):
            if self._has_neighbours and 0 <= beside < len(self._at) and self._at[beside] < needed:
                return beside
        return None
