"""The graph cut as a solver: the contract, slices of their own, strokes, and its own process."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_structseg.distributions import Strokes, slice_region, whole
from napari_structseg.errors import MemoryLimitError
from napari_structseg.geometry import Geometry
from napari_structseg.image import Image
from napari_structseg.priors.contrast import CRFSpec, costs_of_logits, edges_of, energy, noise_of
from napari_structseg.refine.graph_cut.elsewhere import flow_elsewhere
from napari_structseg.refine.graph_cut.flows import Graph, Grid, by_scipy
from napari_structseg.refine.graph_cut.minimum import minimum
from napari_structseg.refine.graph_cut.solver import CRFSolver
from napari_structseg.refine.logits import Problem
from napari_structseg.testing.solvers import SolverContract, finish


def cut_of(logits, spec, image=None, given=None):
    """The definition: one minimum of the whole image."""
    shape = tuple(logits.shape[1:])
    data = None if image is None else image.data
    spacing = None if image is None else image.spacing
    edges = edges_of(data, shape, spacing=spacing, neighbours=spec.neighbours)
    return minimum(costs_of_logits(logits.numpy()), edges, spec, given=given, by="scipy")


class TestCRF(SolverContract):
    @pytest.fixture
    def solver(self):
        return CRFSolver()

    @pytest.fixture(params=["faces", "all"])
    def settings(self, request):
        return CRFSpec(smooth=0.2, contrast=0.1, neighbours=request.param)

    @pytest.fixture
    def other_settings(self):
        return CRFSpec(smooth=0.05)

    @pytest.fixture
    def expected(self):
        return cut_of


class TestCRFOfTwoClasses(TestCRF):
    def draw(self, seed):
        return super().draw(seed)[:2]

    def test_logits_that_are_not_finite_are_refused_and_it_lives_on(
        self, solver, settings, logits, expected
    ):
        broken = torch.cat([logits, logits])
        super().test_logits_that_are_not_finite_are_refused_and_it_lives_on(
            solver, settings, broken, expected
        )


def scene(shape=(4, 6, 5), n_classes=2, seed=0):
    """Logits, and an image with channels of very different scales."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn((n_classes, *shape), generator=generator)
    data = torch.randn((2, *shape), generator=generator).numpy() * np.float32([[[[5]]], [[[900]]]])
    affine = np.diag([0.8, 1, 2.5, 1])
    image = Image(data, Geometry.from_affine(shape, affine, n_channels=2), ("T1", "T2"))
    return logits, image


def problem(logits, image):
    shape = tuple(logits.shape[1:])
    return Problem(0, shape, len(logits), logits.device, lambda r: logits[:, *r], image)


def test_a_volume_is_cut_along_the_edges_of_its_image() -> None:
    logits, image = scene()
    spec = CRFSpec(smooth=0.05, contrast=0.6, scale=2)
    solution = CRFSolver().solve(problem(logits, image), spec)
    finish(solution, whole(image.spatial_shape))
    labels = solution.labels(whole(image.spatial_shape))
    assert np.array_equal(labels, cut_of(logits, spec, image))
    assert not np.array_equal(labels, cut_of(logits, spec))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_slice_has_a_cut_of_its_own_at_once_and_the_volume_replaces_it(axis) -> None:
    logits, image = scene()
    spec = CRFSpec(smooth=0.3, contrast=0.4)
    region = slice_region(image.spatial_shape, axis, 2)
    solution = CRFSolver().solve(problem(logits, image), spec)
    assert not solution.is_preliminary(region)
    assert solution.energy(region) is None
    solution.advance(region)
    assert solution.is_preliminary(region)
    assert not solution.is_ready(region)
    # Of the slice alone, in the units of the whole image.
    spacing = [side for a, side in enumerate(image.spacing) if a != axis]
    edges = edges_of(
        image.data[(slice(None), *region)].squeeze(1 + axis),
        spacing=spacing,
        noise=noise_of(image.data),
        shortest=min(image.spacing),
    )
    costs = costs_of_logits(logits[:, *region].squeeze(1 + axis).numpy())
    own = minimum(costs, edges, spec)
    assert np.array_equal(solution.labels(region).squeeze(axis), own)
    terms = solution.energy(region)
    assert terms is not None
    assert terms.total == pytest.approx(energy(own, costs, edges, spec))
    assert terms.n_voxels == own.size
    finish(solution, region)
    assert not solution.is_preliminary(region)
    final = cut_of(logits, spec, image)
    assert np.array_equal(solution.labels(region), final[region])
    whole_edges = edges_of(image.data, spacing=image.spacing)
    terms = solution.energy(region)
    assert terms is not None
    wanted = energy(final, costs_of_logits(logits.numpy()), whole_edges, spec)
    assert terms.total == pytest.approx(wanted)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_strokes_are_kept_in_slices_and_in_the_volume(n_classes) -> None:
    logits, image = scene(n_classes=n_classes)
    said = np.zeros(image.spatial_shape, np.int64)
    said[1, 2:4, 1:4] = n_classes
    said[2, 0, 0] = 1
    strokes = Strokes.from_array(said, n_classes)
    spec = CRFSpec(smooth=1, contrast=1)
    solution = CRFSolver(strokes).solve(problem(logits, image), spec)
    region = slice_region(image.spatial_shape, 0, 1)
    solution.advance(region)
    assert (solution.labels(region)[0, 2:4, 1:4] == n_classes - 1).all()
    finish(solution, region)
    labels = solution.labels(whole(image.spatial_shape))
    assert (labels[said > 0] == said[said > 0] - 1).all()
    assert np.array_equal(labels, cut_of(logits, spec, image, said - 1))


