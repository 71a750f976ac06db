"""What one action says of single voxels, whatever was said of them before."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_structseg.distributions import Strokes


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """Voxels of which something else is said than before.

    Unlike a difference, it can be applied to other strokes than those it was made of: a stroke
    that was painted while another is taken back says the same of its own voxels.

    Attributes
    ----------
    voxels
        Index of each in the flattened image, ascending, ``(n,)``.
    values
        0: nothing is said of it; k + 1: it has class k. ``(n,)``.
    """

    voxels: npt.NDArray[np.int64]
    values: npt.NDArray[np.uint16]

    @classmethod
    def between(cls, before: Strokes, after: Strokes) -> Said:
        """What makes some strokes of others."""
        voxels = np.union1d(before.voxels, after.voxels)
        old, new = _values_at(before, voxels), _values_at(after, voxels)
        changed = old != new
        return cls(voxels[changed], new[changed])

    def on(self, strokes: Strokes) -> Strokes:
        """Strokes, and what is said here."""
        if not len(self.voxels):
            return strokes
        kept, is_said = ~np.isin(strokes.voxels, self.voxels), self.values > 0
        voxels = np.concatenate([strokes.voxels[kept], self.voxels[is_said]])
        values = (self.values[is_said] - 1).astype(np.uint8)
        labels = np.concatenate([strokes.labels[kept], values])
        order = np.argsort(voxels)
        return Strokes(strokes.shape, voxels[order], labels[order])


def _values_at(strokes: Strokes, voxels: npt.NDArray[np.int64]) -> npt.NDArray[np.uint16]:
    """What is said of voxels that include those of the strokes: 0 nothing, k + 1 class k."""
    values = np.zeros(len(voxels), np.uint16)
    values[np.searchsorted(voxels, strokes.voxels)] = strokes.labels.astype(np.uint16) + 1
    return values
