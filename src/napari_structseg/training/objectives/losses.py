"""Losses: the Monte Carlo likelihood of SSN, and cross-entropy for a point or a prior.

Those of the Probabilistic U-Net and its baselines are in `latent_losses`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from napari_structseg.models import LogitParameters
from napari_structseg.priors import MarkovPrior, refine, uniform
from napari_structseg.training.input.share import Share
from napari_structseg.training.objectives.speckle import expected_speckle

# Logit of background where there is no data, as in prediction.
_CERTAIN = 20.0


def sample_logits(
    parameters: LogitParameters,
    n_samples: int,
    *,
    antithetic: bool = False,
    generator: torch.Generator | None = None,
    share: Share | None = None,
) -> Tensor:
    """Draw logits for training, directly: eta = mu + P z + sqrt(D) eps.

    Never factorises the covariance, in float32 or better also under autocast.

    Parameters
    ----------
    parameters
        Mean ``(B, C, *spatial)``, factor ``(B, R, C, *spatial)`` or None, diagonal
        ``(B, C, *spatial)``.
    n_samples
        Number of samples M.
    antithetic
        Mirror the second half about the mean, so that the average is exactly mu.
        Needs an even ``n_samples``.
    generator
        Source of randomness; torch's global one if None.
    share
        Which part of a batch the parameters are of: the noise of each image is what it is in the
        whole batch. None: they are the whole batch.

    Returns
    -------
    Tensor
        ``(M, B, C, *spatial)``.

    Raises
    ------
    ValueError
        If the parameters have no diagonal, or ``antithetic`` meets an odd ``n_samples``.
    """
    if parameters.diagonal is None:
        raise ValueError("a point has no spread to sample: use cross_entropy for it")
    if antithetic and n_samples % 2:
        raise ValueError(f"antithetic sampling needs an even number of samples, got {n_samples}")
    n_drawn = n_samples // 2 if antithetic else n_samples
    mean = parameters.mean
    dtype = torch.promote_types(mean.dtype, torch.float32)
    with torch.autocast(mean.device.type, enabled=False):
        mean = mean.to(dtype)
        shape = (n_drawn, *mean.shape)
        # Drawn for the whole batch, since a generator runs in sequence.
        part = slice(None) if share is None else share.part
        whole = len(mean) if share is None else share.total
        drawn = (n_drawn, whole, *mean.shape[1:])
        eps = torch.randn(drawn, dtype=dtype, device=mean.device, generator=generator)[:, part]
        offset = parameters.diagonal.to(dtype).sqrt() * eps
        if parameters.factor is not None:
            factor = parameters.factor.to(dtype)
            rank = factor.shape[1]
            z = torch.randn(
                (n_drawn, whole, rank), dtype=dtype, device=mean.device, generator=generator
            )[:, part]
            # (B, M, R) @ (B, R, C*S): one matrix product per image, no (M, B, R, C, S) array.
            product = torch.bmm(z.transpose(0, 1), factor.flatten(2))
            offset = offset + product.transpose(0, 1).reshape(shape)
        if antithetic:
            offset = torch.cat([offset, -offset])
        return mean + offset


def ssn_loss(
    parameters: LogitParameters,
    target: Tensor,
    *,
    n_samples: int = 20,
    antithetic: bool = False,
    average_weight: float = 0.0,
    mask: Tensor | None = None,
    generator: torch.Generator | None = None,
    share: Share | None = None,
) -> Tensor:
    r"""Negative Monte Carlo log-likelihood of a Stochastic Segmentation Network.

    .. math:: L = -\frac1B\sum_b \Big[\log\sum_m \exp(\ell_m) - \log M
        + \lambda \frac1M \sum_m \ell_m\Big], \qquad
        \ell_m = \sum_i \log\mathrm{softmax}(\eta^{(m)}_i)_{y_i}

    Monteiro et al., *Stochastic Segmentation Networks*, NeurIPS 2020, section 3, is
    :math:`\lambda = 0`. A sum over voxels, not a mean: the samples compete as whole
    segmentations, and while the best of them is good the others cost next to nothing. The second
    term makes each of them cost a little; by Jensen's inequality it is lowest without spread.

    Parameters
    ----------
    parameters
        Mean, factor and diagonal for a batch.
    target
        Labels ``(B, *spatial)``, integers in ``[0, C)``.
    n_samples
        Number of samples M.
    antithetic
        Use mirrored pairs.
    average_weight
        :math:`\lambda`, at least 0.
    mask
        Region of interest ``(B, *spatial)``, boolean: voxels outside it do not count.
    generator, share
        As :func:`sample_logits`.

    Returns
    -------
    Tensor
        Scalar, in nats per image.

    Raises
    ------
    ValueError
        As :func:`sample_logits`.
    """
    logits = sample_logits(
        parameters, n_samples, antithetic=antithetic, generator=generator, share=share
    )
    n_drawn, batch = logits.shape[:2]
    voxelwise = functional.cross_entropy(
        logits.flatten(0, 1),
        target.long().expand(n_drawn, *target.shape).flatten(0, 1),
        reduction="none",
    ).view(n_drawn, batch, -1)
    if mask is not None:
        voxelwise = voxelwise.masked_fill(~mask.reshape(1, batch, -1), 0)
    log_likelihood = -voxelwise.sum(dim=-1)
    total = torch.logsumexp(log_likelihood, dim=0) - math.log(n_drawn)
    if average_weight:
        total = total + average_weight * log_likelihood.mean(dim=0)
    return -total.mean()


def cross_entropy(
    parameters: LogitParameters, target: Tensor, *, mask: Tensor | None = None
) -> Tensor:
    """Cross-entropy of the mean logits, summed over voxels, averaged over the batch.

    The loss of the deterministic U-Net, and of SSN's mean-only pre-training; on the same
    scale as :func:`ssn_loss`.

    Parameters
    ----------
    parameters
        Only the mean ``(B, C, *spatial)`` is used.
    target
        Labels ``(B, *spatial)``, integers in ``[0, C)``.
    mask
        Region of interest ``(B, *spatial)``, boolean: voxels outside it do not count.

    Returns
    -------
    Tensor
        Scalar, in nats per image.
    """
    mean = parameters.mean.to(torch.promote_types(parameters.mean.dtype, torch.float32))
    voxelwise = functional.cross_entropy(mean, target.long(), reduction="none")
    if mask is not None:
        voxelwise = voxelwise.masked_fill(~mask, 0)
    return voxelwise.flatten(1).sum(dim=1).mean()


def prior_cross_entropy(
    prior: MarkovPrior,
    parameters: LogitParameters,
    target: Tensor,
    n_iterations: int,
    *,
    mask: Tensor | None = None,
    reviewed: Tensor | None = None,
    speckle: float = 0.0,
) -> Tensor:
    r"""Cross-entropy of the responsibilities after mean field, on the scale of the other losses.

    .. math:: L = -\frac1B\sum_b\sum_i \log R_{i,y_i}, \qquad
        R = \mathrm{refine}(\mathrm{prior}, \log\mathrm{softmax}(\mu), n), \quad R_0 = 1/K

    Brudfors et al., *An MRF-UNet Product of Experts for Image Segmentation*, MIDL 2021: model and
    prior learn together through the unrolled parallel updates. Always in float32 or better.

    Parameters
    ----------
    prior
        The prior.
    parameters
        Only the mean ``(B, K, *spatial)`` is used.
    target
        Labels ``(B, *spatial)``, integers in ``[0, K)``.
    n_iterations
        Iterations of mean field, at least 1.
    mask
        Region of interest ``(B, *spatial)``, boolean: voxels outside it do not count, and to
        their neighbours they are background with certainty.
    reviewed
        Voxels of which the target is known, ``(B, *spatial)``, boolean; None: all. The others do
        not count and pass no gradient on; to their neighbours they are what the model says.
    speckle
        What a voxel costs that stands alone, in nats, see
        :func:`~napari_structseg.training.objectives.speckle.expected_speckle`.

    Returns
    -------
    Tensor
        Scalar, in nats per image.

    Raises
    ------
    ValueError
        If ``n_iterations`` is below 1.
    """
    if n_iterations < 1:
        raise ValueError(f"mean field needs at least one iteration, got {n_iterations}")
    mean = parameters.mean.to(torch.promote_types(parameters.mean.dtype, torch.float32))
    with torch.autocast(mean.device.type, enabled=False):
        if mask is not None:
            mean = background_outside(mean, mask)
        if reviewed is not None and not reviewed.all():
            target = target.masked_fill(~reviewed, 0)
            mean = torch.where(reviewed[:, None], mean, mean.detach())
        unary = torch.log_softmax(mean, dim=1)
        # The last update in logarithms: where R underflows, log R and its gradient do not.
        before = refine(prior, unary, n_iterations - 1) if n_iterations > 1 else uniform(unary)
        log_responsibilities = torch.log_softmax(unary + prior.message(before), dim=1)
    voxelwise = functional.nll_loss(log_responsibilities, target.long(), reduction="none")
    if mask is not None:
        voxelwise = voxelwise.masked_fill(~mask, 0)
    if reviewed is not None:
        voxelwise = voxelwise.masked_fill(~reviewed, 0)
    loss = voxelwise.flatten(1).sum(dim=1).mean()
    if not speckle:
        return loss
    return loss + speckle * expected_speckle(log_responsibilities.exp(), reviewed)


def background_outside(logits: Tensor, mask: Tensor) -> Tensor:
    """Logits ``(B, K, *spatial)`` that are background with certainty outside a mask.

    Parameters
    ----------
    logits
        Any.
    mask
        Region of interest ``(B, *spatial)``, boolean.
    """
    certain = logits.new_zeros((1, logits.shape[1], *[1] * (logits.ndim - 2)))
    certain[:, 0] = _CERTAIN
    return torch.where(mask[:, None], logits, certain)
