"""Maps whose mean does not follow from blending means: finite sets, and latent decoders.

Members and features of overlapping tiles are blended, as all parameters are. The mean is then
computed anew where a tile was added, so that it is always that of what was blended so far.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import EllipsisType

import torch
from torch import Tensor

from napari_structseg.distributions import (
    Combination,
    FiniteSet,
    LatentDecoder,
    LatentNormal,
    LogitDistribution,
    Region,
)
from napari_structseg.distributions.combination import decode
from napari_structseg.distributions.finite import mean_of_members
from napari_structseg.models import LogitParameters
from napari_structseg.prediction.parameter_maps import CERTAIN
from napari_structseg.prediction.preprocess import resample

# Most of the memory, and rounded far below what training leaves open, as is a normal's factor.
_DTYPE = torch.float16

_Index = tuple[EllipsisType | slice, ...]


@dataclass(frozen=True, slots=True)
class MemberMaps:
    """The maps of a finite set.

    Attributes
    ----------
    members
        Log-probabilities, ``(M, C, *spatial)``, float16.
    mean
        Logarithm of their mean probability, ``(C, *spatial)``, float32.
    """

    members: Tensor
    mean: Tensor

    @classmethod
    def background(
        cls, n_members: int, n_classes: int, shape: Sequence[int], device: torch.device
    ) -> MemberMaps:
        """Maps that are background with certainty everywhere."""
        certain = _certain(n_classes, shape, device)
        members = torch.empty((n_members, *certain.shape), dtype=_DTYPE, device=device)
        members[:] = certain.log_softmax(dim=0)
        return cls(members, mean_of_members(members))

    @staticmethod
    def voxel_bytes(n_members: int, n_classes: int) -> int:
        """Bytes that the maps take for each voxel."""
        return n_classes * (n_members * _DTYPE.itemsize + torch.float32.itemsize)

    def clear(self, region: Region) -> None:
        """Set a region to 0, so that tiles can be added there."""
        index: _Index = (Ellipsis, *region)
        self.members[index] = 0
        self.mean[index] = 0

    def add(
        self,
        region: Region,
        parameters: LogitParameters,
        weight: Tensor,
        inside: Tensor | None = None,
    ) -> None:
        """Add a tile."""
        if parameters.members is None:
            raise ValueError("a finite set needs members")
        index: _Index = (Ellipsis, *region)
        values = parameters.members[0]
        if inside is not None:
            certain = _certain(len(self.mean), [1] * weight.ndim, weight.device)
            values = torch.where(inside, values, certain.log_softmax(dim=0))
        self.members[index] += (values * weight).to(_DTYPE)
        self.mean[index] = mean_of_members(self.members[index])

    def resampled(
        self, shape: Sequence[int], cancelled: Callable[[], bool] | None = None
    ) -> MemberMaps:
        """The same maps on another grid over the same field of view; see :func:`resample`."""
        flat = resample(self.members.flatten(0, 1), shape, cancelled=cancelled)
        members = flat.reshape(*self.members.shape[:2], *shape)
        return MemberMaps(members, mean_of_members(members))

    def distribution(self) -> LogitDistribution:
        """The distribution with these parameters; it sees what is added later."""
        return FiniteSet(self.members, self.mean)


@dataclass(frozen=True, slots=True)
class LatentMaps:
    """The maps of a latent decoder.

    Attributes
    ----------
    first
        The features' part of the first combining layer, ``(H, *spatial)``, float16.
    mean
        Logits at the prior's mean, ``(C, *spatial)``, float32.
    inside
        Where the network has been run and counts, ``(*spatial)``, boolean.
    combination, prior
        What decodes the features, and p(z | x): one for the whole image.
    """

    first: Tensor
    mean: Tensor
    inside: Tensor
    combination: Combination
    prior: LatentNormal

    @classmethod
    def background(
        cls, combination: Combination, prior: LatentNormal, shape: Sequence[int]
    ) -> LatentMaps:
        """Maps that are background with certainty everywhere."""
        device = combination.latent.device
        first = torch.zeros((len(combination.latent), *shape), dtype=_DTYPE, device=device)
        mean = _certain(len(combination.last), shape, device)
        inside = torch.zeros(tuple(shape), dtype=torch.bool, device=device)
        return cls(first, mean, inside, combination, prior)

    @staticmethod
    def voxel_bytes(n_features: int, n_classes: int) -> int:
        """Bytes that the maps take for each voxel."""
        full = torch.float32.itemsize
        return n_features * _DTYPE.itemsize + n_classes * full + torch.bool.itemsize

    def clear(self, region: Region) -> None:
        """Make a region ready for tiles; until they come it stays background."""
        self.first[(slice(None), *region)] = 0

    def add(
        self,
        region: Region,
        parameters: LogitParameters,
        weight: Tensor,
        inside: Tensor | None = None,
    ) -> None:
        """Add a tile."""
        if parameters.first is None:
            raise ValueError("a latent decoder needs the first layer's part of the features")
        index = (slice(None), *region)
        self.first[index] += (parameters.first[0] * weight).to(_DTYPE)
        self.inside[region] = True if inside is None else inside
        mean = decode(self.combination, self.first[index], [self.prior.mean])[0]
        certain = _certain(len(mean), [1] * weight.ndim, weight.device)
        self.mean[index] = torch.where(self.inside[region], mean, certain)

    def resampled(
        self, shape: Sequence[int], cancelled: Callable[[], bool] | None = None
    ) -> LatentMaps:
        """The same maps on another grid over the same field of view; see :func:`resample`."""
        first = resample(self.first, shape, cancelled=cancelled)
        inside = resample(self.inside[None].to(torch.uint8), shape, nearest=True)[0].bool()
        mean = decode(self.combination, first, [self.prior.mean])[0]
        certain = _certain(len(mean), [1] * mean[0].ndim, mean.device)
        mean = torch.where(inside, mean, certain)
        return LatentMaps(first, mean, inside, self.combination, self.prior)

    def distribution(self) -> LogitDistribution:
        """The distribution with these parameters; it sees what is added later."""
        return LatentDecoder(
            self.first, self.combination, self.prior, mean=self.mean, inside=self.inside
        )


def _certain(n_classes: int, shape: Sequence[int], device: torch.device) -> Tensor:
    """Logits ``(C, *shape)`` of background with certainty."""
    certain = torch.zeros((n_classes, *shape), device=device)
    certain[0] = CERTAIN
    return certain
