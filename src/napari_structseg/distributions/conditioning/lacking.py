"""What strokes lack of their margin, from which the local term is made where it is looked at."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from napari_structseg.distributions.conditioning.local import LocalTerm
from napari_structseg.distributions.region import Region, region_shape, slabs
from napari_structseg.distributions.strokes import Strokes

# Voxels of a box in which the term is made at a time: a slice, mostly.
_BOX_VOXELS = 1 << 18

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Lacking:
    """What strokes lack of their margin, and how far that reaches: the term before it is made.

    Near a stroke voxel that lacks ``missing`` of its margin, the logit of its class is raised
    by missing * w(d / reach) with Wendland's function w(t) = (1 - t)^4 (1 + 4 t), which is 1 at
    the voxel, 0 from the reach on, and smooth; the largest of several counts. In the same
    measure samples keep less of their own offset.

    Attributes
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

    strokes: Strokes
    missing: npt.NDArray[np.float64]
    n_classes: int
    reach: tuple[float, ...]

    def everywhere(self, box_voxels: int = _BOX_VOXELS) -> LocalTerm:
        """The term of the image, made in boxes of so many voxels at most, or of one slice."""
        shape = self.strokes.shape
        if not len(self.strokes):
            return self._joined([])
        positions, around = self.strokes.positions, _around(self.reach)
        box = tuple(
            slice(max(int(first) - most, 0), min(int(last) + most + 1, size))
            for first, last, most, size in zip(
                positions.min(axis=0), positions.max(axis=0), around, shape, strict=True
            )
        )
        starts = tuple(part.start for part in box)
        inner = [
            tuple(
                slice(part.start + start, part.stop + start)
                for part, start in zip(slab, starts, strict=True)
            )
            for slab in slabs(region_shape(shape, box), box_voxels)
        ]
        return self._joined([self._in_box(one) for one in inner])

    def within(self, region: Region) -> LocalTerm | None:
        """The term of a region; None where that is no less work than that of the image."""
        ranges = [
            range(*part.indices(size))
            for part, size in zip(region, self.strokes.shape, strict=True)
        ]
        box = tuple(slice(one.start, one[-1] + 1) for one in ranges if len(one))
        if len(box) < len(ranges) or math.prod(p.stop - p.start for p in box) > _BOX_VOXELS:
            return None
        return self._joined([self._in_box(box)]).inside(region)

    def _joined(self, parts: Sequence[_Part]) -> LocalTerm:
        """Parts of ascending voxels, one after the other."""
        none = _Part(
            np.zeros(0, np.int64),
            np.zeros((0, self.n_classes), np.float32),
            np.zeros(0, np.float32),
            np.zeros(0, np.int64),
        )
        every = [none, *parts]
        said = np.concatenate([one.said for one in every])
        taken = np.concatenate([one.taken for one in every])
        return LocalTerm(
            self.strokes.shape,
            np.concatenate([one.voxels for one in every]),
            np.concatenate([one.raised for one in every]),
            np.where(said >= 0, np.float32(0), 1 - taken),
            said,
        )

    def _in_box(self, box: Region) -> _Part:
        """What is changed in a box, slices without steps."""
        sizes = tuple(part.stop - part.start for part in box)
        offsets = self.strokes.positions - np.array([part.start for part in box])
        is_said = ((offsets >= 0) & (offsets < sizes)).all(axis=1)
        at_strokes = _flat(offsets[is_said].T, sizes)
        around = np.array(_around(self.reach))
        is_near = (offsets >= -around) & (offsets < sizes + around)
        which = np.flatnonzero((self.missing > 0) & is_near.all(axis=1))
        place, pair, weights = _pairs(offsets[which], self.reach, sizes)
        lacks = self.missing[which].astype(np.float32)
        is_changed = np.zeros(math.prod(sizes), bool)
        is_changed[place] = True
        is_changed[at_strokes] = True
        inside = np.flatnonzero(is_changed)
        rows = np.zeros(len(is_changed), np.int64)
        rows[inside] = np.arange(len(inside))
        said = np.full(len(inside), -1, np.int64)
        said[rows[at_strokes]] = self.strokes.labels[is_said]
        raised = np.zeros((len(inside), self.n_classes), np.float32)
        taken = np.zeros(len(inside), np.float32)
        row = rows[place]
        label = self.strokes.labels[which][pair].astype(np.int64)
        np.maximum.at(raised.reshape(-1), row * self.n_classes + label, weights * lacks[pair])
        np.maximum.at(taken, row, weights * np.minimum(lacks, 1)[pair])
        positions = np.unravel_index(inside, sizes)
        voxels = _flat(
            [along + part.start for along, part in zip(positions, box, strict=True)],
            self.strokes.shape,
        )
        return _Part(voxels, raised, taken, said)


class _Part(NamedTuple):
    """Of a box: as :class:`LocalTerm`, with what is taken of the offsets."""

    voxels: npt.NDArray[np.int64]
    raised: npt.NDArray[np.float32]
    taken: npt.NDArray[np.float32]
    said: npt.NDArray[np.int64]


def _flat(positions: Iterable[npt.NDArray[np.int64]], sizes: Sequence[int]) -> IntArray:
    """Index in the flattened box of positions along each axis."""
    flat = np.zeros((), np.int64)
    for along, size in zip(positions, sizes, strict=True):
        flat = flat * size + along
    return np.asarray(flat, np.int64)


def _pairs(
    positions: IntArray, reach: tuple[float, ...], sizes: tuple[int, ...]
) -> tuple[IntArray, IntArray, npt.NDArray[np.float32]]:
    """Voxels of a box within the reach of some others.

    Parameters
    ----------
    positions
        Of the others, in or near the box, ``(k, ndim)``.
    reach
        In voxels along each axis.
    sizes
        Of the box.

    Returns
    -------
    place
        The voxel of the box of each pair, flattened, ``(m,)``.
    which
        The other one, ``(m,)``.
    weights
        w of the pair, ``(m,)``.
    """
    steps, weights = _steps(reach)
    if not len(positions):
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32)
    # Of strokes beside a slice few steps lead into it.
    least, most = positions.min(axis=0), positions.max(axis=0)
    leads_in = ((steps + most >= 0) & (steps + least < sizes)).all(axis=1)
    steps, weights = steps[leads_in], weights[leads_in]
    flat = np.zeros((len(positions), len(steps)), np.int64)
    is_inside = np.ones(flat.shape, bool)
    for along, step, size in zip(positions.T, steps.T, sizes, strict=True):
        moved = along[:, None] + step
        is_inside &= (moved >= 0) & (moved < size)
        flat *= size
        flat += moved
    which, which_step = np.nonzero(is_inside)
    return flat[is_inside], which.astype(np.int64), weights[which_step]


@cache
def _steps(reach: tuple[float, ...]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Steps within a reach, ``(m, ndim)``, and w of each, ``(m,)``."""
    steps, weights = [], []
    for step in itertools.product(*(range(-one, one + 1) for one in _around(reach))):
        distance = math.hypot(*(part / one for part, one in zip(step, reach, strict=True)))
        if distance < 1:
            steps.append(step)
            weights.append((1 - distance) ** 4 * (1 + 4 * distance))
    return np.array(steps, np.int64), np.array(weights, np.float32)


def _around(reach: tuple[float, ...]) -> tuple[int, ...]:
    """Whole voxels along each axis that a reach goes over."""
    return tuple(math.ceil(one) for one in reach)


def everywhere(reach: float | tuple[float, ...], n_axes: int) -> tuple[float, ...]:
    """The reach along each axis."""
    return reach if isinstance(reach, tuple) else (reach,) * n_axes
