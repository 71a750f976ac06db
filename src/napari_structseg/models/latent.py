"""Networks with a latent vector: the Probabilistic U-Net, and the Image2Image VAE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from napari_structseg.distributions import LatentNormal, Noise
from napari_structseg.models.backbone_spec import Frame
from napari_structseg.models.encoder import LatentEncoder, mean_and_sigma
from napari_structseg.models.heads import LatentHead, PointHead
from napari_structseg.models.network import SegmentationNetwork
from napari_structseg.models.parameters import LogitParameters
from napari_structseg.models.passes import Pass
from napari_structseg.models.unet import UNet
from napari_structseg.priors import MarkovPrior

# The members of an Image2Image VAE are the first samples of this series, always.
_MEMBER_SEED = 0


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """What a training step needs: labels decoded from a latent of the posterior.

    Attributes
    ----------
    logits
        ``(B, C, *spatial)``.
    posterior, prior
        Mean and standard deviation, each ``(B, L)``, of q(z | x, y) and p(z | x).
    """

    logits: Tensor
    posterior: tuple[Tensor, Tensor]
    prior: tuple[Tensor, Tensor]


class LatentNetwork(SegmentationNetwork):
    """The Probabilistic U-Net.

    Features of a U-Net and a latent vector for the whole image, combined by three 1x1 layers.
    The posterior net is for training alone: nothing runs it in prediction, but it stays in the
    weights file, since training cannot go on without it.

    Kohl et al., *A Probabilistic U-Net for Segmentation of Ambiguous Images*, NeurIPS 2018.

    Parameters
    ----------
    frame
        Dimensions, channels, classes and backbone.
    n_latents
        Dimensions L of the latent space.
    prior
        A Markov random field over the labels, or None.
    """

    backbone: UNet
    head: LatentHead

    def __init__(self, frame: Frame, n_latents: int, prior: MarkovPrior | None = None) -> None:
        dimensions, n_channels = frame.dimensions, frame.n_channels
        backbone = UNet(dimensions, n_channels, frame.backbone)
        head = LatentHead(dimensions, backbone.n_features, frame.n_classes, n_latents)
        super().__init__(backbone, head, prior)
        self.prior_encoder = LatentEncoder(dimensions, n_channels, n_latents, frame.backbone)
        self.posterior_encoder = LatentEncoder(
            dimensions, n_channels + frame.n_classes, n_latents, frame.backbone
        )

    def first(self, x: Tensor) -> Tensor:
        """The features' part of the first combining layer, ``(B, H, *spatial)``."""
        first: Tensor = self.head.first(self.backbone(x))
        return first

    @property
    def latent_encoder(self) -> LatentEncoder:
        """The prior net."""
        return self.prior_encoder

    def latent_statistics(self, x: Tensor) -> Tensor:
        """Mean and log sigma of the prior, as the encoder gives them: ``(B, 2L)``."""
        statistics: Tensor = self.prior_encoder(x)
        return statistics

    def passes(self) -> list[Pass]:
        """The features' part of the first layer: the latents are those of the whole image."""
        return [Pass.of(self.backbone, self._without_latents)]

    def _without_latents(self, features: Tensor) -> LogitParameters:
        first: Tensor = self.head.first(features)
        return LogitParameters(torch.empty_like(first[:, :0]), first=first)

    def forward(self, x: Tensor) -> LogitParameters:
        """Logits at the prior's mean, and the features' part of the first layer."""
        first = self.first(x)
        mean, _ = mean_and_sigma(self.latent_statistics(x))
        return LogitParameters(self.head(first, mean), first=first)

    def reconstruct(self, x: Tensor, labels: Tensor, generator: torch.Generator) -> Reconstruction:
        """Decode a latent vector drawn from the posterior.

        Parameters
        ----------
        x, labels
            ``(B, channels, *spatial)`` and ``(B, *spatial)``.
        generator
            Source of randomness, on the same device.
        """
        seen = torch.cat([x, centred(labels, self.head.mean.out_channels)], dim=1)
        posterior = mean_and_sigma(self.posterior_encoder(seen))
        prior = mean_and_sigma(self.latent_statistics(x))
        return Reconstruction(
            self.head(self.first(x), drawn(posterior, generator)), posterior, prior
        )


