"""How far mean field has come, iteration by iteration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


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
        F of the responsibilities after each iteration, in nats, ``(T,)``; None for a prior
        without an energy.
    """

    residual: npt.NDArray[np.float64]
    changed: npt.NDArray[np.float64]
    free_energy: npt.NDArray[np.float64] | None = None

    @property
    def n_iterations(self) -> int:
        """T."""
        return len(self.residual)
