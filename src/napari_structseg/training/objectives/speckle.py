"""How many voxels stand alone: what a prior that smooths is trained to avoid."""

from __future__ import annotations

import torch
from torch import Tensor


def expected_speckle(responsibilities: Tensor, counted: Tensor | None = None) -> Tensor:
    r"""Expected number of voxels none of whose face neighbours has their class.

    .. math:: \sum_i \sum_k R_{ik} \prod_{j \in N(i)} (1 - R_{jk})

    for labels that are drawn independently from R; where R is certain it is the number of
    components of a single voxel. What lies beyond the edge has no class.

    Parameters
    ----------
    responsibilities
        ``(B, K, *spatial)``, each voxel's adding up to one.
    counted
        Voxels that count, ``(B, *spatial)``, boolean; None: all.

    Returns
    -------
    Tensor
        Scalar, the mean over the batch.
    """
    other = 1 - responsibilities
    alone = responsibilities
    for axis in range(2, responsibilities.ndim):
        edge = torch.ones_like(other.narrow(axis, 0, 1))
        size = other.shape[axis]
        alone = alone * torch.cat([edge, other.narrow(axis, 0, size - 1)], dim=axis)
        alone = alone * torch.cat([other.narrow(axis, 1, size - 1), edge], dim=axis)
    if counted is not None:
        alone = alone.masked_fill(~counted[:, None], 0)
    return alone.sum() / len(responsibilities)
