"""Slices given strokes, all together: they share what a sample is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_structseg.distributions.conditioning.corrected import Posterior
from napari_structseg.distributions.conditioning.posterior import AtStrokes
from napari_structseg.distributions.conditioning.said import Said
from napari_structseg.distributions.conditioning.settings import Conditioning

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class StackEvidence:
    """Slices at the stroke voxels.

    Attributes
    ----------
    together
        The voxels of all slices, one slice after the other.
    order
        Which voxel of the volume each of these is, ``(n,)``.
    """

    together: Any
    order: IntArray

    @property
    def confirmed_share(self) -> float:
        """As the slices."""
        share: float = self.together.confirmed_share
        return share

    @classmethod
    def joined(cls, parts: Sequence[StackEvidence]) -> StackEvidence:
        """The voxels of several sets, one set after the other."""
        starts = np.cumsum([0, *(len(part.order) for part in parts)])
        order = [part.order + start for part, start in zip(parts, starts[:-1], strict=True)]
        together = [part.together for part in parts]
        return cls(type(together[0]).joined(together), np.concatenate(order))

    def picked(self, index: IntArray) -> StackEvidence:
        """Some of the voxels, by ascending index."""
        rows = np.flatnonzero(np.isin(self.order, index)).astype(np.int64)
        order = np.searchsorted(index, self.order[rows]).astype(np.int64)
        return StackEvidence(self.together.picked(rows), order)

    def posterior(self, said: Said, settings: Conditioning) -> StackPosterior:
        """One posterior for all slices."""
        posterior = self.together.posterior(said.picked(self.order), settings)
        return StackPosterior(posterior, self.order)


@dataclass(frozen=True, slots=True)
class StackPosterior:
    """What is known of what all slices share; ``order`` as of :class:`StackEvidence`."""

    shared: Posterior
    order: IntArray

    @property
    def at_strokes(self) -> AtStrokes:
        """What is known at the stroke voxels, in the order of the volume."""
        return self.shared.at_strokes.picked(np.argsort(self.order))


def join(parts: list[tuple[Any, IntArray]]) -> StackEvidence:
    """Evidence of several slices, each with the voxels of the volume that it is of."""
    evidences = [evidence for evidence, _ in parts]
    return StackEvidence(
        type(evidences[0]).joined(evidences), np.concatenate([rows for _, rows in parts])
    )
