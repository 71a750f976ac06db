"""Nudging an MRF: pairs of classes that should touch more, or less."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from napari_structseg.priors.base import MarkovPrior
from napari_structseg.priors.energy import EnergyPrior

Pair = tuple[int, int, float]


class NudgedPrior(MarkovPrior):
    """An MRF whose message has one more, linear, part.

    Parameters
    ----------
    prior
        The MRF as it was trained; it is not changed.
    couplings
        What is added, ``(K, K, 3, 3[, 3])``.
    """

    def __init__(self, prior: MarkovPrior, couplings: Tensor) -> None:
        super().__init__(prior.dimensions, prior.n_classes)
        self.kind = prior.kind
        self.prior = prior
        self.register_buffer("couplings", couplings, persistent=False)
        self.couplings: Tensor

    def kernel(self) -> Tensor:
        """See :class:`MarkovPrior`: the channels of the added part come last."""
        return torch.cat([self.prior.kernel(), self.couplings])

    def first_bias(self) -> Tensor:
        """See :class:`MarkovPrior`."""
        bias = self.prior.first_bias()
        return torch.cat([bias, bias.new_zeros(self.n_classes)])

    def mix(self, first: Tensor) -> Tensor:
        """See :class:`MarkovPrior`."""
        n_own = len(first) - self.n_classes
        return self.prior.mix(first[:n_own]) + first[n_own:]


def nudged(prior: MarkovPrior, pairs: Sequence[Pair]) -> MarkovPrior:
    """An MRF in which pairs of classes attract more, or less.

    The message to each class of a pair gains the amount times the mean responsibility of the
    other among the neighbours. An energy stays one.

    Parameters
    ----------
    prior
        As it was trained; it is not changed.
    pairs
        Labels of two classes, and the amount.

    Raises
    ------
    ValueError
        If a label is none of the MRF's.
    """
    wrong = [pair for pair in pairs if not all(0 <= k < prior.n_classes for k in pair[:2])]
    if wrong:
        raise ValueError(f"{wrong[0][:2]} are no labels of an MRF for {prior.n_classes} classes")
    if not any(amount for _, _, amount in pairs):
        return prior
    trained = prior.kernel()
    added = trained.new_zeros((prior.n_classes, prior.n_classes, *trained.shape[2:]))
    for first, second, amount in pairs:
        added[first, second] += amount / prior.n_neighbours
        if first != second:
            added[second, first] += amount / prior.n_neighbours
    added = added * prior.around
    if isinstance(prior, EnergyPrior):
        changed = EnergyPrior(prior.dimensions, prior.n_classes).to(trained)
        with torch.no_grad():
            changed.couplings.copy_(trained + added)
        return changed
    return NudgedPrior(prior, added).to(trained)
