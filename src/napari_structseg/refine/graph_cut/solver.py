"""The graph cut of a CRF as a solver: at once for a slice, in the background for the volume.

A slice has a cut of its own, which knows nothing of the slices beside it and takes milliseconds.
The cut of the whole volume replaces it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Generator, Hashable

import numpy as np
import numpy.typing as npt

from napari_structseg.distributions import Region, Strokes, region_shape, whole
from napari_structseg.image import Image
from napari_structseg.priors.contrast import (
    Costs,
    CRFSpec,
    Edges,
    Neighbours,
    costs_of_logits,
    edges_of,
    noise_of,
    offsets_of,
)
from napari_structseg.refine.changes import Changes
from napari_structseg.refine.graph_cut.cut import NOT_GIVEN, GraphCut
from napari_structseg.refine.graph_cut.flows import library
from napari_structseg.refine.graph_cut.memory import check_cut_memory, cut_bytes
from napari_structseg.refine.logits import Problem
from napari_structseg.refine.solver import EnergyTerms, Progress, Step
from napari_structseg.render.rendering import LabelArray

# What is looked at, and a whole labelling that is saved meanwhile.
_JOBS_KEPT = 2
# A view that is scrolled back and forth.
_SLICES_KEPT = 64


class CRFSolver:
    """A :class:`~napari_structseg.refine.solver.Solver`: the minimum of a CRF.

    Parameters
    ----------
    strokes
        Voxels whose class is given, on the grid of the logits; None: none are.
    by
        Which library computes flows, see :func:`.flows.library`.
    most_here
        Flows of more voxels are computed in a process of their own, as a window needs it; None:
        none are.

    Attributes
    ----------
    library
        The name of that library.
    """

    def __init__(
        self, strokes: Strokes | None = None, by: str = "auto", *, most_here: int | None = None
    ) -> None:
        self.library = library(by)
        self._most_here = most_here
        self._given = None if strokes is None else _given_array(strokes)
        self._image: Image | None = None
        self._noise: tuple[float, ...] | None = None
        self._edges: dict[Neighbours, Edges] = {}
        self._slice_edges: OrderedDict[Hashable, Edges] = OrderedDict()
        self._jobs: OrderedDict[Hashable, Job] = OrderedDict()

    def solve(
        self,
        problem: Problem,
        settings: CRFSpec,
        axis: int = 0,
        *,
        until_converged: bool = False,
    ) -> CRFSolution:
        """See :meth:`napari_structseg.refine.solver.Solver.solve`; every axis is the same."""
        return CRFSolution(self, problem, settings)

    def required_bytes(self, n_classes: int, shape: tuple[int, ...]) -> int:
        """See :meth:`napari_structseg.refine.solver.Solver.required_bytes`, of any neighbours."""
        return cut_bytes(n_classes, shape, len(offsets_of(len(shape), "all")))

    def forget(self) -> None:
        """Let go of everything that was computed, and end what is under way."""
        for job in self._jobs.values():
            job.close()
        self._jobs.clear()
        self._edges.clear()
        self._slice_edges.clear()
        self._noise = None

    def job(self, problem: Problem, settings: CRFSpec) -> Job:
        """What is computed of a problem under these settings; it begins again if it was let go."""
        if problem.image is not self._image:
            self.forget()
            self._image = problem.image
        key = (problem.key, problem.shape, settings)
        if key not in self._jobs:
            self._jobs[key] = Job(self, problem, settings)
            while len(self._jobs) > _JOBS_KEPT:
                self._jobs.popitem(last=False)[1].close()
        self._jobs.move_to_end(key)
        return self._jobs[key]

    def given(self, region: Region, axis: int | None) -> npt.NDArray[np.int16] | None:
        """The given labels of a region, without the axis that it is a slice along."""
        if self._given is None:
            return None
        return self._given[region] if axis is None else self._given[region].squeeze(axis)

    def cut(self, edges: Edges, settings: CRFSpec) -> GraphCut:
        """The links of pairs under settings."""
        return GraphCut(edges, settings, self.library, most_here=self._most_here)

    def edges(self, shape: tuple[int, ...], neighbours: Neighbours) -> Edges:
        """The pairs of the whole image."""
        if neighbours not in self._edges:
            # Of one kind: they are as large as several images.
            self._edges.clear()
            self._edges[neighbours] = self._compute_edges(whole(shape), None, shape, neighbours)
        return self._edges[neighbours]

    def slice_edges(
        self, region: Region, axis: int, shape: tuple[int, ...], neighbours: Neighbours
    ) -> Edges:
        """The pairs within a slice, which is an image of one dimension less."""
        key = (axis, region[axis].start, neighbours)
        if key not in self._slice_edges:
            sizes = tuple(size for a, size in enumerate(shape) if a != axis)
            self._slice_edges[key] = self._compute_edges(region, axis, sizes, neighbours)
            if len(self._slice_edges) > _SLICES_KEPT:
                self._slice_edges.popitem(last=False)
        return self._slice_edges[key]

    def _compute_edges(
        self, region: Region, axis: int | None, sizes: tuple[int, ...], neighbours: Neighbours
    ) -> Edges:
        image = self._image
        if image is None:
            return edges_of(None, sizes, neighbours=neighbours)
        if self._noise is None:
            self._noise = noise_of(image.data)
        data = image.data[(slice(None), *region)]
        return edges_of(
            data if axis is None else data.squeeze(1 + axis),
            spacing=[side for a, side in enumerate(image.spacing) if a != axis],
            neighbours=neighbours,
            noise=self._noise,
            shortest=min(image.spacing),
        )


class Job:
    """The cuts of one problem under one set of settings, as far as they are computed.

    Parameters
    ----------
    solver
        Has the pairs.
    problem, settings
        See :meth:`CRFSolver.solve`.
    """

    def __init__(self, solver: CRFSolver, problem: Problem, settings: CRFSpec) -> None:
        self._solver = solver
        self._problem = problem
        self._settings = settings
        self._steps: Generator[float, None, tuple[LabelArray, EnergyTerms]] | None = None
        self._slices: OrderedDict[Hashable, tuple[LabelArray, EnergyTerms]] = OrderedDict()
        self.share = 0.0
        self.whole: tuple[LabelArray, EnergyTerms] | None = None

    def close(self) -> None:
        """End what is under way."""
        if self._steps is not None:
            self._steps.close()
            self._steps = None
            self.share = 0.0

    def slice_of(self, region: Region) -> tuple[LabelArray, EnergyTerms] | None:
        """The cut of a slice of its own, if it was computed, with the axis of length 1."""
        axis = sliced_axis(region, self._problem.shape)
        return None if axis is None else self._slices.get((axis, region[axis].start))

    def cut_slice(self, region: Region, axis: int) -> None:
        """Compute the cut of a slice of its own."""
        shape, settings = self._problem.shape, self._settings
        costs = self._costs(region).squeeze(1 + axis)
        edges = self._solver.slice_edges(region, axis, shape, settings.neighbours)
        given = self._solver.given(region, axis)
        # In its own thread a slice is not worth a process.
        labels = GraphCut(edges, settings, self._solver.library).minimum(costs, given)
        terms = EnergyTerms.of(labels, costs, edges, settings)
        self._slices[axis, region[axis].start] = np.expand_dims(labels, axis), terms
        if len(self._slices) > _SLICES_KEPT:
            self._slices.popitem(last=False)

    def advance(self) -> None:
        """One step of the cut of the whole image."""
        if self._steps is None:
            self._steps = self._whole()
        try:
            self.share = next(self._steps)
        except StopIteration as finished:
            self.whole = finished.value
            self.share, self._steps = 1.0, None

    def _whole(self) -> Generator[float, None, tuple[LabelArray, EnergyTerms]]:
        problem, settings, solver = self._problem, self._settings, self._solver
        offsets = offsets_of(len(problem.shape), settings.neighbours)
        check_cut_memory(problem.n_classes, problem.shape, len(offsets))
        everything = whole(problem.shape)
        costs = self._costs(everything)
        yield 0.0
        edges = solver.edges(problem.shape, settings.neighbours)
        yield 0.0
        cut = solver.cut(edges, settings)
        labels = yield from cut.steps(costs, solver.given(everything, None))
        return labels, EnergyTerms.of(labels, costs, edges, settings)

    def _costs(self, region: Region) -> Costs:
        return costs_of_logits(self._problem.logits(region).float().cpu().numpy())


class CRFSolution:
    """A :class:`~napari_structseg.refine.solver.Solution`: a view of the solver's job.

    Parameters
    ----------
    solver, problem, settings
        See :meth:`CRFSolver.solve`.
    """

    def __init__(self, solver: CRFSolver, problem: Problem, settings: CRFSpec) -> None:
        self._solver = solver
        self._problem = problem
        self._settings = settings

    @property
    def _job(self) -> Job:
        return self._solver.job(self._problem, self._settings)

    def advance(self, visible: Region) -> Step:
        """See :meth:`napari_structseg.refine.solver.Solution.advance`."""
        job = self._job
        if job.whole is not None:
            return Step.NOTHING
        axis = sliced_axis(visible, self._problem.shape)
        if axis is not None and job.slice_of(visible) is None:
            job.cut_slice(visible, axis)
            return Step.VISIBLE
        job.advance()
        return Step.ELSEWHERE if job.whole is None else Step.VISIBLE

    def is_ready(self, region: Region) -> bool:
        """See :meth:`napari_structseg.refine.solver.Solution.is_ready`."""
        return self._job.whole is not None

    def is_preliminary(self, region: Region) -> bool:
        """See :meth:`napari_structseg.refine.solver.Solution.is_preliminary`: a slice's own cut."""
        job = self._job
        return job.whole is None and job.slice_of(region) is not None

    @property
    def is_done(self) -> bool:
        """See :attr:`napari_structseg.refine.solver.Solution.is_done`."""
        return self._job.whole is not None

    def labels(self, region: Region) -> LabelArray:
        """See :meth:`napari_structseg.refine.solver.Solution.labels`."""
        job = self._job
        if job.whole is not None:
            return job.whole[0][region].copy()
        own = job.slice_of(region)
        return self._start(region) if own is None else own[0].copy()

    def changed(self, region: Region, since: Changes) -> npt.NDArray[np.bool_]:
        """See :meth:`napari_structseg.refine.solver.Solution.changed`: there is one stage."""
        return np.not_equal(self.labels(region), self._start(region))

    def cancel(self) -> None:
        """See :meth:`napari_structseg.refine.solver.Solution.cancel`."""
        self._job.close()

    def progress(self) -> Progress:
        """See :meth:`napari_structseg.refine.solver.Solution.progress`."""
        job = self._job
        return Progress(int(job.whole is not None), 1, share=job.share)

    def energy(self, region: Region) -> EnergyTerms | None:
        """See :meth:`napari_structseg.refine.solver.Solution.energy`."""
        job = self._job
        found = job.whole or job.slice_of(region)
        return None if found is None else found[1]

    def probabilities(self, region: Region) -> None:
        """A minimum has none."""
        return None

    def _start(self, region: Region) -> LabelArray:
        labels: LabelArray = (
            self._problem.logits(region).argmax(dim=0).cpu().numpy().astype(np.uint8)
        )
        return labels


def sliced_axis(region: Region, shape: tuple[int, ...]) -> int | None:
    """The axis that a region is one slice along; None: it is none, or everything there is."""
    sizes = region_shape(shape, region)
    part = [axis for axis, size in enumerate(sizes) if size != shape[axis]]
    if len(shape) < 3 or len(part) != 1 or sizes[part[0]] != 1:
        return None
    return part[0]


def _given_array(strokes: Strokes) -> npt.NDArray[np.int16]:
    given = np.full(strokes.shape, NOT_GIVEN, np.int16)
    given.reshape(-1)[strokes.voxels] = strokes.labels
    return given
