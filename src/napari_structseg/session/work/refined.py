"""What the engine does where a solver refines the labels: the visible slice first, every stage.

Here is no word of mean field: solvers are known by their protocol.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from napari_structseg.controls import Controls
from napari_structseg.distributions import LogitDistribution, Region, slabs, whole
from napari_structseg.image import Image
from napari_structseg.priors import MarkovPrior
from napari_structseg.refine.changes import Changes
from napari_structseg.refine.convergence import Convergence
from napari_structseg.refine.graph_cut.solver import CRFSolver
from napari_structseg.refine.logits import ChosenLogits
from napari_structseg.refine.mean_field import MeanFieldSolver, check_fit
from napari_structseg.refine.solver import Solution, Solver, Step
from napari_structseg.render.rendering import SLAB_VOXELS, LabelArray
from napari_structseg.render.summaries import class_volumes
from napari_structseg.session.messages import (
    ChangedLabels,
    ClassVolumes,
    CutProgress,
    MeanFieldProgress,
    Request,
    Result,
    SlabLabels,
    SliceLabels,
)

# How often pictures and curves that only grow are sent.
_EVERY_SECONDS = 0.15
_UNKNOWN = -1
_WHOLE = 1000
_NO_CURVES = Convergence(np.zeros(0), np.zeros(0))

Settings = TypeVar("Settings")


class RefinedWork:
    """The steps behind a request in which a solver refines the labels.

    Parameters
    ----------
    distribution
        p(eta | x).
    solver
        What refines.
    settings_of
        The solver's settings among the controls.
    voxel_volume_ml
        Volume of a voxel in mL.
    image
        What was segmented, for solvers that look at it.
    """

    def __init__(
        self,
        distribution: LogitDistribution,
        solver: Solver[Settings],
        settings_of: Callable[[Controls], Settings],
        voxel_volume_ml: float,
        image: Image | None = None,
    ) -> None:
        chosen = ChosenLogits(distribution, image)

        def solve(request: Request) -> Solution:
            return solver.solve(
                chosen.problem(request.controls),
                settings_of(request.controls),
                request.view.axis,
                until_converged=request.stop_when_converged,
            )

        self._solve = solve
        self._n_classes = distribution.n_classes
        self._shape = distribution.spatial_shape
        self._voxel_volume_ml = voxel_volume_ml
        self._delivered = _Delivered(self._shape)

    def forget(self) -> None:
        """Deliver everything again: others have written labels meanwhile."""
        self._delivered.forget()

    def visible(self, generation: int, request: Request) -> Iterator[Result | None]:
        """The visible region, stage after stage, and what the solver has changed there.

        None stands for a step with nothing to show yet.
        """
        started = sent = time.perf_counter()
        region = request.view.region(self._shape)
        seen = whole(self._shape) if request.view.volume else region
        solution = self._solve(request)
        while not (solution.is_ready(seen) or solution.is_preliminary(seen)):
            step = solution.advance(seen)
            if step is Step.NOTHING:
                break
            now = time.perf_counter()
            is_due = step is Step.PARTLY and now - sent > _EVERY_SECONDS
            if (step is Step.VISIBLE or is_due) and not solution.is_ready(seen):
                sent = now
                labels = self._noted(region, solution.labels(region))
                yield SliceLabels(generation, region, labels, now - started, is_final=False)
            else:
                yield None
        labels = self._noted(region, solution.labels(region))
        yield SliceLabels(
            generation,
            region,
            labels,
            time.perf_counter() - started,
            is_final=solution.is_ready(seen),
        )
        if request.changes is not Changes.NONE:
            yield ChangedLabels(generation, region, solution.changed(region, request.changes))
        yield _progress(generation, solution, region)

    def volume(self, generation: int, request: Request) -> Iterator[Result | None]:
        """The labels of the whole image, as far as they are others than those delivered."""
        started = time.perf_counter()
        region, solution = request.view.region(self._shape), self._solve(request)
        if request.cuts_slices and not solution.is_done:
            solution.cancel()
            yield _progress(generation, solution, region)
            return
        yield from self._run(generation, solution, region, is_ahead=False)
        everything = solution.labels(whole(self._shape))
        volumes, total = np.zeros(self._n_classes), math.prod(self._shape)
        changed = []
        for slab in slabs(self._shape, SLAB_VOXELS):
            volumes += class_volumes(everything[slab], self._n_classes, self._voxel_volume_ml)
            if self._delivered.differs(slab, everything[slab]):
                changed.append(slab)
        # With the last slab that is sent, everything is there.
        left = sum(everything[slab].size for slab in changed)
        for slab in changed:
            part = everything[slab].copy()
            left -= part.size
            self._delivered.set(slab, part)
            yield SlabLabels(generation, slab, part, total - left, total)
        seconds = time.perf_counter() - started
        yield ClassVolumes(generation, volumes, seconds, request, refined=True)
        yield from self._run(generation, solution, region, is_ahead=True)

    def shown(self, request: Request, region: Region) -> LabelArray | None:
        """Labels of a region as they are asked for; None: they are not computed yet."""
        solution = self._solve(request)
        is_there = solution.is_ready(region) or (
            request.cuts_slices and solution.is_preliminary(region)
        )
        return solution.labels(region) if is_there else None

    def whole(self, request: Request) -> Iterator[tuple[int, int, LabelArray | None]]:
        """The labels of the whole image alone, step by step.

        Other requests may be answered between two steps: if theirs are other controls, the
        solver begins again.

        Yields
        ------
        done, total
            How much is computed, in thousandths.
        labels
            ``(*spatial)``, a copy, with the last step; None before.
        """
        everything, solution = whole(self._shape), self._solve(request)
        while not solution.is_done:
            solution.advance(everything)
            done = int(solution.progress().share * _WHOLE)
            yield min(done, _WHOLE - 1), _WHOLE, None
        yield _WHOLE, _WHOLE, solution.labels(everything)

    def _run(
        self, generation: int, solution: Solution, region: Region, *, is_ahead: bool
    ) -> Iterator[Result | None]:
        """What is left of what was asked for, or of what may be asked for next."""
        sent, known = time.perf_counter(), solution.progress()
        while is_ahead or not solution.is_done:
            if solution.advance(region) is Step.NOTHING:
                break
            if time.perf_counter() - sent > _EVERY_SECONDS:
                sent, now = time.perf_counter(), solution.progress()
                # A minimum has one stage, and only a share of it to tell of.
                if now.reached > known.reached or (now.target == 1 and now.share > known.share):
                    known = now
                    yield _progress(generation, solution, region)
                    continue
            yield None
        yield _progress(generation, solution, region)

    def _noted(self, region: Region, labels: LabelArray) -> LabelArray:
        """Labels of a slice that are about to be sent."""
        self._delivered.offer(region, labels)
        return labels


class _Delivered:
    """The labels that whoever listens is known to have.

    Of slices that come quickly one after the other the listener may leave some out. So a slice is
    believed to be there only where it agrees with what a slab has brought.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape
        self._labels: npt.NDArray[np.int16] | None = None

    def forget(self) -> None:
        self._labels = None

    def set(self, region: Region, labels: LabelArray) -> None:
        """Note a part that is certain to arrive."""
        if self._labels is None:
            self._labels = np.full(self._shape, _UNKNOWN, np.int16)
        self._labels[region] = labels

    def offer(self, region: Region, labels: LabelArray) -> None:
        """Note a part that may be left out."""
        if self._labels is not None:
            known = self._labels[region]
            known[known != labels] = _UNKNOWN

    def differs(self, region: Region, labels: LabelArray) -> bool:
        """Whether a part has to be sent."""
        return self._labels is None or not np.array_equal(self._labels[region], labels)


def refined_by_mean_field(
    distribution: LogitDistribution, prior: MarkovPrior, voxel_volume_ml: float
) -> RefinedWork:
    """The work of mean field with an MRF.

    Raises
    ------
    ConfigError
        If the MRF is for other classes or dimensions.
    """
    check_fit(prior, distribution.n_classes, distribution.spatial_shape)
    return RefinedWork(
        distribution, MeanFieldSolver(prior), lambda controls: controls, voxel_volume_ml
    )


def refined_by_cuts(
    distribution: LogitDistribution,
    voxel_volume_ml: float,
    image: Image | None,
    solver: CRFSolver,
) -> RefinedWork:
    """The work of a CRF's graph cuts on an image."""
    return RefinedWork(distribution, solver, lambda controls: controls.crf, voxel_volume_ml, image)


def _progress(
    generation: int, solution: Solution, region: Region
) -> MeanFieldProgress | CutProgress:
    progress, energy = solution.progress(), solution.energy(region)
    if energy is not None:
        return CutProgress(generation, progress.share, energy, solution.is_done)
    return MeanFieldProgress(
        generation,
        progress.reached,
        progress.target,
        progress.convergence or _NO_CURVES,
        is_converged=progress.is_converged,
    )
