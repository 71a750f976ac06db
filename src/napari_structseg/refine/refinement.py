"""Mean field on a distribution, for the command line, for scripts and for evaluation.

The dock goes through :mod:`napari_structseg.session.work.refined` step by step; both use one
solver.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from napari_structseg.controls import Controls
from napari_structseg.distributions import LogitDistribution, Region, whole
from napari_structseg.errors import Cancelled
from napari_structseg.priors import MarkovPrior
from napari_structseg.refine.iterations.trajectory import Trajectory
from napari_structseg.refine.logits import ChosenLogits
from napari_structseg.refine.mean_field import MeanFieldSolution, MeanFieldSolver, check_fit
from napari_structseg.refine.memory import refinement_bytes
from napari_structseg.render.rendering import LabelArray

__all__ = ["Refinement", "labels_with_prior", "refinement_bytes"]


class Refinement:
    """Mean field on a distribution's mean, sample or latent position, its trajectory kept.

    Parameters
    ----------
    distribution
        p(eta | x), of any kind.
    prior
        For as many classes and dimensions, on the distribution's device.

    Raises
    ------
    ConfigError
        If the MRF is for other classes or dimensions.
    """

    def __init__(self, distribution: LogitDistribution, prior: MarkovPrior) -> None:
        check_fit(prior, distribution.n_classes, distribution.spatial_shape)
        self._chosen = ChosenLogits(distribution)
        self._solver = MeanFieldSolver(prior)

    def trajectory(self, controls: Controls, axis: int = 0) -> Trajectory:
        """The trajectory under these controls, see :meth:`MeanFieldSolver.trajectory`."""
        return self._solver.trajectory(self._chosen.problem(controls), controls, axis)

    def render_volume(
        self, controls: Controls, cancelled: Callable[[], bool] | None = None
    ) -> LabelArray:
        """Labels of the whole image after ``controls.iterations``, ``(*spatial)``, uint8.

        Raises
        ------
        Cancelled
            When ``cancelled`` said so, between slices.
        """
        solution = self._solve(controls)
        everything = whole(self._chosen.distribution.spatial_shape)
        with torch.inference_mode():
            _finish(solution, everything, cancelled)
            return solution.labels(everything)

    def probabilities(
        self,
        controls: Controls,
        region: Region | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Probabilities of the classes after ``controls.iterations``: those of mean field.

        Each voxel has its own categorical distribution; together they are the factorised
        distribution q that approximates the posterior of the MRF. Where the controls leave the
        MRF out, these are the softmax of the logits. Straight after :meth:`render_volume` with
        the same controls, nothing is computed again.

        Parameters
        ----------
        controls
            The sliders.
        region
            The part of the image that is wanted; None: all of it. The iterations are those of
            the whole image all the same.
        cancelled
            Asked between slices.

        Returns
        -------
        ndarray
            ``(K, *region)``, float32, summing to one over classes.

        Raises
        ------
        Cancelled
            When ``cancelled`` said so.
        """
        everything = whole(self._chosen.distribution.spatial_shape)
        solution = self._solve(controls)
        with torch.inference_mode():
            if controls.refines:
                _finish(solution, everything, cancelled)
            return solution.probabilities(everything if region is None else region)

    def _solve(self, controls: Controls) -> MeanFieldSolution:
        return self._solver.solve(self._chosen.problem(controls), controls)


def labels_with_prior(
    distribution: LogitDistribution,
    prior: MarkovPrior,
    controls: Controls,
    cancelled: Callable[[], bool] | None = None,
) -> LabelArray:
    """Labels of the whole image under an MRF, nothing kept, ``(*spatial)``, uint8."""
    return Refinement(distribution, prior).render_volume(controls, cancelled)


def _finish(
    solution: MeanFieldSolution, everything: Region, cancelled: Callable[[], bool] | None
) -> None:
    """Bring the whole image to the iteration that was asked for."""
    while not solution.is_done:
        solution.advance(everything)
        if cancelled is not None and cancelled():
            raise Cancelled("The refinement was cancelled.")
