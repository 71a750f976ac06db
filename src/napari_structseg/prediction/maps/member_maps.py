"""The maps of a finite set, whose mean is that of what is stored, in half precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import EllipsisType

import torch
from torch import Tensor

from napari_structseg.distributions import FiniteSet, LogitDistribution, Region
from napari_structseg.distributions.finite import mean_of_members
from napari_structseg.models import LogitParameters, ModelSpec, SegmentationNetwork
from napari_structseg.prediction.maps.parameter_maps import certain_logits
from napari_structseg.prediction.preprocess import resample

# Most of the memory, and rounded far below what training leaves open, as is a normal's factor.
_DTYPE = torch.float16

_LEAST = torch.finfo(_DTYPE).min / 2

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
        cls,
        network: SegmentationNetwork,
        spec: ModelSpec,
        shape: Sequence[int],
        statistics: Tensor,
    ) -> MemberMaps:
        """Maps that are background with certainty everywhere."""
        device = network.device
        certain = certain_logits(spec.n_classes, shape, device)
        size = (spec.head.n_members, *certain.shape)
        members = torch.empty(size, dtype=_DTYPE, device=device)
        members[:] = certain.log_softmax(dim=0)
        return cls(members, mean_of_members(members))

    @staticmethod
    def voxel_bytes(spec: ModelSpec) -> int:
        """Bytes that the maps take for each voxel."""
        members = spec.head.n_members * _DTYPE.itemsize
        return spec.n_classes * (members + torch.float32.itemsize)

    def write(
        self, region: Region, parameters: LogitParameters, inside: Tensor | None = None
    ) -> None:
        """Write a piece."""
        if parameters.members is None:
            raise ValueError("a finite set needs members")
        index: _Index = (Ellipsis, *region)
        values = parameters.members[0]
        if inside is not None:
            certain = certain_logits(len(self.mean), [1] * len(region), self.mean.device)
            values = torch.where(inside, values, certain.log_softmax(dim=0))
        # What is less probable than half precision can say counts as the least probable.
        self.members[index] = values.clamp(min=_LEAST).to(_DTYPE)
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
        return FiniteSet(self.members, self.mean, checked=True)
