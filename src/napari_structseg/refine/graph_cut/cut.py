"""Minimum cuts on the lattice of an image: one for two classes, expansions for more.

Boykov, Veksler and Zabih, *Fast approximate energy minimization via graph cuts*, 2001: an expansion
moves any set of voxels to one class at once, and the best one is a minimum cut. The energy never
rises, and in the end it is at most twice the minimum (theorem 6.1 with equal costs of all pairs of
classes), as long as no cost is negative.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence

import numpy as np
import numpy.typing as npt

from napari_structseg.errors import Cancelled
from napari_structseg.priors.contrast import Costs, CRFSpec, Edges
from napari_structseg.refine.graph_cut.elsewhere import flow_elsewhere
from napari_structseg.refine.graph_cut.flows import LIBRARIES, Cut, Graph, Grid, library
from napari_structseg.refine.graph_cut.lattice import (
    HELD,
    KEEP,
    NEARLY_ALL,
    TAKE,
    UNDECIDED,
    Ints,
    Lattice,
    State,
    decide,
    graph_of,
)

Labels = npt.NDArray[np.uint8]
_Longs = npt.NDArray[np.int64]

NOT_GIVEN = -1
"""In given labels: nothing is said of the voxel."""
_BINARY = 2
MOST_HERE = 100_000
"""Voxels of a graph whose flow takes some ten milliseconds: the most where a window waits.

