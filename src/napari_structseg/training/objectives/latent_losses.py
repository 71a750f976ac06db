"""Losses of the Probabilistic U-Net and its baselines.

Kohl et al., *A Probabilistic U-Net for Segmentation of Ambiguous Images*, NeurIPS 2018.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from napari_structseg.models.latent import Reconstruction
from napari_structseg.training.objectives.geco import Geco


def summed_cross_entropy(logits: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Cross-entropy of each image, summed over voxels.

    A sum: reconstruction and KL divergence are nats per image both. With the mean over voxels
    the KL divergence weighs as much as the whole segmentation, and the latents learn nothing.

    Parameters
    ----------
    logits
        ``(B, C, *spatial)``.
    target
        ``(B, *spatial)``.
    mask
        Voxels that count, ``(B, *spatial)``; None: all.

    Returns
    -------
    Tensor
        ``(B,)``, float32 or better.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    voxelwise = functional.cross_entropy(logits, target.long(), reduction="none")
    if mask is not None:
        voxelwise = voxelwise.masked_fill(~mask, 0)
    return voxelwise.flatten(1).sum(dim=1)


def hardest_voxels(
    logits: Tensor,
    target: Tensor,
    fraction: float,
    generator: torch.Generator,
    mask: Tensor | None = None,
) -> Tensor:
    """Voxels of a batch, drawn without replacement in proportion to their cross-entropy.

    The stochastic top-k loss of Kohl et al., *A Hierarchical Probabilistic U-Net*, 2019.

    Parameters
    ----------
    logits
        ``(B, C, *spatial)``.
    target
        ``(B, *spatial)``.
    fraction
        How many are drawn, as a share of those that count; at least one.
    generator
        Source of randomness, on the same device.
    mask
        Voxels that count, ``(B, *spatial)``; None: all.

    Returns
    -------
    Tensor
        Where they are, ``(B, *spatial)``, boolean.
    """
    dtype = torch.promote_types(logits.dtype, torch.float32)
    weight = functional.cross_entropy(logits.detach().to(dtype), target.long(), reduction="none")
    # The largest of weight / E, with E exponential, is a draw in proportion to the weights, and
    # so on for the next ones (Efraimidis and Spirakis, 2006): the Gumbel trick without logarithms.
    keys = weight / torch.empty_like(weight).exponential_(generator=generator)
    counts = torch.ones_like(keys, dtype=torch.bool) if mask is None else mask
    keys = keys.masked_fill(~counts, -1).flatten()
    n_drawn = min(max(1, int(fraction * int(counts.sum()))), keys.numel())
    chosen = torch.zeros_like(keys, dtype=torch.bool)
    chosen[keys.topk(n_drawn).indices] = True
    return chosen.reshape(target.shape) & counts


def normal_divergence(posterior: tuple[Tensor, Tensor], prior: tuple[Tensor, Tensor]) -> Tensor:
    """KL(Q || P) of normals with independent coordinates, in closed form.

    Parameters
    ----------
    posterior, prior
        Mean and standard deviation, each ``(B, L)``.

    Returns
    -------
    Tensor
        ``(B,)``, nats, float32 or better.
    """
    dtype = torch.promote_types(posterior[0].dtype, torch.float32)
    (mean_q, sigma_q), (mean_p, sigma_p) = (
        (mean.to(dtype), sigma.to(dtype)) for mean, sigma in (posterior, prior)
    )
    ratio = (sigma_q / sigma_p).square()
    distance = ((mean_q - mean_p) / sigma_p).square()
    return 0.5 * (ratio + distance - 1 - ratio.log()).sum(dim=1)


def elbo_loss(
    reconstruction: Reconstruction,
    target: Tensor,
    *,
    beta: float = 1.0,
    geco: Geco | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    r"""Negative evidence lower bound.

    .. math:: L = \frac1B\sum_b \Big[-\sum_i \log p(y_i \mid z, x)
        + \beta\,\mathrm{KL}(q(z \mid x, y)\,\|\,p(z \mid x))\Big]

    Parameters
    ----------
    reconstruction
        What was decoded from the posterior, and both normals.
    target
        Labels ``(B, *spatial)``.
    beta
        Weight of the KL divergence.
    geco
        Weighs the cross-entropy, and moves on by a step; None: by 1.
    mask
        Voxels that count; None: all.

    Returns
    -------
    Tensor
        Scalar, in nats per image.
    """
    voxelwise = summed_cross_entropy(reconstruction.logits, target, mask).mean()
    divergence = normal_divergence(reconstruction.posterior, reconstruction.prior).mean()
    weight = 1.0
    if geco is not None:
        n_voxels = target[0].numel() if mask is None else max(1.0, float(mask.sum()) / len(mask))
        weight = geco.weight(float(voxelwise.detach()) / n_voxels, n_voxels)
    return weight * voxelwise + beta * divergence


def heads_loss(
    logits: Tensor, target: Tensor, *, epsilon: float = 0.05, mask: Tensor | None = None
) -> Tensor:
    """The loss of M-Heads: the best head of each image learns, the others a little.

    The head with the least cross-entropy weighs 1 - epsilon, each other epsilon / (M - 1).
    Rupprecht et al., *Learning in an Uncertain World*, ICCV 2017.

    Parameters
    ----------
    logits
        Of every head, ``(B, M, C, *spatial)``, M at least 2.
    target
        Labels ``(B, *spatial)``.
    epsilon
        Share of the heads that are not the best.
    mask
        Voxels that count; None: all.

    Returns
    -------
    Tensor
        Scalar, in nats per image.
    """
    losses = members_cross_entropy(logits, target, mask)
    n_heads = losses.shape[1]
    best = functional.one_hot(losses.argmin(dim=1), n_heads)
    share = epsilon / (n_heads - 1)
    weights = share + (1 - epsilon - share) * best
    return (weights * losses).sum(dim=1).mean()


def members_cross_entropy(logits: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Cross-entropy of each member and image, summed over voxels: ``(B, M)``.

    Parameters
    ----------
    logits
        ``(B, M, C, *spatial)``.
    target
        ``(B, *spatial)``.
    mask
        Voxels that count; None: all.
    """
    losses = [summed_cross_entropy(one, target, mask) for one in logits.unbind(1)]
    return torch.stack(losses, dim=1)
