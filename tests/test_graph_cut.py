"""The minimum of a CRF against enumeration, by both libraries, with given labels and bad input."""

from __future__ import annotations

import itertools
import tracemalloc
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given as given_by
from hypothesis import settings
from hypothesis import strategies as st

from napari_structseg.errors import Cancelled, ConfigError, InputError, MemoryLimitError
from napari_structseg.priors.contrast import (
    CRFSpec,
    costs_of_logits,
    costs_of_probabilities,
    edges_of,
    energy,
)
from napari_structseg.refine.graph_cut.cut import NOT_GIVEN, GraphCut
from napari_structseg.refine.graph_cut.flows import LIBRARIES as ALL
from napari_structseg.refine.graph_cut.flows import Graph
from napari_structseg.refine.graph_cut.lattice import HELD, Lattice, graph_of
from napari_structseg.refine.graph_cut.memory import cut_bytes
from napari_structseg.refine.graph_cut.minimum import minimum

# PyMaxflow is an extra.
LIBRARIES = {name: ALL[name] for name in ALL if name == "scipy" or find_spec("maxflow")}
SHAPES = ((1, 1), (1, 5), (3, 3), (2, 2, 2), (1, 2, 4))


def problem(seed, shape, n_classes=2, neighbours="faces", spread=1.5):
    rng = np.random.default_rng(seed)
    costs = costs_of_logits(rng.normal(0, spread, (n_classes, *shape)))
    image = rng.normal(0, 1, (1, *shape)).astype(np.float32)
    spacing = rng.uniform(0.5, 3, len(shape))
    weights = rng.uniform(0, 1.5, 3) * rng.integers(0, 2, 3)
    spec = CRFSpec(unary=weights[0] + 0.5, smooth=weights[1], contrast=weights[2], scale=1.3)
    return costs, edges_of(image, spacing=spacing, neighbours=neighbours), spec


def enumerated(costs, edges, spec, given=None):
    """The least energy of all labellings, by looking at each."""
    best = np.inf
    for labels in itertools.product(range(len(costs)), repeat=int(np.prod(edges.shape))):
        y = np.array(labels).reshape(edges.shape)
        if given is None or ((given == NOT_GIVEN) | (given == y)).all():
            best = min(best, energy(y, costs, edges, spec))
    return best


@settings(max_examples=25)
@given_by(st.integers(0, 2**32 - 1), st.sampled_from(SHAPES), st.sampled_from(("faces", "all")))
def test_two_classes_have_the_least_energy_of_all_labellings(seed, shape, neighbours) -> None:
    costs, edges, spec = problem(seed, shape, neighbours=neighbours)
    least = enumerated(costs, edges, spec)
    by = [minimum(costs, edges, spec, by=name, exact=True) for name in LIBRARIES]
    assert all(np.array_equal(by[0], one) for one in by)
    assert energy(by[0], costs, edges, spec) == pytest.approx(least, abs=1e-5)


@settings(max_examples=25)
@given_by(st.integers(0, 2**32 - 1), st.sampled_from(SHAPES))
def test_given_labels_are_kept_and_the_rest_is_best_beside_them(seed, shape) -> None:
    costs, edges, spec = problem(seed, shape)
    given = np.random.default_rng(seed).choice((NOT_GIVEN, 0, 1), shape, p=(0.6, 0.2, 0.2))
    for name in LIBRARIES:
        labels = minimum(costs, edges, spec, given=given, by=name)
        assert (labels[given != NOT_GIVEN] == given[given != NOT_GIVEN]).all()
        least = enumerated(costs, edges, spec, given)
        assert energy(labels, costs, edges, spec) == pytest.approx(least, abs=1e-5)


@settings(max_examples=20)
@given_by(
    st.integers(0, 2**32 - 1),
    st.sampled_from(((2, 3), (1, 6), (2, 1, 3))),
    st.sampled_from(("faces", "all")),
    st.booleans(),
)
def test_expansions_stay_within_the_known_factor(seed, shape, neighbours, is_given) -> None:
    costs, edges, spec = problem(seed, shape, 3, neighbours)
    rng = np.random.default_rng(seed)
    given = rng.choice((NOT_GIVEN, 0, 1, 2), shape, p=(0.7, 0.1, 0.1, 0.1)) if is_given else None
    least = enumerated(costs, edges, spec, given)
    found = [minimum(costs, edges, spec, given=given, by=name) for name in LIBRARIES]
    assert all(np.array_equal(found[0], one) for one in found)
    if given is not None:
        assert (found[0][given != NOT_GIVEN] == given[given != NOT_GIVEN]).all()
    assert least - 1e-5 <= energy(found[0], costs, edges, spec) <= 2 * least + 1e-5


