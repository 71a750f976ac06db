"""How far mean field has come, iteration by iteration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

# An iteration that changes this share of the labels, so late and no less than half as many as
# half-way there, belongs to a circle that does not end. With the MRF of brain-tissue, at the
# strength it was trained with, it is a tenth of that or less.
_RESTLESS = 0.01
_LATE = 10

# What is noted of the free energy: that before each iteration, or that at the start and then what
# each iteration changes.
Energies = Literal["before", "changes"]


@dataclass(frozen=True, slots=True)
class Convergence:
    """Curves over the iterations that are complete for the whole image.

    Attributes
    ----------
    residual
        Largest change of a responsibility in each iteration, ``(T,)``.
    changed
        Fraction of voxels whose label differs from that of the iteration before, ``(T,)``.
    free_energy
        F of the responsibilities after each iteration, in nats, ``(T,)``; None for an MRF
        without an energy.
    """

    residual: npt.NDArray[np.float64]
    changed: npt.NDArray[np.float64]
    free_energy: npt.NDArray[np.float64] | None = None

    @property
    def n_iterations(self) -> int:
        """T."""
        return len(self.residual)

    @property
    def warning(self) -> str:
        """Why the iterations get nowhere and what to do, in a sentence; empty if they do not."""
        n = self.n_iterations
        if n < _LATE or self.changed[-1] < max(_RESTLESS, self.changed[n // 2] / 2):
            return ""
        return (
            f"These iterations do not settle: each still changes {self.changed[-1]:.0%} of the "
            "labels. Lower the strength or the damping, or choose coloured updates."
        )


class Curves:
    """What each iteration of each slab amounts to, as it comes.

    Parameters
    ----------
    n_slabs
        How many slabs there are.
    """

    def __init__(self, n_slabs: int) -> None:
        self._n_slabs = n_slabs
        self._rows: dict[str, list[npt.NDArray[np.float64]]] = {
            "residual": [],
            "changed": [],
            "unsettled": [],
            "energy": [],
        }

    def note(self, name: str, row: int, slab: int, value: float) -> None:
        """Set an entry of what there is of ``residual``, ``energy``, or a number of sites."""
        rows = self._rows[name]
        while len(rows) <= row:
            rows.append(np.full(self._n_slabs, np.nan))
        rows[row][slab] = value

    def unsettled(self, row: int) -> float:
        """How many sites of all slabs changed a responsibility noticeably."""
        return float(self._rows["unsettled"][row].sum())

    def convergence(self, n: int, n_sites: int, energies: Energies | None) -> Convergence:
        """The curves of the first ``n`` iterations of all slabs.

        Parameters
        ----------
        n
            Iterations that every slab has.
        n_sites
            Of the whole image.
        energies
            What was noted of the free energy; None: nothing.
        """
        residual = np.array([row.max() for row in self._rows["residual"][:n]])
        changed = np.array([row.sum() for row in self._rows["changed"][:n]]) / n_sites
        if energies is None:
            return Convergence(residual, changed)
        sums = [float(row.sum()) for row in self._rows["energy"][: n + 1]]
        if energies == "changes":
            return Convergence(residual, changed, np.cumsum(sums)[1:])
        # The energy after an iteration is computed at the start of the next one.
        known = sums[1:]
        return Convergence(residual, changed, np.array(known + [np.nan] * (n - len(known))))
