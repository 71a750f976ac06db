"""Slices given strokes, all together: they share what a sample is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_structseg.distributions.conditioning.corrected import Evidence, Posterior
from napari_structseg.distributions.conditioning.posterior import AtStrokes
from napari_structseg.distributions.conditioning.settings import Conditioning

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class StackEvidence:
    """Slices at the stroke voxels.

    Attributes
    ----------
    joined
        The voxels of all slices, one slice after the other.
    order
        Which voxel of the volume each of these is, ``(n,)``.
    """

    joined: Evidence
    order: IntArray

    def posterior(self, labels: npt.NDArray[np.uint8], settings: Conditioning) -> StackPosterior:
        """One posterior for all slices."""
        return StackPosterior(self.joined.posterior(labels[self.order], settings), self.order)


@dataclass(frozen=True, slots=True)
class StackPosterior:
    """What is known of what all slices share; ``order`` as of :class:`StackEvidence`."""

    shared: Posterior
    order: IntArray

    @property
    def at_strokes(self) -> AtStrokes:
        """What is known at the stroke voxels, in the order of the volume."""
        return self.shared.at_strokes.reordered(np.argsort(self.order))


def join(parts: list[tuple[Any, IntArray]]) -> StackEvidence:
    """Evidence of several slices, each with the voxels of the volume that it is of."""
    evidences = [evidence for evidence, _ in parts]
    joined: Evidence = type(evidences[0]).joined(evidences)
    return StackEvidence(joined, np.concatenate([rows for _, rows in parts]))
