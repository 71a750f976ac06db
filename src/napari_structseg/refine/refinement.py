"""A prior on whatever a renderer shows: the stage between logits and labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_structseg.controls import Controls, Nudge
from napari_structseg.distributions import (
    LogitDistribution,
    Noise,
    Region,
    region_shape,
    slice_region,
    whole,
)
from napari_structseg.errors import Cancelled, ConfigError
from napari_structseg.priors import MarkovPrior, nudged
from napari_structseg.refine.trajectory import MeanField, Trajectory
from napari_structseg.render.rendering import LabelArray, combine


class Refinement:
    """Mean field on a distribution's mean or sample, its trajectory kept.

    A moved control starts again from its own stage: one of the prior keeps the log-likelihoods,
    the number of iterations keeps everything.

    Parameters
    ----------
    distribution
        p(eta | x), of any kind.
    prior
        For as many classes and dimensions, on the distribution's device.

    Raises
    ------
    ConfigError
        If the prior is for other classes or dimensions.
    """

    def __init__(self, distribution: LogitDistribution, prior: MarkovPrior) -> None:
        n_axes = len(distribution.spatial_shape)
        if (prior.n_classes, prior.dimensions) != (distribution.n_classes, n_axes):
            raise ConfigError(
                f"The prior is for {prior.n_classes} classes in {prior.dimensions}-D, but the "
                f"model gives {distribution.n_classes} classes in {n_axes}-D. Choose a prior that "
                "was trained for this model."
            )
        self._distribution = distribution
        self._prior = prior
        self._nudged: tuple[tuple[Nudge, ...], MarkovPrior] = ((), prior)
        self._upstream = _Upstream(distribution)
        self._trajectory: Trajectory | None = None

    def trajectory(self, controls: Controls, axis: int = 0) -> Trajectory:
        """The trajectory under these controls, as far as it has been computed.

        Parameters
        ----------
        controls
            The sliders.
        axis
            The axis that is looked along: its slices come first. An unfinished trajectory along
            another one is given up; a finished one shows every axis.
        """
        upstream = controls.unrefined
        settings = MeanField(controls.mrf_strength, controls.damping, controls.update_rule)
        prior = self._with(controls.nudges)
        kept = self._trajectory
        if kept is not None and not _can_go_on(kept, controls, settings, axis):
            kept = None
        if kept is None:
            self._upstream.controls = upstream
            shape = self._distribution.spatial_shape
            along = 0 if settings.update == "coloured" or len(shape) == 2 else axis
            kept = Trajectory(prior, shape, partial(self._upstream.logits, along), settings, along)
            self._trajectory = kept
        elif upstream != self._upstream.controls:
            self._upstream.controls = upstream
            kept.forget_unaries()
        if settings != kept.settings or prior is not kept.prior:
            kept.restart(prior, settings)
        return kept

    def render_volume(
        self, controls: Controls, cancelled: Callable[[], bool] | None = None
    ) -> LabelArray:
        """Labels of the whole image after ``controls.iterations``, ``(*spatial)``, uint8.

        Raises
        ------
        Cancelled
            When ``cancelled`` said so, between slices.
        """
        trajectory = self.trajectory(controls)
        _iterate(trajectory, controls.iterations, cancelled)
        trajectory.seek(controls.iterations)
        return trajectory.volume().copy()

    def probabilities(
        self,
        controls: Controls,
        region: Region | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Probabilities of the classes after ``controls.iterations``: those of mean field.

        Each voxel has its own categorical distribution; together they are the factorised
        distribution q that approximates the MRF's posterior. Where the controls leave the MRF
        out, these are the softmax of the logits. Straight after :meth:`render_volume` with the
        same controls, nothing is computed again.

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
        shape = self._distribution.spatial_shape
        region = whole(shape) if region is None else region
        result = np.empty((self._distribution.n_classes, *region_shape(shape, region)), np.float32)
        with torch.inference_mode():
            trajectory = self.trajectory(controls)
            if controls.refines:
                if trajectory.n_furthest > controls.iterations:
                    # Labels are kept of every iteration, probabilities only of the last.
                    trajectory.restart(trajectory.prior, trajectory.settings)
                _iterate(trajectory, controls.iterations, cancelled)
            axis, plane = trajectory.axis, region
            if len(shape) == 3:
                plane = (*region[:axis], *region[axis + 1 :])
                places = enumerate(range(shape[axis])[region[axis]])
            else:
                places = enumerate([0])
            for place, slab in places:
                if controls.refines:
                    values = trajectory.responsibilities(slab)
                else:
                    values = self._upstream.logits(axis, slab).softmax(dim=0)
                into = result if len(shape) == 2 else np.moveaxis(result, 1 + axis, 0)[place]
                into[...] = values[:, *plane].cpu().numpy()
        return result

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


class _Upstream:
    """The logits that a prior refines, slice by slice.

    Apart from the refinement, so that a trajectory holds on to these and not to what holds it: as
    a circle, its arrays would stay until Python looks for circles.
    """

    def __init__(self, distribution: LogitDistribution) -> None:
        self._distribution = distribution
        self.controls = Controls()
        # Offsets by slice, of one sample along one axis: they outlast a moved temperature.
        self._drawn: tuple[Noise, int] | None = None
        self._offsets: dict[int, Tensor] = {}

    def logits(self, axis: int, index: int) -> Tensor:
        """Logits of a slice, ``(K, Y, X)``."""
        shape = self._distribution.spatial_shape
        region = whole(shape) if len(shape) == 2 else slice_region(shape, axis, index)
        noise = self.controls.noise if self._distribution.is_stochastic else None
        offset = None
        if noise is not None:
            noise = self.controls.tempered(noise, self._distribution)
            if (noise, axis) != self._drawn:
                self._drawn = (noise, axis)
                self._offsets.clear()
            if index not in self._offsets:
                self._offsets[index] = self._distribution.offset(noise, region)
            offset = self._offsets[index]
        weights = self.controls.weights_of(self._distribution)
        logits = combine(self._distribution.mean(region), offset, weights)
        return logits if len(shape) == 2 else logits.squeeze(1 + axis)


def _iterate(trajectory: Trajectory, target: int, cancelled: Callable[[], bool] | None) -> None:
    """Bring every slab to an iteration."""
    while trajectory.advance(0, target) is not None:
        if cancelled is not None and cancelled():
            raise Cancelled("The refinement was cancelled.")


def _can_go_on(kept: Trajectory, controls: Controls, settings: MeanField, axis: int) -> bool:
    """Whether a trajectory serves a view along an axis."""
    if len(kept.shape) == 2 or settings.update == "coloured":
        return kept.axis == 0
    is_done = settings == kept.settings and kept.n_complete >= controls.iterations
    return kept.axis == axis or is_done


def refinement_bytes(n_classes: int, shape: Sequence[int]) -> int:
    """Memory that mean field needs beside the logits it refines."""
    # Log-likelihoods, responsibilities of two iterations and a sample's offsets, float32;
    # labels of the first, the last and the shown iteration, and who moved in the last two.
    return math.prod(shape) * (4 * n_classes * 4 + 5)


def labels_with_prior(
    distribution: LogitDistribution,
    prior: MarkovPrior,
    controls: Controls,
    cancelled: Callable[[], bool] | None = None,
) -> LabelArray:
    """Labels of the whole image under a prior, computed anew, ``(*spatial)``, uint8."""
    with torch.inference_mode():
        return Refinement(distribution, prior).render_volume(controls, cancelled)
