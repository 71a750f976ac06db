"""The local term: what is said holds where it is said, whether or not the model can explain it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_structseg.distributions.conditioning.voxels import index_of, within
from napari_structseg.distributions.region import Region, region_shape
from napari_structseg.distributions.strokes import Strokes

# By how much the class of a stroke leads: beyond what an MRF at any strength says against it.
CERTAIN = 1000.0


@dataclass(frozen=True, slots=True)
class LocalTerm:
    """What is changed at single voxels, after the model has had its say.

    Attributes
    ----------
    shape
        Of the image.
    voxels
        Which voxels, flattened, ascending, ``(k,)``.
    raised
        What is added to their mean logits, ``(k, C)``, float32.
    kept
        What their offset is multiplied with, ``(k,)``, float32; 0 at stroke voxels.
    said
        Their class, ``(k,)``, int64; -1: nothing was said of them.
    """

    shape: tuple[int, ...]
    voxels: npt.NDArray[np.int64]
    raised: npt.NDArray[np.float32]
    kept: npt.NDArray[np.float32]
    said: npt.NDArray[np.int64]

    @classmethod
    def around(
        cls,
        strokes: Strokes,
        missing: npt.NDArray[np.float64],
        n_classes: int,
        reach: Sequence[float],
    ) -> LocalTerm:
        """The term of some strokes.

        Near a stroke voxel that lacks ``missing`` of its margin, the logit of its class is raised
        by missing * w(d / reach) with Wendland's function w(t) = (1 - t)^4 (1 + 4 t), which is 1 at
        the voxel, 0 from the reach on, and smooth; the largest of several counts. In the same
        measure samples keep less of their own offset.

        Parameters
        ----------
        strokes
            What was said.
        missing
            By how much the model's mean falls short at each voxel, 0 or more, ``(n,)``.
        n_classes
            Number of classes C.
        reach
            In voxels along each axis.

        References
        ----------
        Wendland, *Piecewise polynomial, positive definite and compactly supported radial functions
        of minimal degree*, 1995.
        """
        which = np.flatnonzero(missing > 0)
        lacks, labels = missing[which].astype(np.float32), strokes.labels[which]
        near, is_inside, weights = _near(strokes, which, tuple(reach))
        every = np.concatenate([strokes.voxels, near[is_inside]])
        voxels, inverse = np.unique(every, return_inverse=True)
        said = np.full(len(voxels), -1, np.int64)
        said[inverse[: len(strokes)]] = strokes.labels
        place = np.zeros(near.shape, np.int64)
        place[is_inside] = inverse[len(strokes) :]
        raised = np.zeros((len(voxels), n_classes), np.float32)
        taken = np.zeros(len(voxels), np.float32)
        share = np.minimum(lacks, 1)
        # Of one step no two stroke voxels lead to the same place, so that nothing is lost.
        for step, weight in enumerate(weights):
            rows = is_inside[:, step]
            at, label = place[rows, step], labels[rows]
            raised[at, label] = np.maximum(raised[at, label], weight * lacks[rows])
            taken[at] = np.maximum(taken[at], weight * share[rows])
        kept = np.where(said >= 0, np.float32(0), 1 - taken)
        return cls(strokes.shape, voxels, raised, kept, said)

    def inside(self, region: Region) -> LocalTerm:
        """The term of a region."""
        kept, voxels = within(self.voxels, self.shape, region)
        shape = region_shape(self.shape, region)
        # Of a region that runs backwards the voxels would not ascend; there is none.
        return LocalTerm(shape, voxels, self.raised[kept], self.kept[kept], self.said[kept])

    def on_mean(self, mean: Tensor, region: Region | None) -> Tensor:
        """Mean logits ``(C, *region)`` with the term; a copy where it changes something."""
        term = self if region is None else self.inside(region)
        if not len(term.voxels):
            return mean
        index = index_of(term.voxels, term.shape, mean.device, 1)
        raised = torch.from_numpy(term.raised.T).to(mean.device)
        values = mean[index] + raised
        said = torch.from_numpy(term.said).to(mean.device)
        label = said.clamp(min=0)[None]
        own = values.gather(0, label)[0]
        others = values.scatter(0, label, -math.inf).amax(dim=0)
        certain = torch.maximum(own, others + CERTAIN)
        values.scatter_(0, label, torch.where(said >= 0, certain, own)[None])
        result = mean.clone()
        result[index] = values
        return result

    def on_offsets_(self, offsets: Tensor, region: Region | None) -> None:
        """Multiply offsets ``(N, C, *region)`` with what is kept of them, in place."""
        term = self if region is None else self.inside(region)
        if len(term.voxels):
            index = index_of(term.voxels, term.shape, offsets.device, 2)
            offsets[index] *= torch.from_numpy(term.kept).to(offsets.device)


def _near(
    strokes: Strokes, which: npt.NDArray[np.intp], reach: tuple[float, ...]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_], npt.NDArray[np.float32]]:
    """Voxels within the reach of some stroke voxels.

    Returns
    -------
    near
        Their index in the flattened image, for each stroke voxel and step, ``(k, m)``.
    is_inside
        Whether the step stays in the image, ``(k, m)``.
    weights
        w of each step, ``(m,)``.
    """
    steps, weights = _steps(reach)
    strides = np.cumprod([1, *reversed(strokes.shape[1:])])[::-1]
    near = strokes.voxels[which][:, None] + steps @ strides
    is_inside = np.ones(near.shape, bool)
    for positions, step, size in zip(
        strokes.positions[which].T, steps.T, strokes.shape, strict=True
    ):
        moved = positions[:, None] + step
        is_inside &= (moved >= 0) & (moved < size)
    return near, is_inside, weights


@cache
def _steps(reach: tuple[float, ...]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Steps within a reach, ``(m, ndim)``, and w of each, ``(m,)``."""
    steps, weights = [], []
    for step in itertools.product(*(range(-math.ceil(one), math.ceil(one) + 1) for one in reach)):
        distance = math.hypot(*(part / one for part, one in zip(step, reach, strict=True)))
        if distance < 1:
            steps.append(step)
            weights.append((1 - distance) ** 4 * (1 + 4 * distance))
    return np.array(steps, np.int64), np.array(weights, np.float32)


def everywhere(reach: float | tuple[float, ...], n_axes: int) -> tuple[float, ...]:
    """The reach along each axis."""
    return reach if isinstance(reach, tuple) else (reach,) * n_axes