def test_of_many_jobs_only_the_last_are_kept_and_all_are_right() -> None:
    logits, image = scene()
    solver = CRFSolver()
    specs = [CRFSpec(smooth=weight) for weight in (0.1, 0.3, 0.6, 1.0)]
    solutions = [solver.solve(problem(logits, image), spec) for spec in specs]
    for solution in solutions:
        finish(solution, whole(image.spatial_shape))
    for spec, solution in zip(specs, solutions, strict=True):
        finish(solution, whole(image.spatial_shape))
        labels = solution.labels(whole(image.spatial_shape))
        assert np.array_equal(labels, cut_of(logits, spec, image))


def random_graph(n=300, seed=0):
    rng = np.random.default_rng(seed)
    first, second = np.triu_indices(n, 1)
    chosen = rng.choice(len(first), 5 * n, replace=False)
    weights = rng.integers(1, 9, len(chosen))
    return Graph(rng.integers(-20, 20, n), first[chosen], second[chosen], weights)


def random_grid(shape=(6, 7)):
    rng = np.random.default_rng(1)
    capacities = (rng.integers(0, 9, shape), rng.integers(0, 9, shape))
    capacities[0][:, -1] = capacities[1][-1] = 0
    return Grid(rng.integers(-20, 20, shape), ((0, 1), (1, 0)), capacities)


@pytest.mark.parametrize("graph", [random_graph(), random_grid()], ids=["graph", "grid"])
def test_a_process_of_its_own_gives_the_same_cut(graph) -> None:
    steps = flow_elsewhere(graph, "scipy", 0.25)
    shares = []
    while True:
        try:
            shares.append(next(steps))
        except StopIteration as finished:
            found = finished.value
            break
    wanted = by_scipy(graph)
    assert set(shares) == {0.25}
    assert found.flow == wanted.flow
    assert np.array_equal(found.sink, wanted.sink)


def test_a_process_that_is_no_longer_wanted_ends() -> None:
    steps = flow_elsewhere(random_graph(), "scipy")
    next(steps)
    process = steps.gi_frame.f_locals["process"]
    folder = steps.gi_frame.f_locals["folder"]
    steps.close()
    assert process.returncode is not None
    assert not folder.exists()


def test_a_process_that_fails_says_so() -> None:
    graph = random_graph(20)
    broken = Graph(graph.gains, graph.first, graph.second[:-1], graph.capacities)
    with pytest.raises(MemoryLimitError, match="20 voxels ended without a result"):
        for _ in flow_elsewhere(broken, "scipy"):
            pass


def test_large_flows_can_be_left_to_a_process() -> None:
    logits, image = scene()
    spec = CRFSpec(smooth=1, contrast=1)
    solution = CRFSolver(most_here=10).solve(problem(logits, image), spec)
    finish(solution, whole(image.spatial_shape))
    labels = solution.labels(whole(image.spatial_shape))
    assert np.array_equal(labels, cut_of(logits, spec, image))
