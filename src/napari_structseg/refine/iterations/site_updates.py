"""The update of sites: from their log-likelihoods and message to responsibilities and labels."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_structseg.devices import precise_sum
from napari_structseg.errors import InputError
from napari_structseg.priors import MarkovPrior, Update, contraction_bound
from napari_structseg.refine.iterations.label_history import LabelArray
from napari_structseg.refine.iterations.neighbourhood import Batch, Plane, Sites

# A responsibility that moves by less does not move: what it would have moved elsewhere is of the
# order of what single precision rounds.
STILL = 3e-7
# A full step that changes no probability of a voxel by more leaves it as it is, to the eye.
NOTICEABLE = 0.01


@dataclass(frozen=True, slots=True)
class MeanField:
    """How mean field is run.

    Attributes
    ----------
    strength
        Weight of the MRF, at least 0.
    damping
        Share of a step that is taken, in (0, 1].
    update
        See :class:`napari_structseg.controls.Controls`.
    """

    strength: float = 1.0
    damping: float = 1.0
    update: Update = "parallel"


@dataclass(frozen=True, slots=True)
class UpdateInput:
    """Sites of a slab, their message and their responsibilities, both ``(K, n)`` or the like."""

    slab: int
    batch: Batch
    message: Tensor
    old: Tensor


@dataclass(frozen=True, slots=True)
class UpdateResult:
    """What became of a batch: its sites, which moved, their labels; all ``(n,)``.

    ``unsettled`` is how many changed a probability noticeably.
    """

    sites: Sites
    moved: npt.NDArray[np.bool_]
    labels: LabelArray
    residual: float
    unsettled: int
    energy: float


@dataclass(slots=True)
class Accumulator:
    """What an iteration of a slab amounts to so far."""

    moved: npt.NDArray[np.bool_]
    residual: float = 0.0
    unsettled: int = 0
    energy: float = 0.0
    sites: list[Sites] = field(default_factory=list)
    labels: list[LabelArray] = field(default_factory=list)

    def add(self, done: UpdateResult) -> None:
        """Count a batch."""
        self.moved[done.sites] = done.moved
        self.residual = max(self.residual, done.residual)
        self.unsettled += done.unsettled
        self.energy += done.energy
        self.sites.append(done.sites)
        self.labels.append(done.labels)


class SiteUpdates:
    """The formula of one update, of any sites at once.

    Parameters
    ----------
    prior
        The MRF: whether it has an energy, and how far a proximal step may go.
    settings
        How to run.
    """

    def __init__(self, prior: MarkovPrior, settings: MeanField) -> None:
        self.has_energy = prior.has_energy
        self.is_coloured = settings.update == "coloured"
        self._settings = settings
        self._tau = settings.strength * _bound(prior) if settings.update == "proximal" else 0.0
        # A damped step is a part of a full one.
        self._noticeable = NOTICEABLE * (1 / (1 + self._tau) if self._tau else settings.damping)

    def update(self, at: UpdateInput, unary: Tensor, iteration: int) -> tuple[Tensor, UpdateResult]:
        """Update sites from their message.

        Parameters
        ----------
        at
            The sites, their message and their responsibilities.
        unary
            Their log-likelihoods, ``(K, n)``.
        iteration
            Which one it is, for the message of an error.

        Returns
        -------
        Tensor
            New responsibilities, ``(K, n)``.
        UpdateResult
            What became of the sites.

        Raises
        ------
        InputError
            If a responsibility is not finite.
        """
        settings = self._settings
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
        largest = float(change.max())
        if not math.isfinite(largest):
            raise InputError(
                f"Mean field left the finite numbers in iteration {iteration} at "
                f"strength {settings.strength:g}. Lower the strength; the last result stays."
            )
        unsettled = 0
        if largest > self._noticeable:
            unsettled = int((change > self._noticeable).sum())
        return new, UpdateResult(
            at.batch.sites,
            moves.cpu().numpy(),
            labels_of(new),
            largest,
            unsettled,
            self._energy_change(at, unary, new) if self.has_energy and self.is_coloured else 0.0,
        )

    def energy_before(self, at: UpdateInput, unary: Tensor) -> npt.NDArray[np.float64]:
        """Terms of the free energy of the sites before an update, ``(n,)``."""
        message = 0.5 * self._settings.strength * at.message
        terms = -torch.special.entr(at.old) - at.old * (unary + message)
        result: npt.NDArray[np.float64] = terms.sum(dim=0).cpu().double().numpy()
        return result

    def energy_at_start(self, unary: Tensor, message: Tensor) -> float:
        """Free energy of a slab where nothing is known, from arrays ``(K, Y, X)``."""
        n_classes, *plane = unary.shape
        mean = (unary + 0.5 * self._settings.strength * message).mean(dim=0)
        return -math.prod(plane) * math.log(n_classes) - precise_sum(mean)

    def _energy_change(self, at: UpdateInput, unary: Tensor, new: Tensor) -> float:
        """What the free energy changes by: no two sites of a colour are neighbours."""
        message = self._settings.strength * at.message
        before = -torch.special.entr(at.old) - at.old * (unary + message)
        after = -torch.special.entr(new) - new * (unary + message)
        return precise_sum(after - before)


def _bound(prior: MarkovPrior) -> float:
    """The proximal weight per unit of strength: where no energy gives a bound, 1."""
    return contraction_bound(prior.kernel()) if prior.has_energy else 1.0


def labels_of(scores: Tensor) -> LabelArray:
    """Class with the largest score of each site ``(K, n)``, the lower one of two.

    A small multiple of what the additions cost; torch's own argmax takes ten times as long.
    """
    n_classes = len(scores)
    backwards = torch.arange(n_classes, 0, -1, dtype=torch.uint8, device=scores.device)
    is_largest = (scores == scores.amax(dim=0)).view(torch.uint8)
    labels: LabelArray = (n_classes - (is_largest * backwards[:, None]).amax(dim=0)).cpu().numpy()
    return labels


def dilated(mask: Plane) -> Plane:
    """A mask grown by one site in every direction of the plane."""
    rows = mask.copy()
    rows[1:] |= mask[:-1]
    rows[:-1] |= mask[1:]
    result = rows.copy()
    result[:, 1:] |= rows[:, :-1]
    result[:, :-1] |= rows[:, 1:]
    return result
