"""What every kind of posterior says of the stroke voxels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_structseg.distributions.conditioning.said import Said
from napari_structseg.distributions.conditioning.settings import Conditioning


@dataclass(frozen=True, slots=True)
class AtStrokes:
    """A posterior at the stroke voxels.

    Attributes
    ----------
    logits
        Its mean logits there, without noise that a voxel has of its own, ``(n, C)``, float64.
    reachable
        By how much the model could let each label lead, were it the only one, ``(n,)``.
    effective
        Effective number of latent positions or members behind it; None: it has none.
    scored
        How many were weighed.
    latent
        Where its mean lies, in standard deviations of the latent prior; empty: no latent space.
    """

    logits: Tensor
    reachable: Tensor
    effective: float | None = None
    scored: int = 0
    latent: tuple[float, ...] = ()

    def picked(self, order: npt.NDArray[np.int64]) -> AtStrokes:
        """The same of some of the voxels, or of all in another order."""
        index = torch.from_numpy(order)
        return AtStrokes(
            self.logits[index], self.reachable[index], self.effective, self.scored, self.latent
        )


def lead(logits: Tensor, labels: npt.NDArray[np.uint8]) -> Tensor:
    """By how much the logit of each label leads the largest other one.

    Parameters
    ----------
    logits
        ``(*batch, n, C)``.
    labels
        ``(n,)``.

    Returns
    -------
    Tensor
        ``(*batch, n)``.
    """
    index = torch.from_numpy(labels.astype(np.int64))[:, None].expand(*logits.shape[:-1], 1)
    own = logits.gather(-1, index)[..., 0]
    return own - logits.scatter(-1, index, -torch.inf).amax(dim=-1)


@dataclass(frozen=True, slots=True)
class PointEvidence:
    """Logits that are what they are, ``(n, C)``."""

    confirmed_share: ClassVar[float] = 0.0

    logits: Tensor

    @classmethod
    def joined(cls, parts: Sequence[PointEvidence]) -> PointEvidence:
        """The voxels of several slices, one slice after the other."""
        return cls(torch.cat([part.logits for part in parts]))

    def posterior(self, said: Said, _settings: Conditioning) -> PointPosterior:
        """Nothing that could change."""
        return PointPosterior(AtStrokes(self.logits, lead(self.logits, said.labels)))


@dataclass(frozen=True, slots=True)
class PointPosterior:
    """Of a distribution in which the strokes tell nothing of other voxels."""

    at_strokes: AtStrokes
