"""What goes into an update of sites, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_structseg.refine.label_history import LabelArray
from napari_structseg.refine.neighbourhood import Batch, Plane, Sites


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
