"""Encoders from an image to a normal distribution over a latent vector."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from napari_structseg.models.backbone_spec import BackboneSpec
from napari_structseg.models.unet import POOL, convolutions

# exp of these is a standard deviation that means something in float32, and whose square does.
_LOG_SIGMA = (-7.0, 7.0)


class LatentEncoder(nn.Module):
    """The way down of a U-Net, averaged over space: a normal with independent coordinates.

    The prior net p(z | x) and the posterior net q(z | x, y) of Kohl et al., NeurIPS 2018. Where
    the U-Net has instance normalisation, the encoder has none: the average over space of a
    normalised channel says next to nothing.

    Parameters
    ----------
    dimensions
        2 or 3.
    n_channels
        Input channels.
    n_latents
        Dimensions L of the latent space.
    spec
        Of the U-Net whose widths and convolutions it has.
    """

    def __init__(
        self, dimensions: int, n_channels: int, n_latents: int, spec: BackboneSpec
    ) -> None:
        super().__init__()
        self.dimensions = dimensions
        norm = spec.norm_for_averages
        inputs = (n_channels, *spec.widths[:-1])
        self.levels = nn.ModuleList(
            convolutions(n, n_in, width, norm, dimensions, of_image=level == 0)
            for level, (n, n_in, width) in enumerate(
                zip(spec.convolutions, inputs, spec.widths, strict=True)
            )
        )
        self.stride = 2 ** (len(spec.widths) - 1)
        # Each convolution sees one voxel of its level further.
        self.reach = sum(n * 2**level for level, n in enumerate(spec.convolutions))
        self.n_features = spec.widths[0]
        self.statistics = nn.Linear(spec.widths[-1], 2 * n_latents)
        nn.init.zeros_(self.statistics.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Mean and log sigma, not clamped: ``(B, 2L)``, float32 or better, also under autocast.

        Every voxel counts as much as every other: a position of the coarsest level by the voxels
        that it covers, which at the far end can be fewer.

        Parameters
        ----------
        x
            ``(B, n_channels, *spatial)``.
        """
        coarse = self.features(x)
        if all(size % self.stride == 0 for size in x.shape[2:]):
            features = coarse.flatten(2).mean(dim=2)
        else:
            weights = self.coverage(x.shape[2:]).to(x.device)
            features = (coarse * (weights / weights.sum())).flatten(2).sum(dim=2)
        with torch.autocast(x.device.type, enabled=False):
            statistics: Tensor = self.statistics(features.to(self.statistics.weight.dtype))
        return statistics

    def coverage(self, shape: Sequence[int]) -> Tensor:
        """Voxels of an image of this shape that each position of the coarsest level covers."""
        weights = torch.ones(())
        for size in shape:
            starts = torch.arange(0, size, self.stride)
            weights = weights[..., None] * (size - starts).clamp(max=self.stride)
        return weights

    def features(self, x: Tensor) -> Tensor:
        """Features of the coarsest level, ``(B, F, *coarsest)``."""
        for index, level in enumerate(self.levels):
            # A level that is a single voxel wide along an axis cannot be halved along it; one of
            # an odd number of voxels ends with the average of what is left.
            if index:
                pooled = [2 if size > 1 else 1 for size in x.shape[2:]]
                x = POOL[self.dimensions](x, pooled, ceil_mode=True, count_include_pad=False)
            x = level(x)
        return x


def mean_and_sigma(statistics: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation, each ``(..., L)``, from what an encoder gives.

    Parameters
    ----------
    statistics
        ``(..., 2L)``.
    """
    mean, log_sigma = statistics.chunk(2, dim=-1)
    return mean, log_sigma.clamp(*_LOG_SIGMA).exp()