More than an image of 256 x 256 has, which therefore follows a slider without a process."""
# Images settle after two or three passes over all classes.
_USUAL_PASSES = 3


class GraphCut:
    """Finds minima under one CRF on one image: its links are prepared once.

    Parameters
    ----------
    edges, spec, by
        See :func:`napari_structseg.refine.graph_cut.minimum.minimum`.
    most_here
        Graphs of more voxels go to a process of their own, see :mod:`.elsewhere`; None: none do.
    """

    def __init__(
        self, edges: Edges, spec: CRFSpec, by: str = "auto", *, most_here: int | None = None
    ) -> None:
        self._by = library(by)
        self._most_here = most_here
        self._unary = spec.unary
        self._lattice = Lattice(edges.offsets, edges.links(spec), edges.shape)

    @property
    def error_bound(self) -> float:
        """How far above the minimum the energy of two classes' labels can be, by rounding."""
        lattice = self._lattice
        return float(np.prod(lattice.shape)) * (1 + len(lattice.links)) / lattice.unit

    def minimum(
        self,
        costs: Costs,
        given: npt.NDArray[np.integer] | None = None,
        progress: Callable[[float], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Labels:
        """See :func:`~napari_structseg.refine.graph_cut.minimum.minimum`; nothing is checked."""
        steps = self.steps(costs, given)
        while True:
            if cancelled is not None and cancelled():
                steps.close()
                raise Cancelled("The graph cut was cancelled.")
            try:
                done = next(steps)
            except StopIteration as finished:
                labels: Labels = finished.value
                return labels
            if progress is not None:
                progress(done)

    def steps(
        self, costs: Costs, given: npt.NDArray[np.integer] | None = None
    ) -> Generator[float, None, Labels]:
        """The same, step by step: yields the share that is done, returns the labels."""
        lattice = self._lattice
        fixed = None if given is None else lattice.flat(given, NOT_GIVEN)
        if len(costs) == _BINARY:
            gains = costs[0].astype(np.float64) - costs[1]
            labels = yield from self._of_two(lattice.integers(self._unary * gains), fixed)
            return lattice.inner(labels)
        least = costs.min(axis=0).astype(np.float64)
        scaled = [lattice.integers(self._unary * (one - least)) for one in costs]
        start = lattice.flat(costs.argmin(axis=0), 0)
        if fixed is not None:
            start = np.where(fixed == NOT_GIVEN, start, fixed)
        yield from self._expanded(scaled, start, fixed)
        return lattice.inner(start)

    def _of_two(
        self, gains: _Longs, fixed: npt.NDArray[np.int16] | None
    ) -> Generator[float, None, State]:
        state = self._lattice.open()
        if fixed is not None:
            state[fixed == 0] = KEEP
            state[fixed == 1] = TAKE
        yield from self._cut(gains, self._lattice.links, state, 0.0)
        # As labels: to take is class 1.
        return np.where(state == TAKE, TAKE, UNDECIDED)

    def _expanded(
        self,
        scaled: Sequence[_Longs],
        labels: npt.NDArray[np.int16],
        fixed: npt.NDArray[np.int16] | None,
    ) -> Generator[float, None, None]:
        """Expand one class after the other, in place, until no expansion lowers the energy."""
        free = self._lattice.open()
        if fixed is not None:
            free[fixed != NOT_GIVEN] = KEEP
        present = np.zeros_like(scaled[0])
        for label, one in enumerate(scaled):
            np.copyto(present, one, where=labels == label)
        n_without, n_done, share = 0, 0, 0.0
        while n_without < len(scaled):
            label = n_done % len(scaled)
            gains = present - scaled[label]
            moved = yield from self._expansion(label, gains, labels, free, share)
            labels[moved] = label
            present[moved] = scaled[label][moved]
            n_done += 1
            n_without = 0 if len(moved) else n_without + 1
            share = min(n_done / (_USUAL_PASSES * len(scaled)), 0.99)
            yield share

    def _expansion(
        self,
        label: int,
        gains: _Longs,
        labels: npt.NDArray[np.int16],
        free: State,
        share: float,
    ) -> Generator[float, None, npt.NDArray[np.intp]]:
        """Which voxels the best expansion of one class moves to it.

        A pair of two other classes costs w as it is, w if one of them moves, and nothing if both
        do: a link of w / 2, and a gain of w / 2 for either.
        """
        is_there = labels == label
        state = np.where(is_there, TAKE, free)
        links = []
        for stride, link in zip(self._lattice.strides, self._lattice.links, strict=True):
            lower, upper = slice(None, -stride), slice(stride, None)
            is_mixed = labels[lower] != labels[upper]
            is_mixed &= ~(is_there[lower] | is_there[upper])
            half = np.where(is_mixed, link[lower] // 2, 0)
            gains[lower] += half
            gains[upper] += half
            ours = link.copy()
            ours[lower] -= half
            links.append(ours)
        yield from self._cut(gains, links, state, share)
        return np.flatnonzero((state == TAKE) & ~is_there)

    def _cut(
        self, gains: _Longs, links: Sequence[Ints], state: State, share: float
    ) -> Generator[float, None, None]:
        """Decide every voxel, in place: first those that need no flow."""
        lattice = self._lattice
        strides, is_open = lattice.strides, state == UNDECIDED
        n_voxels = math.prod(lattice.shape)
        is_untouched = np.count_nonzero(is_open) == n_voxels
        n_free = np.count_nonzero(is_open & (np.abs(gains) <= lattice.sums))
        if n_free > NEARLY_ALL * n_voxels:
            held = (
                gains if is_untouched else np.where(is_open, gains, HELD * state.astype(np.int64))
            )
            cut = yield from self._flow(lattice.grid(held, links), share)
            lattice.fill(state, np.where(cut.sink, TAKE, KEEP))
            return
        sums = lattice.sums if is_untouched and links is lattice.links else None
        places, left = decide(gains, links, strides, state, sums)
        if not len(places):
            return
        graph = graph_of(places, left, links, strides, len(state))
        cut = yield from self._flow(graph, share)
        state[places] = np.where(cut.sink, TAKE, KEEP)

    def _flow(self, graph: Graph | Grid, share: float) -> Generator[float, None, Cut]:
        """The minimum cut of a graph, here or in a process of its own."""
        if self._most_here is None or graph.gains.size <= self._most_here:
            return LIBRARIES[self._by](graph)
        return (yield from flow_elsewhere(graph, self._by, share))
