"""How far two versions of a model are from each other."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from napari_structseg.finetuning.versions import Version
from napari_structseg.io.weights import load_weights


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two versions side by side.

    Attributes
    ----------
    first, second
        Which.
    n_changed, n_tensors
        Tensors that differ, of how many that both have.
    distance, norm
        Euclidean distance of the weights of both, and the norm of those of the first.
    """

    first: Version
    second: Version
    n_changed: int
    n_tensors: int
    distance: float
    norm: float


def compare(first: Version, second: Version) -> Comparison:
    """How far two versions are from each other.

    Raises
    ------
    WeightsError
        If a file is not what was adopted.
    """
    (ours, _), (theirs, _) = (load_weights(one.checked_weights()) for one in (first, second))
    one, other = ours.state_dict(), theirs.state_dict()
    common = [k for k in one if k in other and one[k].shape == other[k].shape]
    floats = [k for k in common if one[k].is_floating_point()]
    return Comparison(
        first,
        second,
        n_changed=sum(not torch.equal(one[k], other[k]) for k in common),
        n_tensors=len(common),
        distance=sum(float((one[k] - other[k]).double().square().sum()) for k in floats) ** 0.5,
        norm=sum(float(one[k].double().square().sum()) for k in floats) ** 0.5,
    )
