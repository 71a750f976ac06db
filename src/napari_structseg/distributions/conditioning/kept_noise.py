"""Noise of single voxels that stays what it is from one stroke to the next."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

IntArray = npt.NDArray[np.int64]

# Samples of which it is kept: those behind contours, and the one that is shown.
_KEPT = 32
# Of each sample: that of voxels and of strokes, both at the strokes and at what is confirmed.
_KINDS = 4


class KeptNoise:
    """Columns of numbers, one for each voxel, that are computed once.

    With each stroke a few voxels come to thousands that were there. Kept are those that were asked
    for last, of some samples.
    """

    def __init__(self) -> None:
        self._kept: dict[Hashable, tuple[IntArray, Tensor]] = {}

    def at(self, key: Hashable, voxels: IntArray, draw: Callable[[IntArray], Tensor]) -> Tensor:
        """The numbers of some voxels.

        Parameters
        ----------
        key
            Of what they are; the same numbers of a voxel belong to the same key, always.
        voxels
            Ascending, ``(n,)``.
        draw
            Computes those of some voxels, ``(k,)`` to ``(C, k)``.

        Returns
        -------
        Tensor
            ``(C, n)``.
        """
        before = self._kept.pop(key, None)
        values = draw(voxels) if before is None else _completed(*before, voxels, draw)
        while len(self._kept) >= _KEPT * _KINDS:
            self._kept.pop(next(iter(self._kept)), None)
        # The least recently used comes first.
        self._kept[key] = voxels, values
        return values


def _completed(
    known: IntArray, values: Tensor, voxels: IntArray, draw: Callable[[IntArray], Tensor]
) -> Tensor:
    """Values ``(C, n)`` of voxels, of which some are known."""
    if np.array_equal(known, voxels):
        return values
    if not len(known):
        return draw(voxels)
    place = np.minimum(np.searchsorted(known, voxels), len(known) - 1)
    is_known = known[place] == voxels
    result = values[:, torch.from_numpy(place)]
    if not is_known.all():
        result[:, torch.from_numpy(~is_known)] = draw(voxels[~is_known])
    return result
