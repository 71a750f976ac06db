"""Mean field over a whole image, slab by slab, the visible one first, every iteration kept.

An iteration of a slab needs the iteration before of the two slabs beside it, and nothing else. So
slabs are not taken in lockstep: the visible slab runs ahead, and only what its next iteration
needs is computed first. A site is computed again only if something around it has moved.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_structseg.distributions.one_thread import one_thread, team
from napari_structseg.errors import ConfigError, InputError
from napari_structseg.priors import MarkovPrior, Update, contraction_bound
from napari_structseg.refine.active_set import ActiveSet
from napari_structseg.refine.changes import Changes
from napari_structseg.refine.convergence import Convergence, Curves, Energies
from napari_structseg.refine.label_history import LabelArray, LabelHistory
from napari_structseg.refine.neighbourhood import Batch, Neighbourhood, Plane
from napari_structseg.refine.site_updates import (
    Accumulator,
    UpdateInput,
    UpdateResult,
    dilated,
    labels_of,
)

# A responsibility that moves by less does not move: what it would have moved elsewhere is of the
# order of what single precision rounds.
STILL = 3e-7
# More than a few threads wait for memory, and the window wants a processor, too.
_N_THREADS = min(4, os.cpu_count() or 1)
# A full step that changes no probability of a voxel by more leaves it as it is, to the eye.
NOTICEABLE = 0.01
# Converged is an iteration in which no larger share of the voxels changes noticeably. The largest
# change of any voxel is no measure: a few at edges go on for dozens of iterations.
UNSETTLED = 1e-4


@dataclass(frozen=True, slots=True)
class MeanField:
    """How mean field is run.

    Attributes
    ----------
    strength
        Weight of the prior, at least 0.
    damping
        Share of a step that is taken, in (0, 1].
    update
        See :class:`napari_structseg.controls.Controls`.
    """

    strength: float = 1.0
    damping: float = 1.0
    update: Update = "parallel"


class Trajectory:
    """All iterations of mean field on one image.

    Parameters
    ----------
    prior
        The prior.
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
        If the prior is for another number of dimensions.
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
                f"The prior is for {prior.dimensions}-D images, but this one has the shape "
                f"{shape}. Choose a prior of the model's own kind."
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
        self._device = self._around.device
        halo, (height, width) = self._around.halo, self._plane
        # Written to in any mode, also after an inference mode in which it was made has ended.
        with torch.inference_mode(mode=False):
            self._fields = torch.zeros(
                (2, self.n_slabs + 2 * halo, height + 2, width + 2, prior.n_classes),
                device=self._device,
            )
        self._team = team(_N_THREADS)
        self._unaries: dict[int, Tensor] = {}
        self.history = LabelHistory(self.n_slabs, self._n_sites)
        self.restart(prior, settings)

    def restart(self, prior: MarkovPrior, settings: MeanField) -> None:
        """Begin anew with other settings, or another prior, on the same log-likelihoods.

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
        self._has_energy = prior.kind == "energy"
        self._tau = settings.strength * _bound(prior) if settings.update == "proximal" else 0.0
        # A damped step is a part of a full one.
        self._noticeable = NOTICEABLE * (1 / (1 + self._tau) if self._tau else settings.damping)
        self._at = np.zeros(self.n_slabs, np.int64)
        self._moved = np.ones((2, self.n_slabs, *self._plane), bool)
        self._begun = np.zeros(self.n_slabs, bool)
        self._active: ActiveSet | None = None
        if settings.update == "parallel" and settings.damping == 1 and not self._has_energy:
            self._active = ActiveSet(self._around, self._field(1), settings.strength, STILL)
        self._energies: dict[int, npt.NDArray[np.float64]] = {}
        self._curves = Curves(self.n_slabs)
        self._converged_after: int | None = None
        self._looked_at = 0
        self._uniform: dict[int, Tensor] = {}

    def forget_unaries(self, unary: Callable[[int], Tensor] | None = None) -> None:
        """Begin again since the log-likelihoods are others now.

        Parameters
        ----------
        unary
            Gives the new ones; None: as before.
        """
        if unary is not None:
            self._unary_of = unary
        self._unaries.clear()
        self.restart(self.prior, self.settings)

    def reached(self, slab: int) -> int:
        """Iterations of a slab so far."""
        return int(self._at[slab])

    @property
    def n_complete(self) -> int:
        """Iterations that every slab has."""
        return int(self._at.min())

    def share(self, target: int) -> float:
        """How much of so many iterations of all slabs is computed, from 0 to 1."""
        return float(np.minimum(self._at, target).mean()) / target if target else 1.0

    @property
    def n_furthest(self) -> int:
        """Iterations that at least one slab has."""
        return int(self._at.max())

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
            If responsibilities are not finite any more. What was computed before stays.
        """
        behind = np.flatnonzero(self._at < target)
        if not len(behind):
            return None
        slab = int(behind[np.abs(behind - toward).argmin()])
        while (needed := self._lagging(slab)) is not None:
            slab = needed
        with one_thread():
            if self.settings.update == "coloured":
                self._sweep(slab)
            else:
                self._step(slab)
        return slab

    def labels(self, slab: int, iteration: int) -> LabelArray:
        """Labels of a slab at an iteration, or the last that it has, ``(Y, X)``."""
        self._begin(slab)
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
        field = self._field(self.reached(slab))[slab + self._around.halo]
        return field[1:-1, 1:-1].movedim(-1, 0)

    def convergence(self, n: int | None = None) -> Convergence:
        """Curves over the iterations that every slab has, or the first ``n`` of them."""
        n = self.n_complete if n is None else min(n, self.n_complete)
        energies: Energies | None = None
        if self._has_energy:
            energies = "changes" if self.settings.update == "coloured" else "before"
        return self._curves.convergence(n, self.n_slabs * self._n_sites, energies)

    def _lagging(self, slab: int) -> int | None:
        """A neighbour that must go first."""
        needed = self._at[slab]
        if self.settings.update == "coloured" and slab % 2:
            needed += 1
        for beside in (slab - 1, slab + 1):
            if self._around.halo and 0 <= beside < self.n_slabs and self._at[beside] < needed:
                return beside
        return None

    def _field(self, iteration: int) -> Tensor:
        """Where the responsibilities of an iteration are: coloured updates overwrite them."""
        return self._fields[0 if self.settings.update == "coloured" else iteration % 2]

    def _begin(self, slab: int) -> None:
        """Fetch the log-likelihoods of a slab, and its labels without the prior."""
        if self._begun[slab]:
            return
        self._begun[slab] = True
        if slab not in self._unaries:
            unary = torch.log_softmax(self._unary_of(slab), dim=0)
            # A sum is finite only if all its terms are, and costs a tenth of looking at each.
            if not math.isfinite(float(unary.sum())):
                raise InputError(
                    "The model's logits are not all finite, so that no prior can refine them. "
                    "Check the image and the model."
                )
            self._unaries[slab] = unary
        self.history.begin(slab, labels_of(self._unaries[slab].flatten(1)))
        if self.settings.update == "coloured":
            # The first sweep reads what this slab starts from; others overwrite it.
            inside = self._fields[0, slab + self._around.halo, 1:-1, 1:-1]
            inside.fill_(1 / self.prior.n_classes)

    def _step(self, slab: int) -> None:
        """One iteration of all sites at once."""
        self._begin(slab)
        iteration = self.reached(slab) + 1
        if self._has_energy and iteration == 1:
            self._energies[slab] = np.zeros(self._n_sites)
        accumulator = Accumulator(self._moved[iteration % 2, slab].reshape(-1))
        accumulator.moved[:] = False
        halo = self._around.halo
        old, new = self._field(iteration - 1), self._field(iteration)
        if iteration == 1:
            message = self._uniform_message(slab)
            start = message.new_tensor(1 / self.prior.n_classes)
            self._update_all(
                self._around.batches(np.ones(self._plane, bool)),
                lambda batch: UpdateInput(slab, batch, batch.of(message), start),
                new,
                accumulator,
            )
        else:
            active = self._disturbed(slab, iteration)
            if iteration == 2:
                # From here on both fields hold what does not move.
                new[slab + halo] = old[slab + halo]
                if self._active is not None:
                    active &= ~self._active.of(slab)
            self._update_all(
                self._around.batches(active), partial(self._listen, old, slab), new, accumulator
            )
        self._finish(slab, iteration, accumulator)

    def _sweep(self, slab: int) -> None:
        """One iteration, colour after colour."""
        for beside in (slab - 1, slab, slab + 1):
            if 0 <= beside < self.n_slabs:
                self._begin(beside)
        iteration = self.reached(slab) + 1
        field, waiting = self._field(iteration), self._moved[0]
        accumulator = Accumulator(np.zeros(self._n_sites, bool))
        if iteration == 1 and self._has_energy:
            self._curves.note("energy", 0, slab, self._energy_at_start(slab))
        for rows, columns in ((0, 0), (0, 1), (1, 0), (1, 1)):
            colour = np.zeros(self._plane, bool)
            colour[rows::2, columns::2] = True
            active = waiting[slab] & colour
            waiting[slab] &= ~active
            accumulator.moved[:] = False
            batches = self._around.batches(active, step=2)
            self._update_all(batches, partial(self._listen, field, slab), field, accumulator)
            disturbed = dilated(accumulator.moved.reshape(self._plane))
            near = slice(max(slab - 1, 0), slab + 2) if self._around.halo else slice(slab, slab + 1)
            waiting[near] |= disturbed
        self._finish(slab, iteration, accumulator)

    def _listen(self, field: Tensor, slab: int, batch: Batch) -> UpdateInput:
        """Sites with what their neighbours say."""
        message = self._around.message(field, slab, batch)
        return UpdateInput(slab, batch, message, self._around.read(field, slab, batch))

    def _update_all(
        self,
        batches: Iterable[Batch],
        listen: Callable[[Batch], UpdateInput],
        field: Tensor,
        accumulator: Accumulator,
    ) -> None:
        """Update batches of sites none of which waits for another."""

        def work(batch: Batch) -> UpdateResult:
            with torch.inference_mode():
                return self._update(listen(batch), field)

        for done in self._team.map(work, batches):
            accumulator.add(done)

    def _update(self, at: UpdateInput, field: Tensor) -> UpdateResult:
        """Update sites from their message."""
        settings = self.settings
        unary = at.batch.of(self._unaries[at.slab])
        logits = torch.add(unary, at.message, alpha=settings.strength)
        if self._tau:
            held = logits.add(at.old.clamp(min=1e-30).log(), alpha=self._tau)
            new = torch.softmax(held.div_(1 + self._tau), dim=0)
        else:
            new = torch.softmax(logits, dim=0)
            if settings.damping < 1:
                new = new.mul_(settings.damping).add_(at.old, alpha=1 - settings.damping)
        change = (new - at.old).abs_().amax(dim=0)
        moves = change > STILL
        if not moves.all():
            new = torch.where(moves, new, at.old)
        self._around.write(field, at.slab, at.batch, new)
        energy = self._tell_energy(at, unary, new) if self._has_energy else 0.0
        largest = float(change.max())
        if not math.isfinite(largest):
            raise InputError(
                f"Mean field left the finite numbers in iteration {self.reached(at.slab) + 1} at "
                f"strength {settings.strength:g}. Lower the strength; the last result stays."
            )
        unsettled = 0
        if largest > self._noticeable:
            unsettled = int((change > self._noticeable).sum())
        return UpdateResult(
            at.batch.sites, moves.cpu().numpy(), labels_of(new), largest, unsettled, energy
        )

    def _tell_energy(self, at: UpdateInput, unary: Tensor, new: Tensor) -> float:
        """Note the energy of sites; what it changes by, where that is known."""
        message = self.settings.strength * at.message
        if self.settings.update == "coloured":
            # No two sites of a colour are neighbours: what F changes by is the sum over them.
            before = -torch.special.entr(at.old) - at.old * (unary + message)
            after = -torch.special.entr(new) - new * (unary + message)
            return float((after - before).sum(dtype=torch.float64))
        terms = -torch.special.entr(at.old) - at.old * (unary + 0.5 * message)
        self._energies[at.slab][at.batch.sites] = terms.sum(dim=0).double().cpu().numpy()
        return 0.0

    def _finish(self, slab: int, iteration: int, accumulator: Accumulator) -> None:
        sites = np.concatenate(accumulator.sites) if accumulator.sites else np.zeros(0, np.int64)
        labels = np.concatenate(accumulator.labels) if accumulator.labels else np.zeros(0, np.uint8)
        changed = self.history.append(slab, sites, labels)
        self._curves.note("residual", iteration - 1, slab, accumulator.residual)
        self._curves.note("changed", iteration - 1, slab, changed)
        self._curves.note("unsettled", iteration - 1, slab, accumulator.unsettled)
        if self._has_energy and self.settings.update == "coloured":
            self._curves.note("energy", iteration, slab, accumulator.energy)
        elif self._has_energy:
            energy = float(self._energies[slab].sum())
            self._curves.note("energy", iteration - 1, slab, energy)
        self._at[slab] = iteration

    def _energy_at_start(self, slab: int) -> float:
        n_classes = self.prior.n_classes
        message = 0.5 * self.settings.strength * self._uniform_message(slab)
        mean = (self._unaries[slab] + message).mean(dim=0).sum(dtype=torch.float64)
        return -self._n_sites * math.log(n_classes) - float(mean)

    def _uniform_message(self, slab: int) -> Tensor:
        """The message before anything is known: first, last, and all slabs between are alike."""
        place = 0 if slab == 0 else 2 if slab == self.n_slabs - 1 else 1
        if place not in self._uniform:
            self._uniform[place] = self._around.uniform_message(self.shape, slab)
        return self._uniform[place]

    def _disturbed(self, slab: int, iteration: int) -> Plane:
        """Sites with somebody around them, or themselves, who moved in the last iteration."""
        moved = self._moved[(iteration - 1) % 2]
        if not self._around.halo:
            return dilated(moved[slab])
        return dilated(moved[max(slab - 1, 0) : slab + 2].any(axis=0))


def _bound(prior: MarkovPrior) -> float:
    """The proximal weight per unit of strength: where no energy gives a bound, 1."""
    return contraction_bound(prior.kernel()) if prior.kind == "energy" else 1.0
