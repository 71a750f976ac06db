"""How well a model could explain what was said."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """Which strokes a model could explain, and how.

    Attributes
    ----------
    explained
        Of each stroke voxel, whether its class leads in the conditioned mean of the model, without
        the local term, ``(n,)``.
    possible
        Whether the model could explain it if nothing else were said, ``(n,)``.
    effective
        Effective number of latent positions behind the posterior, or of members of a finite set;
        None where the posterior is not made of them.
    scored
        How many were weighed.
    latent
        Where the posterior's mean lies, in standard deviations of the latent prior; empty: there
        is no latent space.
    """

    explained: npt.NDArray[np.bool_]
    possible: npt.NDArray[np.bool_]
    effective: float | None = None
    scored: int = 0
    latent: tuple[float, ...] = ()

    @property
    def n_voxels(self) -> int:
        """Stroke voxels."""
        return len(self.explained)

    @property
    def n_explained(self) -> int:
        """Those that the model explains, all together."""
        return int(self.explained.sum())

    @property
    def n_only_alone(self) -> int:
        """Those that it could explain alone, but not with the rest.

        The rest is the other strokes, and what was not corrected.
        """
        return int((self.possible & ~self.explained).sum())

    @property
    def n_impossible(self) -> int:
        """Those that it could not explain even alone."""
        return int((~self.possible & ~self.explained).sum())
