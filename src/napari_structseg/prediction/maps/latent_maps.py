"""The maps of a latent decoder, whose mean is decoded from what is stored, half precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_structseg.distributions import (
    Combination,
    LatentDecoder,
    LatentNormal,
    LogitDistribution,
    Region,
)
from napari_structseg.distributions.combination import decode
from napari_structseg.models import (
    LogitParameters,
    ModelSpec,
    SegmentationNetwork,
    latent_normal,
)
from napari_structseg.models.heads import LatentHead
from napari_structseg.prediction.maps.parameter_maps import certain_logits, zeros
from napari_structseg.prediction.preprocess import resample

# Most of the memory, and rounded far below what training leaves open, as is a normal's factor.
_DTYPE = torch.float16


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
        cls,
        network: SegmentationNetwork,
        spec: ModelSpec,
        shape: Sequence[int],
        statistics: Tensor,
    ) -> LatentMaps:
        """Maps that are background with certainty everywhere."""
        if not isinstance(network.head, LatentHead):
            raise TypeError(f"{spec.head.kind} has no head that decodes latents")
        combination, prior = network.head.combination(), latent_normal(statistics)
        device = combination.latent.device
        first = zeros((len(combination.latent), *shape), _DTYPE, device)
        mean = certain_logits(len(combination.last), shape, device)
        inside = torch.zeros(tuple(shape), dtype=torch.bool, device=device)
        return cls(first, mean, inside, combination, prior)

    @staticmethod
    def voxel_bytes(spec: ModelSpec) -> int:
        """Bytes that the maps take for each voxel."""
        features = spec.backbone.widths[0] * _DTYPE.itemsize
        return features + spec.n_classes * torch.float32.itemsize + torch.bool.itemsize

    def write(
        self, region: Region, parameters: LogitParameters, inside: Tensor | None = None
    ) -> None:
        """Write a piece."""
        if parameters.first is None:
            raise ValueError("a latent decoder needs the first layer's part of the features")
        index = (slice(None), *region)
        self.first[index] = parameters.first[0].to(_DTYPE)
        self.inside[region] = True if inside is None else inside
        mean = decode(self.combination, self.first[index], [self.prior.mean])[0]
        certain = certain_logits(len(mean), [1] * len(region), self.mean.device)
        self.mean[index] = torch.where(self.inside[region], mean, certain)

    def resampled(
        self, shape: Sequence[int], cancelled: Callable[[], bool] | None = None
    ) -> LatentMaps:
        """The same maps on another grid over the same field of view; see :func:`resample`."""
        first = resample(self.first, shape, cancelled=cancelled)
        inside = resample(self.inside[None].to(torch.uint8), shape, nearest=True)[0].bool()
        mean = decode(self.combination, first, [self.prior.mean])[0]
        certain = certain_logits(len(mean), [1] * mean[0].ndim, mean.device)
        mean = torch.where(inside, mean, certain)
        return LatentMaps(first, mean, inside, self.combination, self.prior)

    def distribution(self) -> LogitDistribution:
        """The distribution with these parameters; it sees what is added later."""
        return LatentDecoder(
            self.first,
            self.combination,
            self.prior,
            mean=self.mean,
            inside=self.inside,
            checked=True,
        )
