"""What the user did not correct: weakly confirmed, so that strokes do not overshoot.

A user speaks of mistakes only. Taken as all there is to know, strokes pull the factors too far, and
what was right elsewhere flips. So some voxels of which nothing was said count as evidence, with a
small weight, for the class probabilities that the mean has there. To leave them costs the
Kullback-Leibler divergence from what the model said: much where it was certain, little at borders,
nothing as long as nothing moves. Without strokes they move nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from scipy.spatial import cKDTree
from torch import Tensor

from napari_structseg.distributions.base import LogitDistribution
from napari_structseg.distributions.conditioning.said import Said
from napari_structseg.distributions.strokes import Strokes

IntArray = npt.NDArray[np.int64]

# Background is confirmed so far from what is not background, in voxels, or one step of the lattice.
_BEYOND = 3
# Voxels of the lattice of which they are chosen.
_CANDIDATES = 1 << 17
# Nothing is confirmed so near to a stroke, in voxels along any axis.
_APART = 3


@dataclass(frozen=True, slots=True)
class Confirmed:
    """Voxels of which nothing was said, with the logits of the mean.

    Attributes
    ----------
    wanted
        How many were wanted: there may be fewer.
    voxels
        Flattened, ``(a,)``.
    positions
        The same along each axis, ``(a, ndim)``.
    logits
        ``(a, C)``.
    evidence
        The distribution there.
    """

    wanted: int
    voxels: IntArray
    positions: IntArray
    logits: Tensor
    evidence: Any

    def said(self, weight: float, sharpness: float) -> Said:
        """That they are as before: together as much as if there were as many as were wanted.

        Parameters
        ----------
        weight
            Of each, if there were as many.
        sharpness
            As of :class:`Conditioning`.
        """
        each = weight * self.wanted / max(1, len(self.voxels))
        return Said.as_before(self.logits, each, sharpness)

    def apart_from(self, strokes: Strokes) -> IntArray:
        """Which of them are not near any stroke."""
        said = strokes.positions
        is_apart = np.ones(len(self.voxels), bool)
        # Few are near enough to the strokes as a whole to look at each stroke.
        first, last = said.min(axis=0) - _APART, said.max(axis=0) + _APART
        close = np.flatnonzero(((self.positions >= first) & (self.positions <= last)).all(axis=1))
        if len(close):
            near, bound = self.positions[close], _APART + 0.5
            distance, _ = cKDTree(said).query(near, p=np.inf, distance_upper_bound=bound)
            is_apart[close] = np.isinf(distance)
        return np.flatnonzero(is_apart).astype(np.int64)


def candidates(distribution: LogitDistribution, n_voxels: int) -> tuple[IntArray, Tensor]:
    """Voxels that are confirmed, and the logits of the mean there, ``(a, C)``.

    The voxels of a lattice where the mean is not background, and those near by, or as many of them
    as are wanted, in an order that is always the same.
    """
    shape = distribution.spatial_shape
    step = 1
    while math.prod(-(-size // step) for size in shape) > _CANDIDATES:
        step += 1
    region = tuple(slice(min(step // 2, size - 1), size, step) for size in shape)
    mean = distribution.mean(region).cpu()
    is_object = (mean.argmax(dim=0) > 0).numpy()
    is_near = ndimage.binary_dilation(is_object, iterations=max(1, _BEYOND // step))
    place = [
        np.arange(size)[part][along]
        for size, part, along in zip(shape, region, np.nonzero(is_near), strict=True)
    ]
    voxels = np.asarray(np.ravel_multi_index(tuple(place), shape), np.int64)
    order = np.sort(np.random.default_rng(0).permutation(len(voxels))[:n_voxels])
    return voxels[order], mean[:, torch.from_numpy(is_near)].T[torch.from_numpy(order)]
