"""A graph cut from arrays to labels, beside the library for maximum flow on the same graph.

Ours is all that a user waits for: the noise of the image, its pairs, their links, integers, what
is decided without a flow, the graph of the rest, its flow, and labels. The library is handed the
same integer capacities, as arrays on the grid: it builds its graph, computes the flow and says who
is on which side. Both compute in one thread. Processor time is counted, which other programs on the
machine do not lengthen.

The slice of the dock is timed by the clock, through the engine: see :mod:`.graphcut_slice`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from napari_structseg.bench.graphcut_slice import slice_times
from napari_structseg.bench.timing import environment
from napari_structseg.priors.contrast import Costs, CRFSpec, costs_of_logits, edges_of
from napari_structseg.refine.graph_cut.flows import LIBRARIES, Graph, library
from napari_structseg.refine.graph_cut.lattice import Lattice
from napari_structseg.refine.graph_cut.minimum import minimum

SHAPES = {"2d": (256, 256), "3d": (64, 128, 128)}
# The slice that is looked at: of a volume, and an image that is one.
SLICES = {"slice": (32, 256, 256), "slice_2d": (256, 256)}
# The weights that everything starts with, and such that the flow has to decide every voxel.
_SPECS = {"": CRFSpec(), "_undecided": CRFSpec(smooth=2, contrast=4)}
_SEED, _NOISE, _STEEP, _DOUBT = 0, 0.3, 20.0, 1.0
_BLOB_SHARE, _SOFT = 40, 1.5
_CAPACITY_MAX = 2**30
_CLASSES = 4


def bench_graphcut(
    shapes: dict[str, tuple[int, ...]],
    runs: int,
    report: Callable[[str], None],
    by: str = "auto",
    *,
    slices: dict[str, tuple[int, ...]] | None = None,
    moves: int = 100,
) -> dict[str, Any]:
    """Time both, in turn; and the visible slice while sliders move.

    Parameters
    ----------
    shapes
        Names and shapes of the images.
    runs
        Runs behind each median.
    report
        Told what is being measured.
    by
        ``scipy``, ``pymaxflow``, or ``auto``.
    slices
        Names and shapes of the images that the dock shows; None: `SLICES`.
    moves
        Moves of a slider behind each percentile of these.

    Returns
    -------
    dict
        For each name, and for each with ``_undecided`` behind it: ``ours_ms``, ``library_ms``
        (medians of processor time) and ``ratio``; with ``_expansion`` ``ours_ms`` of four classes,
        for which the library has no counterpart with links of different strength. For each slice
        ``p50_ms`` and ``p95_ms`` of wall time. Besides ``library``, the environment, and ``load``:
        how many programs wanted the processor during the last minute, None where the system does
        not tell.

    Raises
    ------
    AssertionError
        If their labels differ.
    """
    name = library(by)
    result: dict[str, Any] = {"library": name, "runs": runs, **environment()}
    for what, shape in shapes.items():
        costs, image = scene(shape)
        for suffix, spec in _SPECS.items():
            report(f"{what}{suffix}")
            result[what + suffix] = _measure(costs, image, spec, name, runs)
        report(f"{what}_expansion")
        result[f"{what}_expansion"] = _measure_expansion(shape, name, runs)
    for what, shape in (SLICES if slices is None else slices).items():
        report(what)
        costs, image = scene(shape)
        result[what] = slice_times(-costs, image, moves)
    result["load"] = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    return result


def scene(shape: Sequence[int]) -> tuple[Costs, npt.NDArray[np.float32]]:
    """Costs of two classes as a network gives them, and an image with their edges and noise."""
    rng = np.random.default_rng(_SEED)
    truth = gaussian_filter(rng.normal(size=shape), max(shape) / _BLOB_SHARE) > 0
    image = (truth + _NOISE * rng.normal(size=shape)).astype(np.float32)[None]
    sure = _STEEP * gaussian_filter(truth - 0.5, _SOFT)
    logits = (sure + _DOUBT * rng.normal(size=shape)).astype(np.float32)
    return costs_of_logits(np.stack([-logits / 2, logits / 2])), image


def scene_of_classes(shape: Sequence[int]) -> tuple[Costs, npt.NDArray[np.float32]]:
    """The same of four classes."""
    rng = np.random.default_rng(_SEED)
    fields = [
        gaussian_filter(rng.normal(size=shape), max(shape) / _BLOB_SHARE) for _ in range(_CLASSES)
    ]
    truth = np.argmax(fields, axis=0)
    image = (truth + _NOISE * rng.normal(size=shape)).astype(np.float32)[None]
    logits = [
        _STEEP / 2 * gaussian_filter((truth == label).astype(np.float64), _SOFT)
        + _DOUBT * rng.normal(size=shape)
        for label in range(_CLASSES)
    ]
    return costs_of_logits(np.stack(logits).astype(np.float32)), image


def rows(result: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """A table of the figures."""
    return [
        (
            what,
            f"{part['ours_ms']:.1f} ms",
            f"{part['library_ms']:.1f} ms" if "ratio" in part else "",
            f"{part['ratio']:.2f}" if "ratio" in part else "",
        )
        for what, part in result.items()
        if isinstance(part, dict) and "ours_ms" in part
    ]


def slice_rows(result: dict[str, Any]) -> list[tuple[str, str, str]]:
    """A table of the slices' figures."""
    return [
        (what, f"{part['p50_ms']:.1f} ms", f"{part['p95_ms']:.1f} ms")
        for what, part in result.items()
        if isinstance(part, dict) and "p95_ms" in part
    ]


