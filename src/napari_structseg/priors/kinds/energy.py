"""The MRF with an energy: symmetric linear couplings, and mean field that never climbs.

:mod:`napari_structseg.priors.energy` has the free energy, and the bound that steps must respect.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from napari_structseg.priors.base import SIDE, MarkovPrior
from napari_structseg.priors.spec import PriorSpec

_INITIAL_ATTRACTION = 0.1


class EnergyPrior(MarkovPrior):
    """Linear couplings with w_{kl,d} = w_{lk,-d} and a zero centre.

    Parameters
    ----------
    dimensions
        2 or 3.
    n_classes
        Number of classes K.
    """

    has_energy = True

    def __init__(self, dimensions: int, n_classes: int) -> None:
        super().__init__(dimensions, n_classes)
        start = torch.zeros((n_classes, n_classes, *[SIDE] * dimensions))
        # Like attracts like.
        start[range(n_classes), range(n_classes)] = _INITIAL_ATTRACTION
        self.couplings = nn.Parameter(start * self.around)
        self.register_buffer("_no_bias", torch.zeros(n_classes), persistent=False)
        self._no_bias: Tensor

    def kernel(self) -> Tensor:
        """W, symmetric whatever the parameters are, ``(K, K, 3, 3[, 3])``."""
        return symmetric(self.couplings) * self.around

    def first_bias(self) -> Tensor:
        """Zero: it would not couple anything."""
        return self._no_bias

    def mix(self, first: Tensor) -> Tensor:
        """The first stage is the message."""
        return first

    def flip_(self, axes: Sequence[int]) -> None:
        """See :class:`MarkovPrior`."""
        with torch.no_grad():
            self.couplings.copy_(self.couplings.flip([2 + axis for axis in axes]))

    def plus(self, couplings: Tensor) -> MarkovPrior:
        """See :class:`MarkovPrior`: an energy stays one."""
        trained = self.kernel()
        changed = EnergyPrior(self.dimensions, self.n_classes).to(trained)
        with torch.no_grad():
            changed.couplings.copy_(trained + couplings)
        return changed


def symmetric(couplings: Tensor) -> Tensor:
    """The part of couplings ``(K, K, 3, 3[, 3])`` with w_{kl,d} = w_{lk,-d}."""
    offsets = list(range(2, couplings.ndim))
    return (couplings + couplings.transpose(0, 1).flip(offsets)) / 2


class EnergySpec(PriorSpec):
    """Symmetric couplings have no choices."""

    kind: Literal["energy"] = Field(
        "energy",
        description="Symmetric linear couplings, whose free energy mean field lowers.",
    )

    @property
    def title(self) -> str:
        """The kind in words."""
        return "symmetric, with an energy"

    def build(self, dimensions: int, n_classes: int) -> MarkovPrior:
        """The couplings at their start: like attracts like."""
        return EnergyPrior(dimensions, n_classes)
