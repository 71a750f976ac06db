"""What the user did not correct: weakly confirmed, so that strokes do not overshoot.

A user speaks of mistakes only. Taken as all there is to know, strokes pull the factors too far, and
what was right elsewhere flips. So some voxels of which nothing was said count as evidence for the
label of the mean, each with a small weight: few of those where the model is certain can flip,
borders flip cheaply.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from napari_structseg.distributions.base import LogitDistribution
from napari_structseg.distributions.strokes import Strokes

IntArray = npt.NDArray[np.int64]

# Background that leads by more is not worth confirming.
_CERTAIN_BACKGROUND = 6.0
# Voxels of the lattice of which they are chosen.
_CANDIDATES = 1 << 17
# Nothing is confirmed so near to a stroke, in voxels along any axis.
_APART = 3


@dataclass(frozen=True, slots=True)
class Confirmed:
    """Voxels of which nothing was said, with the labels of the mean.

    Attributes
    ----------
    wanted
        How many were wanted: there may be fewer.
    voxels
        Flattened, ``(a,)``.
    positions
        The same along each axis, ``(a, ndim)``.
    labels
        ``(a,)``.
    evidence
        The distribution there.
    """

    wanted: int
    voxels: IntArray
    positions: IntArray
    labels: npt.NDArray[np.uint8]
    evidence: Any

    def apart_from(self, strokes: Strokes) -> IntArray:
        """Which of them are not near any stroke."""
        tree = cKDTree(strokes.positions)
        distance, _ = tree.query(self.positions, p=np.inf, distance_upper_bound=_APART + 0.5)
        return np.flatnonzero(np.isinf(distance)).astype(np.int64)


def candidates(
    distribution: LogitDistribution, n_voxels: int
) -> tuple[IntArray, npt.NDArray[np.uint8]]:
    """Voxels that are confirmed, and the labels of the mean there.

    The voxels of a lattice where the mean is not certain background, or as many of them as are
    wanted, in an order that is always the same.
    """
    shape = distribution.spatial_shape
    step = 1
    while math.prod(-(-size // step) for size in shape) > _CANDIDATES:
        step += 1
    region = tuple(slice(min(step // 2, size - 1), size, step) for size in shape)
    mean = distribution.mean(region).cpu()
    others = mean[1:].amax(dim=0)
    is_worth = (mean[0] - others < _CERTAIN_BACKGROUND).numpy()
    labels = mean.argmax(dim=0).numpy()[is_worth].astype(np.uint8)
    place = [
        np.arange(size)[part][along]
        for size, part, along in zip(shape, region, np.nonzero(is_worth), strict=True)
    ]
    voxels = np.asarray(np.ravel_multi_index(tuple(place), shape), np.int64)
    order = np.sort(np.random.default_rng(0).permutation(len(voxels))[:n_voxels])
    return voxels[order], labels[order]
