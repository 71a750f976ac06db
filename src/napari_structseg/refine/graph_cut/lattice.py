"""Voxels and their links as flat arrays of integers, and what is decided without a flow.

Costs become integers once: with the largest sum of the links of a voxel as 2^29, each link and
each cost is rounded by at most half a unit. So of any labelling the energy is known to
(voxels + links) / 2 units, and that of the labels found is at most (voxels + links) units above
the minimum: a share of 2^-29 of the largest sum, for each of them.

Every voxel has a border of voxels without links around it, so that a neighbour is a fixed number
of places away.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from napari_structseg.priors.contrast import Slices, ends_of
from napari_structseg.refine.graph_cut.flows import Graph, Grid

_LARGEST = 2**29
# Costs beside vanishing links: far finer than single precision, and sums stay within 64 bits.
_FINEST = 2.0**40
_MOST = 2.0**60
# Another look at who is decided, while that leaves this share or less.
_WORTH_ANOTHER = 0.97
# Where more than this share is undecided, all voxels are looked at: slices of arrays are read
# several times as fast as lists of places.
_MANY = 0.3
# Where so many have to be decided by a flow, those that need none may as well be part of it: what
# is where is known then, and the graph is built several times as fast.
NEARLY_ALL = 0.9
# More than all links of a voxel together.
HELD = 2 * _LARGEST
UNDECIDED, KEEP, TAKE = np.int8(0), np.int8(-1), np.int8(1)

Ints = npt.NDArray[np.int32]
State = npt.NDArray[np.int8]


class Lattice:
    """The links of one image under one set of weights, in integers.

    Parameters
    ----------
    offsets, links
        See :class:`napari_structseg.priors.contrast.Edges`.
    shape
        Spatial shape.

    Attributes
    ----------
    unit
        How many units a cost of 1 is.
    links
        For each offset, of each voxel to the one that many places on: flat, even.
    strides
        These numbers of places.
    """

    def __init__(
        self,
        offsets: Sequence[tuple[int, ...]],
        links: Sequence[npt.NDArray[np.float32]],
        shape: tuple[int, ...],
    ) -> None:
        self.shape = shape
        self._offsets = tuple(offsets)
        self._padded = tuple(size + 2 for size in shape)
        self._inside: Slices = (slice(1, -1),) * len(shape)
        largest = 2.0 * sum(float(one.max(initial=0)) for one in links)
        self.unit = min(_LARGEST / largest, _FINEST) if largest else _FINEST
        places = np.cumprod((1, *self._padded[:0:-1]))[::-1]
        self.strides = tuple(int(np.dot(offset, places)) for offset in offsets)
        self.links: list[Ints] = []
        for offset, link in zip(offsets, links, strict=True):
            whole = np.zeros(self._padded, np.int32)
            lower, _ = ends_of(offset)
            # Even, since alpha-expansion halves them.
            halves = np.multiply(link, self.unit / 2, dtype=np.float64)
            np.rint(halves, out=halves)
            halves *= 2
            whole[self._inside][lower] = halves
            self.links.append(whole.ravel())

    def integers(self, costs: npt.NDArray[np.floating]) -> npt.NDArray[np.int64]:
        """Differences of costs in units, flat, zero in the border."""
        whole = np.zeros(self._padded, np.int64)
        bounded = np.multiply(costs, self.unit, dtype=np.float64)
        np.clip(bounded, -_MOST, _MOST, out=bounded)
        whole[self._inside] = np.rint(bounded, out=bounded)
        return whole.ravel()

    def flat(self, values: npt.NDArray[np.integer], border: int) -> npt.NDArray[np.int16]:
        """Labels of every voxel and of the border, flat."""
        whole = np.full(self._padded, border, np.int16)
        whole[self._inside] = values
        return whole.ravel()

    def inner(self, flat: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
        """The inverse of :meth:`flat`."""
        return flat.reshape(self._padded)[self._inside].astype(np.uint8)

    @cached_property
    def sums(self) -> Ints:
        """The sum of all links of each voxel, flat."""
        sums = np.zeros_like(self.links[0]) if self.links else np.zeros(self._padded, np.int32)
        for stride, link in zip(self.strides, self.links, strict=True):
            sums += link
            sums[stride:] += link[:-stride]
        return sums

    def grid(self, gains: npt.NDArray[np.int64], links: Sequence[Ints]) -> Grid:
        """The graph of all voxels.

        Parameters
        ----------
        gains
            Of each voxel, flat; what goes beyond all its links is cut off.
        links
            No larger than the lattice's own, flat.
        """
        # One unit beyond all links is enough to hold a voxel to its side.
        bounded = np.clip(gains, -self.sums - 1, self.sums + 1)
        capacities = (link.reshape(self._padded)[self._inside] for link in links)
        own = bounded.reshape(self._padded)[self._inside]
        return Grid(own, self._offsets, tuple(capacities))

    def fill(self, state: State, decided: State) -> None:
        """Write what every voxel is, in place; the border stays."""
        state.reshape(self._padded)[self._inside] = decided.reshape(self.shape)

    def open(self) -> State:
        """Nothing decided; the border keeps."""
        whole = np.full(self._padded, KEEP, np.int8)
        whole[self._inside] = UNDECIDED
        return whole.ravel()


def decide(
    gains: npt.NDArray[np.int64],
    links: Sequence[Ints],
    strides: Sequence[int],
    state: State,
    sums: Ints | None = None,
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int64]]:
    """Decide every voxel whose own cost outweighs all its links, again and again, in place.

    Such a voxel is the same in the labels that are sought, whatever the others are: to take is
    best if its gain exceeds the sum of its links; to keep, if its loss reaches it. What is decided
    adds to the gains of those around it.

    Parameters
    ----------
    gains
        What it saves to take, for each voxel, flat.
    links, strides
        See :class:`Lattice`.
    state
        `KEEP`, `TAKE` or `UNDECIDED`, flat; `UNDECIDED` nowhere in the border.
    sums
        Where nothing is decided yet: the sums of the links; they are not added up again then.

    Returns
    -------
    places
        Who is left.
    gains
        Theirs, with those that are decided; the sum of a voxel's open links is no smaller.
    """
    places = np.flatnonzero(state == UNDECIDED)
    while True:
        if sums is None:
            own, open_links = _with_decided(gains, links, strides, state, places)
        else:
            own, open_links = gains[places], sums[places].astype(np.int64)
            sums = None
        taking, keeping = own > open_links, own <= -open_links
        state[places[taking]] = TAKE
        state[places[keeping]] = KEEP
        left = ~(taking | keeping)
        n_before, places = len(places), places[left]
        if len(places) == n_before:
            return places, own
        if len(places) > _WORTH_ANOTHER * n_before:
            own, open_links = _with_decided(gains, links, strides, state, places)
            # One unit beyond all links is enough to hold a voxel to its side.
            return places, np.clip(own, -open_links - 1, open_links + 1)


def _with_decided(
    gains: npt.NDArray[np.int64],
    links: Sequence[Ints],
    strides: Sequence[int],
    state: State,
    places: npt.NDArray[np.intp],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Gains with those around that are decided, and the sum of the links to those that are not."""
    if len(places) > _MANY * len(state):
        return _with_decided_of_all(gains, links, strides, state, places)
    own, open_links = gains[places], np.zeros(len(places), np.int64)
    for stride, link in zip(strides, links, strict=True):
        for ends, weight in (
            (places + stride, link[places]),
            (places - stride, link[places - stride]),
        ):
            there = state[ends]
            own += weight * there.astype(np.int64)
            open_links += np.where(there == UNDECIDED, weight, 0)
    return own, open_links


