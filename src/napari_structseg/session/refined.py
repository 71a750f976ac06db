"""What the engine does where a prior has a say: the visible slice first, every iteration shown."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import numpy as np

from napari_structseg.controls import ITERATIONS_MAX
from napari_structseg.distributions import LogitDistribution, Region, slabs
from napari_structseg.priors import MarkovPrior
from napari_structseg.refine.changes import Changes
from napari_structseg.refine.refinement import Refinement
from napari_structseg.refine.trajectory import Trajectory
from napari_structseg.render.rendering import SLAB_VOXELS, LabelArray
from napari_structseg.render.summaries import class_volumes
from napari_structseg.session.messages import (
    ChangedLabels,
    ClassVolumes,
    MeanFieldProgress,
    Request,
    Result,
    SlabLabels,
    SliceLabels,
)

# How often pictures and curves that only grow are sent.
_EVERY_SECONDS = 0.15


class RefinedWork:
    """The steps behind a request in which a prior refines the labels.

    Parameters
    ----------
    distribution
        p(eta | x).
    prior
        The prior.
    voxel_volume_ml
        Volume of a voxel in mL.
    """

    def __init__(
        self, distribution: LogitDistribution, prior: MarkovPrior, voxel_volume_ml: float
    ) -> None:
        self._refinement = Refinement(distribution, prior)
        self._n_classes = distribution.n_classes
        self._shape = distribution.spatial_shape
        self._voxel_volume_ml = voxel_volume_ml

    def visible(self, generation: int, request: Request) -> Iterator[Result | None]:
        """The visible slice, iteration after iteration, and what the prior has changed there.

        None stands for a step with nothing to show yet.
        """
        started = time.perf_counter()
        controls, view = request.controls, request.view
        region = view.region(self._shape)
        trajectory = self._refinement.trajectory(controls, view.axis)
        wanted = controls.iterations
        if not view.volume and self._is_along(trajectory, request):
            slab = 0 if len(self._shape) == 2 else view.position
            while not self._is_enough(trajectory, request, trajectory.reached(slab)):
                advanced = trajectory.advance(slab, wanted)
                if advanced == slab and trajectory.reached(slab) < wanted:
                    labels = trajectory.labels(slab, wanted).reshape(_sizes(region))
                    seconds = time.perf_counter() - started
                    yield SliceLabels(generation, region, labels.copy(), seconds, is_final=False)
                elif advanced is None:
                    break
                else:
                    yield None
            labels = trajectory.labels(slab, wanted).reshape(_sizes(region)).copy()
        else:
            # Slices along another axis see a little of everything.
            sent = time.perf_counter()
            while not self._is_enough(trajectory, request, trajectory.n_complete):
                trajectory.advance(trajectory.n_slabs // 2, wanted)
                if time.perf_counter() - sent > _EVERY_SECONDS:
                    sent = time.perf_counter()
                    trajectory.seek(wanted)
                    labels = trajectory.volume()[region].copy()
                    yield SliceLabels(generation, region, labels, sent - started, is_final=False)
                else:
                    yield None
            trajectory.seek(wanted)
            labels = trajectory.volume()[region].copy()
        yield SliceLabels(generation, region, labels, time.perf_counter() - started)
        if request.changes is not Changes.NONE:
            yield ChangedLabels(generation, region, trajectory.changed(request.changes)[region])
        yield self._progress(generation, request, trajectory)

    def volume(self, generation: int, request: Request) -> Iterator[Result | None]:
        """The labels of the whole image, and then the iterations that were not asked for yet."""
        started = time.perf_counter()
        controls = request.controls
        trajectory = self._refinement.trajectory(controls, request.view.axis)
        toward = request.view.position if self._is_along(trajectory, request) else 0
        yield from self._iterate(generation, request, trajectory, toward, controls.iterations)
        trajectory.seek(controls.iterations)
        labels = trajectory.volume()
        volumes, done, total = np.zeros(self._n_classes), 0, math.prod(self._shape)
        for region in slabs(self._shape, SLAB_VOXELS):
            part = labels[region].copy()
            volumes += class_volumes(part, self._n_classes, self._voxel_volume_ml)
            done += part.size
            yield SlabLabels(generation, region, part, done, total)
        yield ClassVolumes(generation, volumes, time.perf_counter() - started)
        yield from self._iterate(generation, request, trajectory, toward, ITERATIONS_MAX)

    def whole(self, request: Request) -> Iterator[tuple[int, int, LabelArray | None]]:
        """The labels of the whole image alone, step by step.

        Other requests may be answered between two steps: if theirs are other controls, mean
        field begins again.

        Yields
        ------
        done, total
            Iterations of slabs, and how many are wanted.
        labels
            ``(*spatial)``, a copy, with the last step; None before.
        """
        controls = request.controls
        while True:
            # Asked for at each step: what comes between may have moved it to other controls.
            trajectory = self._refinement.trajectory(controls, request.view.axis)
            total = trajectory.n_slabs * controls.iterations
            if self._is_enough(trajectory, request, trajectory.n_complete):
                trajectory.seek(controls.iterations)
                yield total, total, trajectory.volume().copy()
                return
            trajectory.advance(0, controls.iterations)
            slabs_done = (trajectory.reached(slab) for slab in range(trajectory.n_slabs))
            done = sum(min(reached, controls.iterations) for reached in slabs_done)
            yield min(done, total - 1), total, None

    def _iterate(
        self, generation: int, request: Request, trajectory: Trajectory, toward: int, target: int
    ) -> Iterator[Result | None]:
        sent, known = time.perf_counter(), trajectory.n_complete
        while not self._is_enough(trajectory, request, trajectory.n_complete, target):
            trajectory.advance(toward, target)
            is_new = trajectory.n_complete > known
            if is_new and time.perf_counter() - sent > _EVERY_SECONDS:
                sent, known = time.perf_counter(), trajectory.n_complete
                yield self._progress(generation, request, trajectory)
            else:
                yield None
        yield self._progress(generation, request, trajectory)

    def _is_along(self, trajectory: Trajectory, request: Request) -> bool:
        return len(self._shape) == 2 or trajectory.axis == request.view.axis

    def _is_enough(
        self, trajectory: Trajectory, request: Request, reached: int, target: int | None = None
    ) -> bool:
        if reached >= (request.controls.iterations if target is None else target):
            return True
        return request.stop_when_converged and trajectory.is_converged()

    def _progress(
        self, generation: int, request: Request, trajectory: Trajectory
    ) -> MeanFieldProgress:
        return MeanFieldProgress(
            generation,
            trajectory.n_complete,
            ITERATIONS_MAX,
            trajectory.convergence(),
            is_converged=request.stop_when_converged and trajectory.is_converged(),
        )


def _sizes(region: Region) -> tuple[int, ...]:
    return tuple(part.stop - part.start for part in region)
