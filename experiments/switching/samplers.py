"""Samples of each kind of network for many scenes at once, fresh ones for every scene."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_structseg.models import (
    DropoutNetwork,
    EnsembleNetwork,
    ImageToImageVAE,
    LatentNetwork,
    MultiHead,
    SegmentationNetwork,
)
from napari_structseg.models.encoder import mean_and_sigma
from napari_structseg.training.objectives.latent_losses import normal_divergence
from napari_structseg.training.objectives.losses import sample_logits


def draw_labels(
    network: SegmentationNetwork, images: Tensor, n_samples: int, generator: torch.Generator
) -> npt.NDArray[np.uint8]:
    """Draw segmentations of scenes.

    A finite set in the viewer has the same dropout masks, or latent vectors, for every image; here
    each sample has its own, so that frequencies over scenes are those of the model. Of heads and of
    an ensemble, which have no more than their members, each sample is one at random.

    Parameters
    ----------
    network
        In evaluation mode.
    images
        ``(B, 3, Y, X)``.
    n_samples
        Samples N of each.
    generator
        Source of randomness, on the same device.

    Returns
    -------
    labels
        ``(B, N, Y, X)``.
    """
    with torch.inference_mode():
        if isinstance(network, LatentNetwork):
            first, (mean, sigma) = (
                network.first(images),
                mean_and_sigma(network.latent_statistics(images)),
            )
            noises = _normal((n_samples, *mean.shape), generator)
            drawn = [network.head(first, mean + sigma * noise) for noise in noises]
        elif isinstance(network, ImageToImageVAE):
            latents = _normal((n_samples, len(images), network.n_latents), generator)
            drawn = [network.logits(images, z) for z in latents]
        elif isinstance(network, DropoutNetwork):
            drawn = [network.logits(images, generator) for _ in range(n_samples)]
        elif isinstance(network, EnsembleNetwork):
            drawn = _of_members(network.logits(images), n_samples, generator)
        elif isinstance(network.head, MultiHead):
            drawn = _of_members(network.head.logits(network.backbone(images)), n_samples, generator)
        else:
            parameters = network(images)
            if parameters.diagonal is None:
                drawn = [parameters.mean] * n_samples
            else:
                drawn = [
                    sample_logits(parameters, 1, generator=generator)[0] for _ in range(n_samples)
                ]
        labels = torch.stack([logits.argmax(dim=1).to(torch.uint8) for logits in drawn], dim=1)
    return labels.cpu().numpy()


def reconstruct_labels(
    network: LatentNetwork | ImageToImageVAE,
    images: Tensor,
    labels: Tensor,
    generator: torch.Generator,
) -> tuple[npt.NDArray[np.uint8], float]:
    """Decode latents of the posterior, which has seen the labels.

    Parameters
    ----------
    network
        In evaluation mode.
    images
        ``(B, 3, Y, X)``.
    labels
        N segmentations of each, ``(B, N, Y, X)``.
    generator
        Source of randomness, on the same device.

    Returns
    -------
    decoded
        ``(B, N, Y, X)``.
    divergence
        Mean KL divergence of the posterior from the prior, in nats.
    """
    decoded, divergences = [], []
    with torch.inference_mode():
        for one in labels.unbind(1):
            drawn = network.reconstruct(images, one, generator)
            decoded.append(drawn.logits.argmax(dim=1).to(torch.uint8))
            divergences.append(normal_divergence(drawn.posterior, drawn.prior))
    return torch.stack(decoded, dim=1).cpu().numpy(), float(torch.stack(divergences).mean())


def _normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, device=generator.device, generator=generator)


def _of_members(members: Tensor, n_samples: int, generator: torch.Generator) -> list[Tensor]:
    """Members ``(B, M, C, Y, X)``: for each scene and sample one of them."""
    n_scenes, n_members = members.shape[:2]
    device = members.device
    rows = torch.arange(n_scenes, device=device)
    chosen = torch.randint(n_members, (n_samples, n_scenes), device=device, generator=generator)
    return [members[rows, columns] for columns in chosen]
