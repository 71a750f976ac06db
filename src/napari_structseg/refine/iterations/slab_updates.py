"""One iteration of one slab: only sites around which something has moved are computed again."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_structseg.distributions.one_thread import team
from napari_structseg.priors import MarkovPrior
from napari_structseg.refine.convergence import Curves
from napari_structseg.refine.iterations.active_set import ActiveSet
from napari_structseg.refine.iterations.fields import Fields
from napari_structseg.refine.iterations.label_history import LabelHistory
from napari_structseg.refine.iterations.neighbourhood import Batch, Neighbourhood
from napari_structseg.refine.iterations.site_updates import (
    STILL,
    Accumulator,
    MeanField,
    SiteUpdates,
    UpdateInput,
    UpdateResult,
    dilated,
    labels_of,
)

# More than a few threads wait for memory, and the window wants a processor, too.
_N_THREADS = min(4, os.cpu_count() or 1)


def make_team() -> ThreadPoolExecutor:
    """Threads for the updates of one image; they outlast a change of settings."""
    return team(_N_THREADS)


class SlabUpdates:
    """Updates slabs of an image under one prior and one set of settings.

    Parameters
    ----------
    prior
        The MRF.
    settings
        How to run.
    workers
        Threads that sites are divided among, from :func:`make_team`.
    shape
        Spatial shape of the image.
    around
        Neighbours of a slab's sites under the MRF.
    fields, history
        What is read and written: responsibilities, and labels of every iteration.
    curves
        What each iteration amounts to is noted here.
    logits
        Logits of a slab, ``(K, Y, X)``.
    """

    def __init__(
        self,
        prior: MarkovPrior,
        settings: MeanField,
        workers: ThreadPoolExecutor,
        *,
        shape: tuple[int, ...],
        around: Neighbourhood,
        fields: Fields,
        history: LabelHistory,
        curves: Curves,
        logits: Callable[[int], Tensor],
    ) -> None:
        self._n_classes = prior.n_classes
        self._shape = shape
        self._n_slabs, self._n_sites = history.labels.shape
        self._around = around
        self._plane = around.plane
        self._fields, self._history, self._curves = fields, history, curves
        self._logits = logits
        self._sites = SiteUpdates(prior, settings)
        fields.restart(is_coloured=self._sites.is_coloured)
        self._begun = np.zeros(self._n_slabs, bool)
        self._active: ActiveSet | None = None
        if settings.update == "parallel" and settings.damping == 1 and not self._sites.has_energy:
            self._active = ActiveSet(around, fields.of(1), settings.strength, STILL)
        self._energies: dict[int, npt.NDArray[np.float64]] = {}
        self._uniform: dict[int, Tensor] = {}
        self._team = workers

    def begin(self, slab: int) -> None:
        """Fetch the log-likelihoods of a slab, and its labels without the MRF."""
        if self._begun[slab]:
            return
        self._begun[slab] = True
        unary = self._fields.fetch_unary(slab, self._logits)
        self._history.begin(slab, labels_of(unary.flatten(1)))
        if self._sites.is_coloured:
            # The first sweep reads what this slab starts from; others overwrite it.
            self._fields.inside(0, slab).fill_(1 / self._n_classes)

    def update(self, slab: int, iteration: int) -> None:
        """Do an iteration of a slab, of all sites at once or colour after colour.

        Raises
        ------
        InputError
            If logits or responsibilities are not finite.
        """
        if self._sites.is_coloured:
            self._sweep(slab, iteration)
        else:
            self._step(slab, iteration)

    def _step(self, slab: int, iteration: int) -> None:
        """One iteration of all sites at once."""
        self.begin(slab)
        if self._sites.has_energy and iteration == 1:
            self._energies[slab] = np.zeros(self._n_sites)
        fields, around = self._fields, self._around
        accumulator = Accumulator(fields.moved(iteration, slab).reshape(-1))
        accumulator.moved[:] = False
        read: Callable[[Batch], UpdateInput]
        if iteration == 1:
            message = self._uniform_message(slab)
            start = message.new_tensor(1 / self._n_classes)
            active = np.ones(self._plane, bool)

            def read(batch: Batch) -> UpdateInput:
                return UpdateInput(slab, batch, batch.of(message), start)

        else:
            read = partial(self._read, fields.of(iteration - 1), slab)
            active = fields.disturbed(slab, iteration)
            if iteration == 2:
                # From here on both fields hold what does not move.
                fields.inside(2, slab).copy_(fields.inside(1, slab))
                if self._active is not None:
                    active &= ~self._active.of(slab)
        self._update_all(around.batches(active), read, iteration, accumulator)
        self._finish(slab, iteration, accumulator)

    def _sweep(self, slab: int, iteration: int) -> None:
        """One iteration, colour after colour."""
        near = self._fields.near(slab)
        for beside in range(self._n_slabs)[near]:
            self.begin(beside)
        waiting = self._fields.waiting()
        accumulator = Accumulator(np.zeros(self._n_sites, bool))
        if iteration == 1 and self._sites.has_energy:
            unary = self._fields.unary(slab)
            energy = self._sites.energy_at_start(unary, self._uniform_message(slab))
            self._curves.note("energy", 0, slab, energy)
        read = partial(self._read, self._fields.of(iteration), slab)
        for rows, columns in ((0, 0), (0, 1), (1, 0), (1, 1)):
            colour = np.zeros(self._plane, bool)
            colour[rows::2, columns::2] = True
            active = waiting[slab] & colour
            waiting[slab] &= ~active
            accumulator.moved[:] = False
            self._update_all(self._around.batches(active, step=2), read, iteration, accumulator)
            waiting[near] |= dilated(accumulator.moved.reshape(self._plane))
        self._finish(slab, iteration, accumulator)

    def _read(self, field: Tensor, slab: int, batch: Batch) -> UpdateInput:
        """Sites with their message and responsibilities."""
        message = self._around.message(field, slab, batch)
        return UpdateInput(slab, batch, message, self._around.read(field, slab, batch))

    def _update_all(
        self,
        batches: Iterable[Batch],
        read: Callable[[Batch], UpdateInput],
        iteration: int,
        accumulator: Accumulator,
    ) -> None:
        """Update batches of sites none of which waits for another."""
        field = self._fields.of(iteration)

        def work(batch: Batch) -> UpdateResult:
            with torch.inference_mode():
                at = read(batch)
                unary = batch.of(self._fields.unary(at.slab))
                if self._sites.has_energy and not self._sites.is_coloured:
                    terms = self._sites.energy_before(at, unary)
                    self._energies[at.slab][batch.sites] = terms
                new, result = self._sites.update(at, unary, iteration)
                self._around.write(field, at.slab, batch, new)
                return result

        for done in self._team.map(work, batches):
            accumulator.add(done)

    def _finish(self, slab: int, iteration: int, accumulator: Accumulator) -> None:
        """Note the labels of an iteration, and what it amounts to."""
        sites = np.concatenate(accumulator.sites) if accumulator.sites else np.zeros(0, np.int64)
        labels = np.concatenate(accumulator.labels) if accumulator.labels else np.zeros(0, np.uint8)
        changed = self._history.append(slab, sites, labels)
        self._curves.note("residual", iteration - 1, slab, accumulator.residual)
        self._curves.note("changed", iteration - 1, slab, changed)
        self._curves.note("unsettled", iteration - 1, slab, accumulator.unsettled)
        if self._sites.has_energy and self._sites.is_coloured:
            self._curves.note("energy", iteration, slab, accumulator.energy)
        elif self._sites.has_energy:
            self._curves.note("energy", iteration - 1, slab, float(self._energies[slab].sum()))

    def _uniform_message(self, slab: int) -> Tensor:
        """The message before anything is known: first, last, and all slabs between are alike."""
        place = 0 if slab == 0 else 2 if slab == self._n_slabs - 1 else 1
        if place not in self._uniform:
            self._uniform[place] = self._around.uniform_message(self._shape, slab)
        return self._uniform[place]
