"""The parameters of a distribution, as maps over a whole image that pieces are written to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import EllipsisType
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from napari_structseg.distributions import LogitDistribution, LowRankNormal, PointLogits, Region
from napari_structseg.models import LogitParameters, ModelSpec, SegmentationNetwork
from napari_structseg.prediction.preprocess import resample

# Logit of background where no network is run.
CERTAIN = 20.0
# The factor is R times as large as the mean, and what half precision rounds (a 2,000th of each
# value) is far below what training leaves open. Mean and diagonal keep full precision.
_FACTOR_DTYPE = torch.float16

_Index = tuple[EllipsisType | slice, ...]


class ParameterMaps(Protocol):
    """Parameters of every voxel of an image, for one family of distributions."""

    @classmethod
    def background(
        cls,
        network: SegmentationNetwork,
        spec: ModelSpec,
        shape: Sequence[int],
        statistics: Tensor,
    ) -> ParameterMaps:
        """Maps that are background with certainty everywhere.

        Parameters
        ----------
        network, spec
            The model.
        shape
            Of the grid.
        statistics
            What the network says about the latents of the whole image, ``(2L,)``.
        """
        ...

    @staticmethod
    def voxel_bytes(spec: ModelSpec) -> int:
        """Bytes that the maps take for each voxel."""
        ...

    def write(
        self, region: Region, parameters: LogitParameters, inside: Tensor | None = None
    ) -> None:
        """Write a piece.

        Parameters
        ----------
        region
            Where it lies.
        parameters
            What the network says about it, a batch of one.
        inside
            Where it counts, ``(*region)``; elsewhere background is certain. None: everywhere.
        """
        ...

    def resampled(
        self, shape: Sequence[int], cancelled: Callable[[], bool] | None = None
    ) -> ParameterMaps:
        """The same maps on another grid over the same field of view; see :func:`resample`."""
        ...

    def distribution(self) -> LogitDistribution:
        """The distribution with these parameters; it sees what is added later."""
        ...


@dataclass(frozen=True, slots=True)
class NormalMaps:
    """The maps of a point or a low-rank normal.

    Attributes
    ----------
    mean
        ``(C, *spatial)``, float32.
    diagonal
        Variances, ``(C, *spatial)``, float32; None for a point.
    factor
        Rank-major, ``(R, C, *spatial)``, float16; None for a point.
    epsilon
        The diagonal where background is certain.
    """

    mean: Tensor
    diagonal: Tensor | None = None
    factor: Tensor | None = None
    epsilon: float = 0.0

    @classmethod
    def background(
        cls,
        network: SegmentationNetwork,
        spec: ModelSpec,
        shape: Sequence[int],
        statistics: Tensor,
    ) -> NormalMaps:
        """Maps that are background with certainty everywhere."""
        head, device = spec.head, network.device
        mean = certain_logits(spec.n_classes, shape, device)
        if not head.is_stochastic:
            return cls(mean)
        diagonal = torch.full_like(mean, head.least_variance)
        size = (head.factor_rank, *mean.shape)
        factor = zeros(size, _FACTOR_DTYPE, device)
        return cls(mean, diagonal, factor, head.least_variance)

    @staticmethod
    def voxel_bytes(spec: ModelSpec) -> int:
        """Bytes that the maps take for each voxel."""
        head, full = spec.head, torch.float32.itemsize
        variances = full + head.factor_rank * _FACTOR_DTYPE.itemsize
        return spec.n_classes * (full + head.is_stochastic * variances)

    def write(
        self, region: Region, parameters: LogitParameters, inside: Tensor | None = None
    ) -> None:
        """Write a piece."""
        index: _Index = (Ellipsis, *region)
        certain = certain_logits(len(self.mean), [1] * len(region), self.mean.device)
        diagonal, factor = certain.new_tensor(self.epsilon), certain.new_tensor(0.0)
        for maps, part, outside in (
            (self.mean, parameters.mean, certain),
            (self.diagonal, parameters.diagonal, diagonal),
            (self.factor, parameters.factor, factor),
        ):
            if maps is not None and part is not None:
                values = part[0] if inside is None else torch.where(inside, part[0], outside)
                maps[index] = values.to(maps.dtype)

    def resampled(
        self, shape: Sequence[int], cancelled: Callable[[], bool] | None = None
    ) -> NormalMaps:
        """The same maps on another grid over the same field of view; see :func:`resample`."""
        if self.diagonal is None or self.factor is None:
            return NormalMaps(resample(self.mean, shape, cancelled=cancelled))
        factor = resample(self.factor.flatten(0, 1), shape, cancelled=cancelled)
        return NormalMaps(
            resample(self.mean, shape, cancelled=cancelled),
            resample(self.diagonal, shape, cancelled=cancelled),
            factor.reshape(*self.factor.shape[:2], *shape),
            self.epsilon,
        )

    def distribution(self) -> LogitDistribution:
        """The distribution with these parameters; it sees what is added later."""
        if self.diagonal is None or self.factor is None:
            return PointLogits(self.mean, checked=True)
        return LowRankNormal(self.mean, self.factor, self.diagonal, checked=True)


def certain_logits(n_classes: int, shape: Sequence[int], device: torch.device) -> Tensor:
    """Logits ``(C, *shape)`` of background with certainty."""
    certain = zeros((n_classes, *shape), torch.float32, device)
    certain[0] = CERTAIN
    return certain


def zeros(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros that take memory only where something is written, on a processor."""
    if device.type != "cpu":
        return torch.zeros(tuple(shape), dtype=dtype, device=device)
    # The system hands out pages of zeros as they are touched; torch would touch them all.
    name = {torch.float32: np.float32, torch.float16: np.float16}[dtype]
    return torch.from_numpy(np.zeros(tuple(shape), name))
