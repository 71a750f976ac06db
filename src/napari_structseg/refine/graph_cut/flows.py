"""The maximum flow of a graph of voxels, by SciPy or by PyMaxflow: the same cut by both.

Capacities are integers, so that both are exact. Of all minimum cuts the one with the fewest voxels
on the side of the sink is taken, which is unique. So the library makes no difference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse import csgraph

from napari_structseg.errors import ConfigError
from napari_structseg.priors.contrast import ends_of

Integers = npt.NDArray[np.integer]


@dataclass(frozen=True, eq=False, slots=True)
class Graph:
    """A graph of voxels, a source and a sink.

    Attributes
    ----------
    gains
        For each voxel the capacity to the sink, or, negative, that from the source.
    first, second
        The voxels of each link.
    capacities
        Of the links, the same in both directions.
    """

    gains: Integers
    first: Integers
    second: Integers
    capacities: Integers


@dataclass(frozen=True, eq=False, slots=True)
class Grid:
    """The same of all voxels of an image: what is where is known, and nothing is looked up.

    Attributes
    ----------
    gains
        See :class:`Graph`, ``(*spatial)``.
    offsets
        Of the links, in the order of :func:`napari_structseg.priors.contrast.offsets_of`.
    capacities
        For each offset those of the links, ``(*spatial)``, at the place of the lower voxel; 0 where
        it has no pair.
    """

    gains: Integers
    offsets: tuple[tuple[int, ...], ...]
    capacities: tuple[Integers, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Cut:
    """A minimum cut.

    Attributes
    ----------
    sink
        For each voxel whether it is on the side of the sink, flat.
    flow
        The maximum flow, equal to the capacity of the cut.
    """

    sink: npt.NDArray[np.bool_]
    flow: int


def by_scipy(graph: Graph | Grid) -> Cut:
    """By ``scipy.sparse.csgraph.maximum_flow``, Dinic's algorithm."""
    n = graph.gains.size
    source, sink = n, n + 1
    capacities = _rows_of_grid(graph) if isinstance(graph, Grid) else _rows_of_graph(graph)
    found = csgraph.maximum_flow(capacities, source, sink)
    # Who can still send to the sink: backwards along what is left of the capacities.
    left = (capacities - found.flow).T.tocsr()
    left.eliminate_zeros()
    reached = csgraph.breadth_first_order(left, sink, return_predecessors=False)
    is_sink = np.zeros(n + 2, bool)
    is_sink[reached] = True
    return Cut(is_sink[:n], int(found.flow_value))


def _rows_of_graph(graph: Graph) -> sparse.csr_array:
    """All capacities of a graph, source and sink behind its voxels."""
    n = len(graph.gains)
    source, sink = n, n + 1
    to_sink, from_source = (np.flatnonzero(sign * graph.gains > 0) for sign in (1, -1))
    tails = (graph.first, graph.second, to_sink, np.full(len(from_source), source))
    heads = (graph.second, graph.first, np.full(len(to_sink), sink), from_source)
    data = (graph.capacities, graph.capacities, graph.gains[to_sink], -graph.gains[from_source])
    where = [np.concatenate(ends).astype(np.int32) for ends in (tails, heads)]
    return sparse.csr_array(
        (np.concatenate(data).astype(np.int32), tuple(where)), shape=(n + 2, n + 2)
    )


def _rows_of_grid(grid: Grid) -> sparse.csr_array:
    """The same of a grid, row by row: the neighbours of a voxel in order, and the sink."""
    shape, n, n_offsets = grid.gains.shape, grid.gains.size, len(grid.offsets)
    numbers = np.arange(n, dtype=np.int32).reshape(shape)
    heads = np.full((*shape, 2 * n_offsets + 1), n + 1, np.int32)
    data = np.zeros(heads.shape, np.int32)
    for place, (offset, link) in enumerate(zip(grid.offsets, grid.capacities, strict=True)):
        lower, upper = ends_of(offset)
        # Offsets are in order of how far on their voxels are.
        for here, others, column in (
            (lower, upper, n_offsets + place),
            (upper, lower, n_offsets - 1 - place),
        ):
            heads[..., column][here] = numbers[others]
            data[..., column][here] = link[lower]
    np.maximum(grid.gains, 0, out=data[..., -1], casting="unsafe")
    is_link = data > 0
    counts = is_link.reshape(n, -1).sum(axis=1)
    from_source = np.flatnonzero(grid.gains < 0).astype(np.int32)
    ends = np.concatenate(([0], counts, [len(from_source), 0])).cumsum()
    return sparse.csr_array(
        (
            np.concatenate((data[is_link], -grid.gains.ravel()[from_source].astype(np.int32))),
            np.concatenate((heads[is_link], from_source)),
            ends.astype(np.int32),
        ),
        shape=(n + 2, n + 2),
    )


def by_pymaxflow(graph: Graph | Grid) -> Cut:
    """By PyMaxflow, the algorithm of Boykov and Kolmogorov (2004).

    Raises
    ------
    ConfigError
        If it is not installed.
    """
    try:
        import maxflow
    except ImportError as error:
        raise ConfigError(
            "PyMaxflow was asked for, but it is not installed. Install napari-structseg[graphcut], "
            "or use SciPy, which gives the same labels."
        ) from error
    gains = graph.gains.astype(np.int64, copy=False)
    if isinstance(graph, Grid):
        network = maxflow.GraphInt(gains.size, gains.size * len(graph.offsets))
        nodes = network.add_grid_nodes(gains.shape)
        strides = np.cumprod((1, *gains.shape[:0:-1]))[::-1]
        for offset, link in zip(graph.offsets, graph.capacities, strict=True):
            if any(size <= abs(step) for size, step in zip(gains.shape, offset, strict=True)):
                continue
            # All voxels with those so many places on, without a copy; where that is no pair, the
            # capacity is 0. Its own way for grids looks at every element of a structure.
            stride, both = int(np.dot(offset, strides)), link.astype(np.int64).ravel()
            flat = nodes.ravel()
            network.add_edges(flat[:-stride], flat[stride:], both[:-stride], both[:-stride])
    else:
        network = maxflow.GraphInt(gains.size, len(graph.first))
        nodes = network.add_nodes(gains.size)
        both = graph.capacities.astype(np.int64)
        network.add_edges(graph.first.astype(np.int64), graph.second.astype(np.int64), both, both)
    network.add_grid_tedges(nodes, np.maximum(-gains, 0), np.maximum(gains, 0))
    flow = int(network.maxflow())
    return Cut(network.get_grid_segments(nodes).ravel(), flow)


LIBRARIES: dict[str, Callable[[Graph | Grid], Cut]] = {
    "scipy": by_scipy,
    "pymaxflow": by_pymaxflow,
}


def library(name: str = "auto") -> str:
    """Which library computes the flow.

    Parameters
    ----------
    name
        ``scipy``, ``pymaxflow``, or ``auto``: PyMaxflow if it is installed, since it is faster.

    Returns
    -------
    str
        Its name in `LIBRARIES`.

    Raises
    ------
    ConfigError
        If there is no such library.
    """
    if name == "auto":
        return "pymaxflow" if find_spec("maxflow") else "scipy"
    if name not in LIBRARIES:
        raise ConfigError(
            f"A library for the maximum flow was expected, one of {', '.join(LIBRARIES)} or auto, "
            f"but {name!r} came."
        )
    return name
