"""What a network says about a batch of images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from napari_structseg.distributions.checks import all_finite

_STORED = {
    "mean": "mean",
    "factor": "covariance factor",
    "diagonal": "covariance diagonal",
    "members": "log-probability",
    "first": "layer of features",
}
_HALF = ("factor", "first")


@dataclass(frozen=True, slots=True)
class LogitParameters:
    """Parameters of a distribution over logits: which are there depends on its kind.

    Attributes
    ----------
    mean
        Mean logits, ``(B, C, *spatial)``; of members, the logarithm of their mean probability.
    factor
        Covariance factor P, rank-major, ``(B, R, C, *spatial)``; None without one.
    diagonal
        Diagonal D of the covariance (a variance, not its logarithm),
        ``(B, C, *spatial)``; None for a point.
    members
        Log-probabilities of a finite set, ``(B, M, C, *spatial)``.
    first
        The features' part of the first layer that combines features and latents,
        ``(B, H, *spatial)``.
    """

    mean: Tensor
    factor: Tensor | None = None
    diagonal: Tensor | None = None
    members: Tensor | None = None
    first: Tensor | None = None

    @classmethod
    def of_members(cls, logits: Sequence[Tensor]) -> LogitParameters:
        """The parameters of a finite set with these logits, each ``(B, C, *spatial)``."""
        members = torch.stack([one.float().log_softmax(dim=1) for one in logits], dim=1)
        mean = torch.logsumexp(members, dim=1) - math.log(len(logits))
        return cls(mean, members=members)

    def flip(self, axes: list[int]) -> LogitParameters:
        """Mirrored along spatial axes, given as negative dimensions."""
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        given = {name: part.flip(axes) for name, part in parts.items() if part is not None}
        return LogitParameters(**given)

    def first_not_finite(self) -> str | None:
        """The first parameter that is NaN, infinite, or too large to be stored; None: all are well.

        Factors and features are stored in half precision.
        """
        for name, what in _STORED.items():
            part = getattr(self, name)
            if part is None:
                continue
            if not all_finite(part) or (name in _HALF and not _fits_half(part)):
                return what
        return None

    def mean_only(self) -> LogitParameters:
        """The same mean with no spread."""
        return LogitParameters(self.mean)


def _fits_half(values: Tensor) -> bool:
    if not values.numel():
        return True
    least, most = values.aminmax()
    return max(-least.item(), most.item()) <= torch.finfo(torch.float16).max
