"""Nudging an MRF: pairs of classes that should touch more, or less."""

from __future__ import annotations

from collections.abc import Sequence

from napari_structseg.priors.base import MarkovPrior

Pair = tuple[int, int, float]


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
    return prior.plus(added)