class ImageToImageVAE(SegmentationNetwork):
    """The Image2Image VAE: a U-Net whose input is the image and a latent vector, tiled.

    The prior is N(0, I) whatever the image, and the posterior sees the segmentation alone. Since
    every sample runs the whole U-Net, predictions are a finite set of latent vectors, the same
    for every image. A baseline of Kohl et al., NeurIPS 2018, after Zhu et al., NeurIPS 2017.

    Parameters
    ----------
    frame
        Dimensions, channels, classes and backbone.
    n_latents
        Dimensions L of the latent space.
    n_members
        Members of the finite set.
    prior
        A Markov random field over the labels, or None.
    """

    backbone: UNet
    head: PointHead

    def __init__(
        self, frame: Frame, n_latents: int, n_members: int, prior: MarkovPrior | None = None
    ) -> None:
        dimensions, n_classes = frame.dimensions, frame.n_classes
        backbone = UNet(dimensions, frame.n_channels + n_latents, frame.backbone)
        super().__init__(backbone, PointHead(dimensions, backbone.n_features, n_classes), prior)
        self.n_latents = n_latents
        self.n_members = n_members
        self.posterior_encoder = LatentEncoder(dimensions, n_classes, n_latents, frame.backbone)

    def logits(self, x: Tensor, z: Tensor) -> Tensor:
        """Logits ``(B, C, *spatial)`` of images with latent vectors ``(B, L)``."""
        tiled = z.reshape(*z.shape, *[1] * (x.ndim - 2)).expand(-1, -1, *x.shape[2:])
        logits: Tensor = self.head(self.backbone(torch.cat([x, tiled.to(x.dtype)], dim=1))).mean
        return logits

    def forward(self, x: Tensor) -> LogitParameters:
        """The members of a finite set, one for each of the fixed latent vectors."""
        latents = [z.to(x.device).expand(len(x), -1) for z in self._latents()]
        return LogitParameters.of_members([self.logits(x, z) for z in latents])

    def passes(self) -> list[Pass]:
        """One for each of the fixed latent vectors."""
        return [Pass.of(self.backbone, self.head, beside=z) for z in self._latents()]

    def joined(self, parts: Sequence[LogitParameters]) -> LogitParameters:
        """The members of a finite set."""
        return LogitParameters.of_members([part.mean for part in parts])

    def _latents(self) -> list[Tensor]:
        noises = [Noise(_MEMBER_SEED, sample) for sample in range(1, self.n_members + 1)]
        return [noise.factors(self.n_latents) for noise in noises]

    def reconstruct(self, x: Tensor, labels: Tensor, generator: torch.Generator) -> Reconstruction:
        """Decode a latent vector drawn from the posterior, as in :class:`LatentNetwork`."""
        seen = centred(labels, self.head.mean.out_channels)
        posterior = mean_and_sigma(self.posterior_encoder(seen))
        mean, sigma = posterior
        prior = (torch.zeros_like(mean), torch.ones_like(sigma))
        return Reconstruction(self.logits(x, drawn(posterior, generator)), posterior, prior)


def latent_normal(statistics: Tensor) -> LatentNormal:
    """The prior of one image from ``(2L,)`` statistics."""
    return LatentNormal(*mean_and_sigma(statistics))


def centred(labels: Tensor, n_classes: int) -> Tensor:
    """One-hot minus a half, ``(B, C, *spatial)``, as the authors' code has it."""
    return functional.one_hot(labels.long(), n_classes).movedim(-1, 1).float() - 0.5


def drawn(normal: tuple[Tensor, Tensor], generator: torch.Generator) -> Tensor:
    """A sample of a normal with this mean and standard deviation, of their shape."""
    mean, sigma = normal
    noise = torch.randn(mean.shape, dtype=mean.dtype, device=mean.device, generator=generator)
    return mean + sigma * noise