def _measure(
    costs: Costs, image: npt.NDArray[np.float32], spec: CRFSpec, by: str, runs: int
) -> dict[str, float]:
    given = _capacities(costs, image, spec)
    ours, theirs = [], []
    for _ in range(runs):
        began = time.process_time()
        labels = minimum(costs, edges_of(image), spec, by=by)
        between = time.process_time()
        alone = _ALONE[by](*given)
        ended = time.process_time()
        if not np.array_equal(labels, alone):
            raise AssertionError("the labels of the library are others")
        ours.append(between - began)
        theirs.append(ended - between)
    ours_ms, library_ms = (float(np.median(one)) * 1e3 for one in (ours, theirs))
    return {
        "ours_ms": round(ours_ms, 3),
        "library_ms": round(library_ms, 3),
        "ratio": round(ours_ms / library_ms, 3),
    }


def _measure_expansion(shape: tuple[int, ...], by: str, runs: int) -> dict[str, float]:
    costs, image = scene_of_classes(shape)
    seconds = []
    for _ in range(runs):
        began = time.process_time()
        minimum(costs, edges_of(image), CRFSpec(), by=by)
        seconds.append(time.process_time() - began)
    return {"classes": _CLASSES, "ours_ms": round(float(np.median(seconds)) * 1e3, 3)}


def _capacities(
    costs: Costs, image: npt.NDArray[np.float32], spec: CRFSpec
) -> tuple[npt.NDArray[np.int64], tuple[tuple[int, ...], ...], list[npt.NDArray[np.int64]]]:
    """What the library is handed: gains and links of every voxel, and the offsets of the links."""
    edges = edges_of(image)
    lattice = Lattice(edges.offsets, edges.links(spec), edges.shape)
    padded = tuple(size + 2 for size in edges.shape)
    inside = (slice(1, -1),) * len(padded)
    gains = lattice.integers(spec.unary * (costs[0].astype(np.float64) - costs[1]))
    links = [one.reshape(padded)[inside].astype(np.int64) for one in lattice.links]
    bounded = np.clip(gains.reshape(padded)[inside], -_CAPACITY_MAX, _CAPACITY_MAX)
    return bounded, edges.offsets, links


def _pymaxflow_alone(
    gains: npt.NDArray[np.int64],
    offsets: tuple[tuple[int, ...], ...],
    links: list[npt.NDArray[np.int64]],
) -> npt.NDArray[np.bool_]:
    import maxflow

    graph = maxflow.GraphInt(gains.size, gains.size * len(links))
    nodes = graph.add_grid_nodes(gains.shape)
    for offset, link in zip(offsets, links, strict=True):
        structure = np.zeros((3,) * gains.ndim)
        structure[tuple(1 + step for step in offset)] = 1
        graph.add_grid_edges(nodes, link, structure, symmetric=True)
    graph.add_grid_tedges(nodes, np.maximum(-gains, 0), np.maximum(gains, 0))
    graph.maxflow()
    sides: npt.NDArray[np.bool_] = graph.get_grid_segments(nodes)
    return sides


def _scipy_alone(
    gains: npt.NDArray[np.int64],
    offsets: tuple[tuple[int, ...], ...],
    links: list[npt.NDArray[np.int64]],
) -> npt.NDArray[np.bool_]:
    sizes = np.cumprod((1, *gains.shape[:0:-1]))[::-1]
    strides = [int(np.dot(offset, sizes)) for offset in offsets]
    first = [np.flatnonzero(link) for link in links]
    second = [one + stride for one, stride in zip(first, strides, strict=True)]
    capacities = [link.ravel()[one] for link, one in zip(links, first, strict=True)]
    parts = (np.concatenate(one) for one in (first, second, capacities))
    return LIBRARIES["scipy"](Graph(gains.ravel(), *parts)).sink.reshape(gains.shape)


_ALONE = {"pymaxflow": _pymaxflow_alone, "scipy": _scipy_alone}
