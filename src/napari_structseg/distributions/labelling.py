"""From a mean and an offset to logits and labels, class by class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from napari_structseg.distributions.one_thread import chunks


def combine(mean: Tensor, offset: Tensor | None, weights: Sequence[float]) -> Tensor:
    """Logits ``mu_c + w_c g_c``.

    Parameters
    ----------
    mean
        ``(C, *region)``.
    offset
        ``(C, *region)``; None for the mean itself.
    weights
        Temperature times class scale, one per class.

    Returns
    -------
    Tensor
        ``(C, *region)``.
    """
    if offset is None:
        return mean
    logits = torch.empty(mean.shape, device=mean.device)
    rows = zip(mean.flatten(1), offset.flatten(1), logits.flatten(1), weights, strict=True)
    for mu, g, logit, weight in rows:
        for part in chunks(len(logit), mean.device):
            torch.add(mu[part], g[part], alpha=weight, out=logit[part])
    return logits


def argmax_labels(mean: Tensor, offset: Tensor | None, weights: Sequence[float]) -> Tensor:
    """Label with the largest logit, without an array of all logits.

    Ties go to the lower label. Same arguments as :func:`combine`.

    Returns
    -------
    Tensor
        ``(*region)``, uint8.
    """
    means = mean.flatten(1)
    offsets = None if offset is None else offset.flatten(1)
    labels = torch.empty(means.shape[1], dtype=torch.uint8, device=mean.device)
    for part in chunks(len(labels), mean.device):
        winner = labels[part].zero_()
        best = means[0, part]
        if offsets is not None:
            best = torch.add(best, offsets[0, part], alpha=weights[0])
        for label in range(1, len(means)):
            logit = means[label, part]
            if offsets is not None:
                logit = torch.add(logit, offsets[label, part], alpha=weights[label])
            # Labels ascend: the largest that was ahead wins. Masked filling
            # takes three times as long.
            ahead = (logit > best).view(torch.uint8)
            torch.maximum(winner, ahead.mul_(label), out=winner)
            best = torch.maximum(best, logit)
    return labels.reshape(mean.shape[1:])
