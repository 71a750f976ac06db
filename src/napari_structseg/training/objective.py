"""What a training step minimises."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from napari_structseg.models import LogitParameters, SegmentationNetwork
from napari_structseg.training.config import PriorConfig, TrainConfig
from napari_structseg.training.losses import cross_entropy, prior_cross_entropy, ssn_loss

# Streams of random numbers that must not overlap.
PATCH_STREAM, LOSS_STREAM, ITERATION_STREAM = 1, 2, 3


def training_loss(
    network: SegmentationNetwork, images: Tensor, labels: Tensor, config: TrainConfig, step: int
) -> Tensor:
    """The loss of one step, with all randomness from (seed, step).

    Without a prior, the likelihood of the head's distribution. With one, the cross-entropy after
    mean field; for a stochastic head, whose covariance would not learn from it, added to the
    likelihood.

    Parameters
    ----------
    network
        The network.
    images, labels
        ``(B, C, *spatial)`` and ``(B, *spatial)``, on the network's device.
    config
        The configuration.
    step
        Which step, from 0.

    Returns
    -------
    Tensor
        Scalar, in nats per image.
    """
    mask = (images != 0).any(dim=1) if config.loss.roi else None
    device = images.device.type
    with (
        torch.set_grad_enabled(not config.model_frozen),
        torch.autocast(device, torch.bfloat16, enabled=config.mixed_precision and device == "cuda"),
    ):
        parameters = network(images)
    if config.prior is None or network.prior is None:
        return _likelihood(parameters, labels, mask, config, step)
    n_iterations = drawn_iterations(config.prior, config.seed, step)
    loss = prior_cross_entropy(network.prior, parameters, labels, n_iterations, mask=mask)
    if config.model_frozen or config.head.kind == "point":
        return loss
    return loss + _likelihood(parameters, labels, mask, config, step)


def drawn_iterations(prior: PriorConfig, seed: int, step: int) -> int:
    """How many iterations of mean field a step takes: uniform between the two limits."""
    rng = np.random.default_rng((seed, ITERATION_STREAM, step))
    return int(rng.integers(prior.min_iterations, prior.max_iterations + 1))


def _likelihood(
    parameters: LogitParameters,
    labels: Tensor,
    mask: Tensor | None,
    config: TrainConfig,
    step: int,
) -> Tensor:
    if config.head.kind == "point" or step < config.loss.mean_only_steps:
        return cross_entropy(parameters, labels, mask=mask)
    seed = np.random.SeedSequence((config.seed, LOSS_STREAM, step))
    generator = torch.Generator(labels.device).manual_seed(int(seed.generate_state(1)[0]))
    return ssn_loss(
        parameters,
        labels,
        n_samples=config.loss.samples,
        antithetic=config.loss.antithetic,
        mask=mask,
        generator=generator,
    )
