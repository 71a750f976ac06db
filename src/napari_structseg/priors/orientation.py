"""An MRF on arrays whose axes run the other way."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch

from napari_structseg.priors.base import MarkovPrior
from napari_structseg.priors.energy import EnergyPrior
from napari_structseg.priors.network import NetworkPrior


def mirrored(prior: MarkovPrior, axes: Sequence[int]) -> MarkovPrior:
    """The MRF that says on a mirrored image what this one says on the image.

    Parameters
    ----------
    prior
        A trained MRF; what comes back is a copy.
    axes
        Spatial axes that are mirrored, counted from 0; may be none.

    Raises
    ------
    TypeError
        For an MRF that wraps another one.
    """
    result = copy.deepcopy(prior)
    flipped = [2 + axis for axis in axes]
    with torch.no_grad():
        if isinstance(result, NetworkPrior):
            result.neighbours.weight.copy_(result.neighbours.weight.flip(flipped))
        elif isinstance(result, EnergyPrior):
            result.couplings.copy_(result.couplings.flip(flipped))
        else:
            raise TypeError(f"{type(prior).__name__} cannot be mirrored: mirror what it wraps")
    return result
