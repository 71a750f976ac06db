"""A U-Net with latents at its coarsest scales: the Hierarchical Probabilistic U-Net."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from napari_structseg.distributions import Noise
from napari_structseg.models.backbone_spec import BackboneSpec, Frame
from napari_structseg.models.encoder import mean_and_sigma
from napari_structseg.models.fresh_weights import kaiming_normal_
from napari_structseg.models.heads import PointHead
from napari_structseg.models.latent import Reconstruction, centred, drawn
from napari_structseg.models.network import SegmentationNetwork
from napari_structseg.models.parameters import LogitParameters
from napari_structseg.models.passes import Pass
from napari_structseg.models.unet import UNet, cropped
from napari_structseg.priors import MarkovPrior

_CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}

_Normal = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class Ascent:
    """What the way up of a :class:`LatentUNet` gives.

    Attributes
    ----------
    features
        At the finest level that was reached, ``(B, F, *level)``.
    latents
        Those chosen at each scale, from the coarsest, ``(B, positions)``.
    normals
        Mean and standard deviation of each scale, ``(B, positions)`` both.
    """

    features: Tensor
    latents: list[Tensor]
    normals: list[_Normal]


class LatentUNet(UNet):
    """A U-Net with one latent for each position of its coarsest scales.

    On the way up, a 1x1 convolution of the features gives mean and log sigma at each position;
    the chosen latent is concatenated to the features, and what follows depends on it: the normal
    of a finer scale is conditioned on the latents of the coarser ones. Each level adds to the
    features of the coarser one: without this path, as it is in the paper's residual blocks,
    small networks often learned to do without their latents.

    Where the U-Net would have instance normalisation, it has none: from each channel that would
    take away its average over space, which is what a latent of a coarse scale changes.

    Parameters
    ----------
    dimensions
        2 or 3.
    n_channels
        Input channels.
    spec
        Widths and convolutions.
    n_scales
        Scales with latents, from the coarsest: fewer than levels.
    n_steps
        Levels to go up, at most all others but the coarsest.
    """

    adds_coarser: ClassVar[bool] = True

    def __init__(
        self,
        dimensions: int,
        n_channels: int,
        spec: BackboneSpec,
        n_scales: int,
        n_steps: int,
    ) -> None:
        own = spec.model_copy(update={"norm": spec.norm_for_averages})
        super().__init__(dimensions, n_channels, own)
        convolution = _CONVOLUTION[dimensions]
        widths = spec.widths[::-1]
        self.statistics = nn.ModuleList(convolution(width, 2, 1) for width in widths[:n_scales])
        del self.reduce[n_steps:], self.up[n_steps:]
        for index, (coarse, width) in enumerate(pairwise(widths[: len(self.up) + 1])):
            layer = convolution(coarse + (index < n_scales), width, 1)
            # Torch's own initial weights divide the variance by three at each level, and the
            # latents would say little to the labels.
            kaiming_normal_(layer.weight, nonlinearity="linear")
            self.reduce[index] = layer

    def climb(
        self,
        levels: Sequence[Tensor],
        choose: Callable[[int, _Normal], Tensor],
        n_steps: int | None = None,
    ) -> Ascent:
        """Go up from the features of the way down.

        Parameters
        ----------
        levels
            What :meth:`descend` gives; as many of the coarsest as the steps need.
        choose
            Latents ``(B, positions)`` of a scale, given its index and its normal.
        n_steps
            Levels to go up, and latents of the last one are chosen if it has any; None: all.
        """
        features = levels[-1]
        latents: list[Tensor] = []
        normals: list[_Normal] = []
        steps = len(self.up) if n_steps is None else n_steps
        for index in range(max(min(len(self.statistics), steps + 1), steps)):
            if index < len(self.statistics):
                normals.append(self._normal(index, features))
                latents.append(choose(index, normals[-1]))
                z = latents[-1].reshape(len(features), 1, *features.shape[2:])
                features = torch.cat([features, z.to(features.dtype)], dim=1)
            if index < steps:
                features = self.ascend(index, features, levels[-2 - index])
        return Ascent(features, latents, normals)

    def _normal(self, index: int, features: Tensor) -> _Normal:
        """Mean and sigma, ``(B, positions)``, float32 or better, also under autocast."""
        with torch.autocast(features.device.type, enabled=False):
            statistics: Tensor = self.statistics[index](features.to(next(self.parameters()).dtype))
        # All means come before all log sigmas: there is one latent channel.
        return mean_and_sigma(statistics.flatten(1))


class HierarchicalNetwork(SegmentationNetwork):
    """The Hierarchical Probabilistic U-Net.

    The backbone is the prior p(z_i | z_<i, x) and the decoder at once. The posterior net
    q(z_i | z_<i, x, y) is a U-Net of the same kind on image and segmentation, which ends at the
    last scale with latents; it is for training alone, but stays in the weights file. Blocks are
    the convolutions of :class:`UNet`, residual only from level to level on the way up; the paper
    has three bottleneck blocks a level, residual all of them.

    The way up runs for every sample, so predictions are a finite set. Its noise is the same for
    every image, by position.

    Kohl et al., *A Hierarchical Probabilistic U-Net for Modeling Multi-Scale Ambiguities*, 2019.

    Parameters
    ----------
    frame
        Dimensions, channels, classes and backbone.
    n_scales
        Scales with latents, from the coarsest.
    n_members
        Members of the finite set.
    prior
        A Markov random field over the labels, or None.
    """

    backbone: LatentUNet
    head: PointHead

    def __init__(
        self, frame: Frame, n_scales: int, n_members: int, prior: MarkovPrior | None = None
    ) -> None:
        dimensions, n_channels, spec = frame.dimensions, frame.n_channels, frame.backbone
        backbone = LatentUNet(dimensions, n_channels, spec, n_scales, len(spec.widths) - 1)
        head = PointHead(dimensions, backbone.n_features, frame.n_classes)
        super().__init__(backbone, head, prior)
        self.n_members = n_members
        self.posterior = LatentUNet(
            dimensions, n_channels + frame.n_classes, spec, n_scales, n_scales - 1
        )

    def forward(self, x: Tensor) -> LogitParameters:
        """The members of a finite set; the way down runs once for all of them."""
        levels = self.backbone.descend(x)
        samples = range(1, self.n_members + 1)
        climbed = (self._climbed(sample, levels, len(self.backbone.up)) for sample in samples)
        return self.joined([self.head(cropped(features, x.shape[2:])) for features in climbed])

    def reconstruct(self, x: Tensor, labels: Tensor, generator: torch.Generator) -> Reconstruction:
        """Decode latents drawn from the posterior.

        Parameters
        ----------
        x, labels
            ``(B, channels, *spatial)`` and ``(B, *spatial)``.
        generator
            Source of randomness, on the same device.

        Returns
        -------
        Reconstruction
            Its normals are over the positions of all scales, one after the other: the KL
            divergence is summed over scales and space.
        """
        seen = torch.cat([x, centred(labels, self.head.mean.out_channels)], dim=1)
        posterior = self.posterior.climb(
            self.posterior.descend(seen), lambda _, normal: drawn(normal, generator)
        )
        prior = self.backbone.climb(
            self.backbone.descend(x), lambda index, _: posterior.latents[index]
        )
        logits = self.head(cropped(prior.features, x.shape[2:])).mean
        return Reconstruction(logits, _joined(posterior.normals), _joined(prior.normals))

    def passes(self) -> list[Pass]:
        """One for each member; the way down is the same for all."""
        samples = range(1, self.n_members + 1)
        return [
            Pass(self.backbone, self.head, partial(self._climbed, sample), shares_descent=True)
            for sample in samples
        ]

    def joined(self, parts: Sequence[LogitParameters]) -> LogitParameters:
        """The members of a finite set."""
        return LogitParameters.of_members([part.mean for part in parts])

    def _climbed(self, sample: int, levels: Sequence[Tensor], n_steps: int) -> Tensor:
        """Features after some steps up, with latents drawn from the prior."""

        def draw(index: int, normal: _Normal) -> Tensor:
            mean, sigma = normal
            # Each scale has a series of its own: the noise of scales is independent.
            size = levels[-1 - index].shape[2:]
            noise = Noise(index, sample).voxels(1, size, device=mean.device)
            return mean + sigma * noise.flatten()

        return self.backbone.climb(levels, draw, n_steps).features


def _joined(normals: Sequence[_Normal]) -> _Normal:
    """One normal over the positions of all scales, ``(B, all positions)``."""
    means, sigmas = zip(*normals, strict=True)
    return torch.cat(means, dim=1), torch.cat(sigmas, dim=1)