def _with_decided_of_all(
    gains: npt.NDArray[np.int64],
    links: Sequence[Ints],
    strides: Sequence[int],
    state: State,
    places: npt.NDArray[np.intp],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    own, open_links = gains.copy(), np.zeros(len(gains), np.int32)
    sign, is_open = state.astype(np.int32), (state == UNDECIDED).astype(np.int32)
    for stride, link in zip(strides, links, strict=True):
        lower, upper, weight = slice(None, -stride), slice(stride, None), link[:-stride]
        own[lower] += weight * sign[upper]
        own[upper] += weight * sign[lower]
        open_links[lower] += weight * is_open[upper]
        open_links[upper] += weight * is_open[lower]
    return own[places], open_links[places].astype(np.int64)


def graph_of(
    places: npt.NDArray[np.intp],
    gains: npt.NDArray[np.int64],
    links: Sequence[Ints],
    strides: Sequence[int],
    n_voxels: int,
) -> Graph:
    """The graph of the voxels that are left.

    Parameters
    ----------
    places, gains
        See :func:`decide`.
    links, strides
        See :class:`Lattice`.
    n_voxels
        With the border.
    """
    number = np.full(n_voxels, -1, np.int32)
    number[places] = np.arange(len(places), dtype=np.int32)
    first, second, capacities = [], [], []
    for stride, link in zip(strides, links, strict=True):
        other, weight = number[places + stride], link[places]
        is_pair = (other >= 0) & (weight > 0)
        first.append(number[places[is_pair]])
        second.append(other[is_pair])
        capacities.append(weight[is_pair])
    return Graph(gains, np.concatenate(first), np.concatenate(second), np.concatenate(capacities))
