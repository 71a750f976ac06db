"""What is said of some voxels, by the user or by leaving them as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def softmax(logits: Tensor) -> Tensor:
    """Over classes, ``(n, C)``: of the same logits the same numbers, whatever lies beside them."""
    return logits.T.softmax(dim=0).T


@dataclass(frozen=True, slots=True)
class Said:
    """Evidence about the classes of some voxels.

    The logarithm of the likelihood is the sum of weight * target * log softmax(sharpness * logits).

    Attributes
    ----------
    targets
        Probability of each class: 1 for the class of a stroke, ``(n, C)``, float64.
    weight
        How many independent voxels each one counts as, ``(n,)``, float64.
    """

    targets: Tensor
    weight: Tensor

    @classmethod
    def strokes(cls, labels: npt.NDArray[np.uint8], n_classes: int, weight: float) -> Said:
        """That voxels have these labels, ``(n,)``."""
        index = torch.from_numpy(labels.astype(np.int64))
        targets = torch.nn.functional.one_hot(index, n_classes).double()
        return cls(targets, torch.full(index.shape, weight, dtype=torch.float64))

    @classmethod
    def as_before(cls, logits: Tensor, weight: float, sharpness: float) -> Said:
        """That voxels are what the model says, with logits ``(n, C)``: no more certain, no less."""
        targets = softmax(sharpness * logits.double())
        return cls(targets, torch.full(targets.shape[:1], weight, dtype=torch.float64))

    @classmethod
    def joined(cls, parts: Sequence[Said]) -> Said:
        """All that is said, one part after the other."""
        targets = torch.cat([part.targets.T for part in parts], dim=1).T
        return cls(targets, torch.cat([part.weight for part in parts]))

    def picked(self, order: npt.NDArray[np.int64]) -> Said:
        """Of some voxels, or of all in another order."""
        index = torch.from_numpy(order)
        return Said(self.targets.T[:, index].T, self.weight[index])

    @property
    def labels(self) -> npt.NDArray[np.uint8]:
        """The most probable class of each voxel, ``(n,)``."""
        labels: npt.NDArray[np.uint8] = self.targets.argmax(dim=1).numpy().astype(np.uint8)
        return labels