@settings(max_examples=10)
@given_by(st.integers(0, 2**32 - 1), st.sampled_from(("faces", "all")))
def test_no_single_expansion_lowers_the_energy_any_more(seed, neighbours) -> None:
    # By enumeration of every set of voxels that could move: the definition of a local minimum.
    costs, edges, spec = problem(seed, (2, 4), 4, neighbours)
    labels = minimum(costs, edges, spec)
    reached = energy(labels, costs, edges, spec)
    for label in range(4):
        for moves in itertools.product((False, True), repeat=labels.size):
            other = np.where(np.reshape(moves, labels.shape), label, labels)
            assert energy(other, costs, edges, spec) >= reached - 1e-5


def test_expansions_find_the_minimum_where_it_is_easy() -> None:
    for seed in range(5):
        costs, edges, _ = problem(seed, (2, 3), 3, spread=4)
        spec = CRFSpec(smooth=0.1, contrast=0.1)
        labels = minimum(costs, edges, spec)
        found = energy(labels, costs, edges, spec)
        assert found == pytest.approx(enumerated(costs, edges, spec), abs=1e-5)


@given_by(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_a_flow_equals_its_cut(seed, n) -> None:
    rng = np.random.default_rng(seed)
    first, second = np.triu_indices(n, 1)
    graph = Graph(rng.integers(-20, 20, n), first, second, rng.integers(0, 9, len(first)))
    cuts = [flow(graph) for flow in LIBRARIES.values()]
    for cut in cuts:
        assert np.array_equal(cut.sink, cuts[0].sink)
        # Who is with the source pays its link to the sink, and the other way round.
        unary = np.where(cut.sink, np.maximum(-graph.gains, 0), np.maximum(graph.gains, 0)).sum()
        crossing = cut.sink[first] != cut.sink[second]
        assert cut.flow == unary + graph.capacities[crossing].sum()


@pytest.mark.parametrize("neighbours", ["faces", "all"])
@pytest.mark.parametrize("shape", [(7, 9), (1, 6), (4, 5, 3), (1, 4, 3)])
def test_the_graph_of_a_whole_image_has_the_cut_of_its_voxels_one_by_one(shape, neighbours) -> None:
    costs, edges, _ = problem(3, shape, neighbours=neighbours)
    lattice = Lattice(edges.offsets, edges.links(CRFSpec(smooth=0.2, contrast=2)), shape)
    gains = lattice.integers(costs[0] - costs[1])
    # Two voxels are given.
    places = np.flatnonzero(lattice.open() == 0)
    gains[places[[0, -1]]] = HELD, -HELD
    bounded = np.clip(gains, -lattice.sums - 1, lattice.sums + 1)[places]
    graph = graph_of(places, bounded, lattice.links, lattice.strides, len(gains))
    grid = lattice.grid(gains, lattice.links)
    for flow in LIBRARIES.values():
        one, other = flow(graph), flow(grid)
        assert one.flow == other.flow
        assert one.sink.tolist() == other.sink.tolist()
        assert other.sink[[0, -1]].tolist() == [True, False]


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("is_given", [False, True])
def test_links_that_outweigh_every_cost_leave_all_to_the_flow(n_classes, is_given) -> None:
    shape = (5, 6)
    costs = costs_of_logits(np.random.default_rng(5).normal(0, 0.1, (n_classes, *shape)))
    edges, spec = edges_of(None, shape), CRFSpec(smooth=20)
    # All of one class is best, the one that costs least together, unless a voxel is given.
    best = int(costs.sum(axis=(1, 2)).argmin())
    given = np.full(shape, NOT_GIVEN)
    if is_given:
        best = (best + 1) % n_classes
        given[2, 3] = best
    for name in LIBRARIES:
        labels = minimum(costs, edges, spec, given=given if is_given else None, by=name)
        assert (labels == best).all()


def test_the_image_decides_where_a_border_runs() -> None:
    # The model is sure at both ends alone; the edge of the image is between the fourth and fifth.
    p = np.full((1, 8), 0.5)
    p[0, 0], p[0, -1] = 0.01, 0.99
    image = np.array([[[0, 1, 0, 1, 9, 10, 9, 10]]], np.float32)
    labels = minimum(
        costs_of_probabilities(np.stack([1 - p, p])), edges_of(image), CRFSpec(smooth=0.1)
    )
    assert labels.tolist() == [[0, 0, 0, 0, 1, 1, 1, 1]]


def test_neighbours_that_lie_further_apart_are_coupled_less() -> None:
    p = np.full((3, 3), 0.4)
    p[1, 1] = 0.75
    costs = costs_of_probabilities(np.stack([1 - p, p]))
    spec = CRFSpec(smooth=0.3, contrast=0)
    for spacing, centre in (((1, 1), 0), ((5, 1), 1)):
        edges = edges_of(None, p.shape, spacing=spacing)
        assert minimum(costs, edges, spec)[1, 1] == centre


def test_without_pairs_labels_are_the_most_probable() -> None:
    for n_classes in (2, 5):
        costs, edges, _ = problem(0, (6, 7), n_classes)
        spec = CRFSpec(smooth=0, contrast=0)
        assert np.array_equal(minimum(costs, edges, spec), costs.argmin(axis=0))


def test_rounding_is_within_its_bound() -> None:
    costs, edges, spec = problem(3, (20, 20, 20), neighbours="all")
    bound = GraphCut(edges, spec).error_bound
    assert 0 < bound < 1e-2
    # No single voxel could lower the energy by more.
    labels = minimum(costs, edges, spec)
    reached = energy(labels, costs, edges, spec)
    for place in np.random.default_rng(0).integers(0, 20, (50, 3)):
        other = labels.copy()
        other[tuple(place)] = 1 - other[tuple(place)]
        assert energy(other, costs, edges, spec) >= reached - bound


def test_labels_beyond_127_are_labels() -> None:
    costs = np.full((200, 2, 3), 5, np.float32)
    costs[199] = 0
    assert (minimum(costs, edges_of(None, (2, 3)), CRFSpec()) == 199).all()


def test_it_can_be_cancelled_and_tells_how_far_it_is() -> None:
    costs, edges, spec = problem(0, (8, 8), 4)
    told: list[float] = []
    minimum(costs, edges, spec, progress=told.append)
    assert told == sorted(told)
    assert 0 < told[0] < 1
    asked = iter((False, False, True))
    with pytest.raises(Cancelled):
        minimum(costs, edges, spec, cancelled=lambda: next(asked))


def test_more_classes_than_the_exact_method_takes() -> None:
    costs, edges, spec = problem(0, (3, 3), 3)
    with pytest.raises(ConfigError, match="2 classes, but there are 3"):
        minimum(costs, edges, spec, exact=True)


def test_shapes_that_differ_and_costs_that_are_not_finite() -> None:
    costs, edges, spec = problem(0, (3, 3))
    with pytest.raises(InputError, match=r"\(classes, 3, 3\)"):
        minimum(costs[:, :2], edges, spec)
    with pytest.raises(InputError, match="Given labels of shape"):
        minimum(costs, edges, spec, given=np.zeros((3, 2), int))
    with pytest.raises(InputError, match="Given labels from 0 to 1"):
        minimum(costs, edges, spec, given=np.full((3, 3), 2))
    costs[0, 1, 1] = np.nan
    with pytest.raises(InputError, match="NaN or infin"):
        minimum(costs, edges, spec)


def test_a_library_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="scipy, pymaxflow"):
        minimum(*problem(0, (3, 3)), by="networkx")


def test_a_graph_beyond_memory_is_refused_before_it_is_built() -> None:
    edges = edges_of(None, (2, 2))
    huge = (40_000, 40_000, 1000)
    costs = np.broadcast_to(np.float32(1), (2, *huge))
    broad = type(edges)(huge, edges.offsets, edges.factors, edges.squared)
    tracemalloc.start()
    with pytest.raises(MemoryLimitError, match="graph cut"):
        minimum(costs, broad, CRFSpec())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1e6


@pytest.mark.parametrize("neighbours", ["faces", "all"])
def test_the_estimate_of_memory_is_enough_for_the_worst_graph(neighbours) -> None:
    shape = (14, 40, 40)
    rng = np.random.default_rng(0)
    # Links so strong that no voxel is decided without the flow.
    costs = rng.uniform(0, 1, (2, *shape)).astype(np.float32)
    tracemalloc.start()
    edges = edges_of(None, shape, neighbours=neighbours)
    minimum(costs, edges, CRFSpec(smooth=1, contrast=0), by="scipy")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    estimate = cut_bytes(2, shape, len(edges.offsets))
    assert peak < estimate < 3 * peak
