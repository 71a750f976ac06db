"""Mean field with an MRF, as a solver: its trajectory kept from one setting to the next."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from torch import Tensor

from napari_structseg.controls import ITERATIONS_MAX, MeanFieldSettings, Nudge
from napari_structseg.distributions import Region, region_shape, slice_region, whole
from napari_structseg.errors import ConfigError
from napari_structseg.priors import MarkovPrior, nudged
from napari_structseg.refine.changes import Changes
from napari_structseg.refine.iterations.trajectory import MeanField, Trajectory
from napari_structseg.refine.logits import Problem
from napari_structseg.refine.memory import refinement_bytes
from napari_structseg.refine.solver import Progress, Step
from napari_structseg.render.rendering import LabelArray

# Iterations computed beyond those asked for, once these are there: the slider is mostly moved by a
# few, and finds them done. All fifty would cost five times what ten do, and would rarely be seen.
AHEAD = 5


class MeanFieldSolver:
    """A :class:`~napari_structseg.refine.solver.Solver`: mean field, slab by slab.

    A moved setting starts again from its own stage: one of the MRF keeps the log-likelihoods, the
    number of iterations keeps everything.

    Parameters
    ----------
    prior
        The MRF, on the device of the logits.
    """

    def __init__(self, prior: MarkovPrior) -> None:
        self._prior = prior
        self._nudged: tuple[tuple[Nudge, ...], MarkovPrior] = ((), prior)
        self._problem: Problem | None = None
        self._trajectory: Trajectory | None = None

    def solve(
        self,
        problem: Problem,
        settings: MeanFieldSettings,
        axis: int = 0,
        *,
        until_converged: bool = False,
    ) -> MeanFieldSolution:
        """See :meth:`napari_structseg.refine.solver.Solver.solve`."""
        check_fit(self._prior, problem.n_classes, problem.shape)
        return MeanFieldSolution(self, problem, settings, axis, until_converged=until_converged)

    def required_bytes(self, n_classes: int, shape: tuple[int, ...]) -> int:
        """See :meth:`napari_structseg.refine.solver.Solver.required_bytes`."""
        return refinement_bytes(n_classes, shape)

    def trajectory(
        self, problem: Problem, settings: MeanFieldSettings, axis: int = 0
    ) -> Trajectory:
        """The trajectory of a problem under these settings, as far as it has been computed.

        Parameters
        ----------
        problem, settings
            See :meth:`solve`.
        axis
            The axis that is looked along: its slices come first. An unfinished trajectory along
            another one is given up; a finished one shows every axis.
        """
        run = MeanField(settings.mrf_strength, settings.damping, settings.update_rule)
        prior = self._with(settings.nudges)
        kept = self._trajectory
        if kept is not None and not _can_go_on(kept, settings.iterations, run, axis):
            kept = None
        if kept is None or kept.shape != problem.shape:
            along = 0 if run.update == "coloured" or len(problem.shape) == 2 else axis
            kept = Trajectory(prior, problem.shape, _slabs(problem, along), run, along)
            self._trajectory = kept
        elif self._problem != problem:
            kept.forget_unaries(_slabs(problem, kept.axis))
        self._problem = problem
        if run != kept.settings or prior is not kept.prior:
            kept.restart(prior, run)
        return kept

    def _with(self, nudges: tuple[Nudge, ...]) -> MarkovPrior:
        if nudges != self._nudged[0]:
            pairs = [(one.first, one.second, one.amount) for one in nudges]
            wrong = [pair for pair in pairs if max(pair[:2]) >= self._prior.n_classes]
            if wrong:
                raise ConfigError(
                    f"A nudge names the labels {wrong[0][0]} and {wrong[0][1]}, but the model has "
                    f"labels from 0 to {self._prior.n_classes - 1}."
                )
            self._nudged = (nudges, nudged(self._prior, pairs))
        return self._nudged[1]


class MeanFieldSolution:
    """A :class:`~napari_structseg.refine.solver.Solution`: a view of the solver's trajectory.

    Parameters
    ----------
    solver, problem, settings, axis, until_converged
        See :meth:`MeanFieldSolver.solve`.
    """

    def __init__(
        self,
        solver: MeanFieldSolver,
        problem: Problem,
        settings: MeanFieldSettings,
        axis: int,
        *,
        until_converged: bool,
    ) -> None:
        self._solver = solver
        self._problem = problem
        self._settings = settings
        self._axis = axis
        self._until_converged = until_converged

    @property
    def trajectory(self) -> Trajectory:
        """The trajectory, brought back to this problem if another was worked on meanwhile."""
        return self._solver.trajectory(self._problem, self._settings, self._axis)

    def advance(self, visible: Region) -> Step:
        """See :meth:`napari_structseg.refine.solver.Solution.advance`."""
        trajectory = self.trajectory
        wanted = self._wanted(trajectory)
        if trajectory.n_complete >= wanted:
            wanted = self._target(trajectory)
        slab = _slab_of(trajectory, visible)
        # Slices along another axis see a little of every slab.
        toward = trajectory.n_slabs // 2 if slab is None else slab
        advanced = trajectory.advance(toward, wanted)
        if advanced is None:
            return Step.NOTHING
        if slab is None:
            return Step.PARTLY
        return Step.VISIBLE if advanced == slab else Step.ELSEWHERE

    def is_ready(self, region: Region) -> bool:
        """See :meth:`napari_structseg.refine.solver.Solution.is_ready`."""
        trajectory = self.trajectory
        slab = _slab_of(trajectory, region)
        reached = trajectory.n_complete if slab is None else trajectory.reached(slab)
        return reached >= self._wanted(trajectory)

    def is_preliminary(self, region: Region) -> bool:
        """See :meth:`napari_structseg.refine.solver.Solution.is_preliminary`: there are none."""
        return False

    @property
    def is_done(self) -> bool:
        """See :attr:`napari_structseg.refine.solver.Solution.is_done`."""
        trajectory = self.trajectory
        return trajectory.n_complete >= self._wanted(trajectory)

    def labels(self, region: Region) -> LabelArray:
        """See :meth:`napari_structseg.refine.solver.Solution.labels`."""
        trajectory = self.trajectory
        wanted = self._wanted(trajectory)
        slab = _slab_of(trajectory, region)
        if slab is not None:
            trajectory.labels(slab, wanted)
        else:
            trajectory.seek(wanted)
        return trajectory.volume()[region].copy()

    def changed(self, region: Region, since: Changes) -> npt.NDArray[np.bool_]:
        """See :meth:`napari_structseg.refine.solver.Solution.changed`."""
        self.labels(region)
        return self.trajectory.changed(since)[region]

    def cancel(self) -> None:
        """See :meth:`napari_structseg.refine.solver.Solution.cancel`: iterations are kept."""

    def progress(self) -> Progress:
        """See :meth:`napari_structseg.refine.solver.Solution.progress`."""
        trajectory = self.trajectory
        ended = trajectory.converged_after if self._until_converged else None
        reached = trajectory.n_complete if ended is None else ended
        target = max(reached, self._target(trajectory))
        curves = trajectory.convergence(reached)
        share = trajectory.share(self._wanted(trajectory))
        return Progress(reached, target, ended is not None, curves, share)

    def energy(self, region: Region) -> None:
        """Not known: the free energy is of all iterations."""
        return None

    def probabilities(self, region: Region) -> npt.NDArray[np.float32]:
        """See :meth:`napari_structseg.refine.solver.Solution.probabilities`.

        Labels are kept of every iteration, responsibilities only of the last: they are computed
        again if the trajectory is further.
        """
        if not self._settings.refines:
            return np.asarray(self._problem.logits(region).softmax(dim=0).cpu().numpy())
        while not self.is_done:
            self.advance(region)
        trajectory = self.trajectory
        wanted = self._wanted(trajectory)
        if trajectory.n_furthest > wanted:
            trajectory.restart(trajectory.prior, trajectory.settings)
        while trajectory.advance(0, wanted) is not None:
            pass
        shape = trajectory.shape
        result = np.empty((self._problem.n_classes, *region_shape(shape, region)), np.float32)
        if len(shape) == 2:
            result[...] = trajectory.responsibilities(0)[:, *region].cpu().numpy()
            return result
        axis = trajectory.axis
        plane = (*region[:axis], *region[axis + 1 :])
        planes = np.moveaxis(result, 1 + axis, 0)
        for into, slab in zip(planes, range(shape[axis])[region[axis]], strict=True):
            into[...] = trajectory.responsibilities(slab)[:, *plane].cpu().numpy()
        return result

    def _wanted(self, trajectory: Trajectory) -> int:
        """The iteration that is shown."""
        return self._ended(trajectory, self._settings.iterations)

    def _target(self, trajectory: Trajectory) -> int:
        """How many iterations are computed in the end."""
        ahead = min(self._settings.iterations + AHEAD, ITERATIONS_MAX)
        return self._ended(trajectory, max(ahead, self._settings.iterations))

    def _ended(self, trajectory: Trajectory, iteration: int) -> int:
        converged = trajectory.converged_after if self._until_converged else None
        return iteration if converged is None else min(iteration, converged)


def check_fit(prior: MarkovPrior, n_classes: int, shape: tuple[int, ...]) -> None:
    """Raise ConfigError if an MRF is for other classes or dimensions."""
    if (prior.n_classes, prior.dimensions) != (n_classes, len(shape)):
        raise ConfigError(
            f"The MRF is for {prior.n_classes} classes in {prior.dimensions}-D, but the "
            f"model gives {n_classes} classes in {len(shape)}-D. Choose an MRF that "
            "was trained for this model."
        )


def _slabs(problem: Problem, axis: int) -> Callable[[int], Tensor]:
    """Logits of each slab, ``(K, Y, X)``."""
    shape = problem.shape

    def logits(slab: int) -> Tensor:
        if len(shape) == 2:
            return problem.logits(whole(shape))
        return problem.logits(slice_region(shape, axis, slab)).squeeze(1 + axis)

    return logits


def _slab_of(trajectory: Trajectory, region: Region) -> int | None:
    """Which slab a region is, or is part of; None: it is of several."""
    if len(trajectory.shape) == 2:
        return 0
    places = range(trajectory.n_slabs)[region[trajectory.axis]]
    return places[0] if len(places) == 1 else None


def _can_go_on(kept: Trajectory, iterations: int, run: MeanField, axis: int) -> bool:
    """Whether a trajectory serves a view along an axis."""
    if len(kept.shape) == 2 or run.update == "coloured":
        return kept.axis == 0
    is_done = run == kept.settings and kept.n_complete >= iterations
    return kept.axis == axis or is_done
