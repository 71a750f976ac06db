"""Mean field over a whole image, slab by slab, the visible one first, every iteration kept.

Which slab is next is for the schedule to say (:mod:`napari_structseg.refine.iterations.schedule`);
what an iteration of it does, for :mod:`napari_structseg.refine.iterations.slab_updates`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from torch import Tensor

from napari_structseg.distributions.one_thread import one_thread
from napari_structseg.errors import ConfigError
from napari_structseg.priors import MarkovPrior
from napari_structseg.refine.changes import Changes
from napari_structseg.refine.convergence import Convergence, Curves, Energies
from napari_structseg.refine.iterations.fields import Fields
from napari_structseg.refine.iterations.label_history import LabelArray, LabelHistory
from napari_structseg.refine.iterations.neighbourhood import Neighbourhood, Plane
from napari_structseg.refine.iterations.schedule import Schedule
from napari_structseg.refine.iterations.site_updates import NOTICEABLE, MeanField
from napari_structseg.refine.iterations.slab_updates import SlabUpdates, make_team

__all__ = ["NOTICEABLE", "UNSETTLED", "MeanField", "Trajectory"]

# Converged is an iteration in which no larger share of the voxels changes noticeably. The largest
# change of any voxel is no measure: a few at edges go on for dozens of iterations.
UNSETTLED = 1e-4


class Trajectory:
    """All iterations of mean field on one image.

    Parameters
    ----------
    prior
        The MRF.
    shape
        Spatial shape of the image.
    unary
        Log-likelihoods U of a slab (any constant per site may be added), ``(K, Y, X)``.
    settings
        How to run.
    axis
        Which axis the slabs are along. Coloured updates depend on the order of colours: their
        slabs are along axis 0, whatever is asked for.

    Raises
    ------
    ConfigError
        If the MRF is for another number of dimensions.
    """

    def __init__(
        self,
        prior: MarkovPrior,
        shape: tuple[int, ...],
        unary: Callable[[int], Tensor],
        settings: MeanField,
        axis: int = 0,
    ) -> None:
        if prior.dimensions != len(shape):
            raise ConfigError(
                f"The MRF is for {prior.dimensions}-D images, but this one has the shape "
                f"{shape}. Choose an MRF of the model's own kind."
            )
        self.shape = shape
        self.axis = 0 if settings.update == "coloured" or len(shape) == 2 else axis
        self._unary_of = unary
        if len(shape) == 2:
            self.n_slabs, self._plane = 1, (shape[0], shape[1])
        else:
            others = [size for a, size in enumerate(shape) if a != self.axis]
            self.n_slabs, self._plane = shape[self.axis], (others[0], others[1])
        self._n_sites = math.prod(self._plane)
        self._around = Neighbourhood(prior, self._plane, self.axis)
        self._fields = Fields(
            self.n_slabs, self._plane, self._around.halo, prior.n_classes, self._around.device
        )
        self.history = LabelHistory(self.n_slabs, self._n_sites)
        self._team = make_team()
        self.restart(prior, settings)

    def restart(self, prior: MarkovPrior, settings: MeanField) -> None:
        """Begin again with other settings, or another MRF, on the same log-likelihoods.

        Raises
        ------
        ConfigError
            If coloured updates begin on slabs along another axis than the first.
        """
        if settings.update == "coloured" and self.axis != 0:
            raise ConfigError("Coloured updates need slabs along the first axis.")
        self.settings = settings
        if prior is not self._around.prior:
            self._around = Neighbourhood(prior, self._plane, self.axis)
        self.prior = prior
        self._schedule = Schedule(
            self.n_slabs,
            has_neighbours=self._around.halo > 0,
            is_coloured=settings.update == "coloured",
        )
        self._curves = Curves(self.n_slabs)
        self._updates = SlabUpdates(
            prior,
            settings,
            self._team,
            shape=self.shape,
            around=self._around,
            fields=self._fields,
            history=self.history,
            curves=self._curves,
            logits=self._unary_of,
        )
        self._converged_after: int | None = None
        self._looked_at = 0

    def forget_unaries(self, unary: Callable[[int], Tensor] | None = None) -> None:
        """Begin again since the log-likelihoods are others now.

        Parameters
        ----------
        unary
            Gives the new ones; None: as before.
        """
        if unary is not None:
            self._unary_of = unary
        self._fields.forget_unaries()
        self.restart(self.prior, self.settings)

    def reached(self, slab: int) -> int:
        """Iterations of a slab so far."""
        return self._schedule.reached(slab)

    @property
    def n_complete(self) -> int:
        """Iterations that every slab has."""
        return self._schedule.n_complete

    @property
    def n_furthest(self) -> int:
        """Iterations that at least one slab has."""
        return self._schedule.n_furthest

    def share(self, target: int) -> float:
        """How much of so many iterations of all slabs is computed, from 0 to 1."""
        return self._schedule.share(target)

    def advance(self, toward: int, target: int) -> int | None:
        """Compute one iteration of one slab: what brings `toward` to its target, then the rest.

        Parameters
        ----------
        toward
            The slab that is looked at.
        target
            The iteration that every slab should have.

        Returns
        -------
        int or None
            The slab that now has one more; None if all have as many as wanted.

        Raises
        ------
        InputError
            If responsibilities are not finite. What was computed before stays.
        """
        slab = self._schedule.next(toward, target)
        if slab is not None:
            with one_thread():
                self._updates.update(slab, self._schedule.reached(slab) + 1)
            self._schedule.note(slab)
        return slab

    def labels(self, slab: int, iteration: int) -> LabelArray:
        """Labels of a slab at an iteration, or the last that it has, ``(Y, X)``."""
        self._updates.begin(slab)
        return self.history.seek(slab, iteration).reshape(self._plane)

    def seek(self, iteration: int) -> None:
        """Bring :meth:`volume` to an iteration, or each slab to the last that it has."""
        for slab in range(self.n_slabs):
            self.labels(slab, iteration)

    def volume(self) -> LabelArray:
        """Labels of the whole image as :meth:`labels` last left each slab, in its own axes."""
        everything = self.history.labels.reshape(self.n_slabs, *self._plane)
        return everything[0] if len(self.shape) == 2 else np.moveaxis(everything, 0, self.axis)

    def changed(self, since: Changes) -> Plane:
        """Where :meth:`volume` differs from an earlier iteration, in the image's own axes.

        Parameters
        ----------
        since
            The start, which is the model alone, or the iteration before.
        """
        of_slab = (
            self.history.differs_from_start
            if since is Changes.START
            else self.history.differs_from_previous
        )
        differs = np.stack([of_slab(slab) for slab in range(self.n_slabs)])
        everything = differs.reshape(self.n_slabs, *self._plane)
        return everything[0] if len(self.shape) == 2 else np.moveaxis(everything, 0, self.axis)

    @property
    def converged_after(self) -> int | None:
        """The first iteration that left all but a few voxels as they were; None: none so far."""
        complete = self.n_complete
        while self._converged_after is None and self._looked_at < complete:
            self._looked_at += 1
            unsettled = self._curves.unsettled(self._looked_at - 1)
            if unsettled <= UNSETTLED * self.n_slabs * self._n_sites:
                self._converged_after = self._looked_at
        return self._converged_after

    def responsibilities(self, slab: int) -> Tensor:
        """R of a slab after its last iteration, ``(K, Y, X)``."""
        return self._fields.inside(self.reached(slab), slab).movedim(-1, 0)

    def convergence(self, n: int | None = None) -> Convergence:
        """Curves over the iterations that every slab has, or the first ``n`` of them."""
        n = self.n_complete if n is None else min(n, self.n_complete)
        energies: Energies | None = None
        if self.prior.has_energy:
            energies = "changes" if self.settings.update == "coloured" else "before"
        return self._curves.convergence(n, self.n_slabs * self._n_sites, energies)
