"""What a training step minimises."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from napari_structseg.models import (
    DropoutNetwork,
    EnsembleNetwork,
    HierarchicalNetwork,
    ImageToImageVAE,
    LatentNetwork,
    LogitParameters,
    MultiHead,
    SegmentationNetwork,
)
from napari_structseg.training.config import PriorConfig, TrainConfig
from napari_structseg.training.geco import Geco
from napari_structseg.training.latent_losses import (
    elbo_loss,
    hardest_voxels,
    heads_loss,
    members_cross_entropy,
    summed_cross_entropy,
)
from napari_structseg.training.losses import cross_entropy, prior_cross_entropy, ssn_loss

# Streams of random numbers that must not overlap.
PATCH_STREAM, LOSS_STREAM, ITERATION_STREAM = 1, 2, 3


class Objective:
    """The loss of a step, with all randomness from (seed, step).

    Without a prior, that of the head's kind: the likelihood of a distribution over logits, the
    evidence lower bound of a latent one, or the cross-entropy of members. With a prior, the
    cross-entropy after mean field; for a stochastic head, whose covariance would not learn from
    it, added to the likelihood.

    Parameters
    ----------
    config
        The configuration.

    Attributes
    ----------
    geco
        The weight of a latent model's reconstruction, which moves on with each step; None: 1.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.geco: Geco | None = None
        loss = config.loss
        if loss.geco_target is not None:
            self.geco = Geco(loss.geco_target, loss.geco_decay, loss.geco_rate)

    def __call__(
        self, network: SegmentationNetwork, images: Tensor, labels: Tensor, step: int
    ) -> Tensor:
        """The loss of one step.

        Parameters
        ----------
        network
            The network.
        images, labels
            ``(B, C, *spatial)`` and ``(B, *spatial)``, on the network's device.
        step
            Which step, from 0.

        Returns
        -------
        Tensor
            Scalar, in nats per image.
        """
        config = self.config
        mask = (images != 0).any(dim=1) if config.loss.roi else None
        if config.prior is None or network.prior is None:
            return self._of_kind(network, images, labels, mask, step)
        with torch.set_grad_enabled(not config.model_frozen), self._half(images):
            parameters = network(images)
        n_iterations = drawn_iterations(config.prior, config.seed, step)
        loss = prior_cross_entropy(network.prior, parameters, labels, n_iterations, mask=mask)
        if config.model_frozen or config.head.kind == "point":
            return loss
        return loss + self._likelihood(parameters, labels, mask, step)

    def _of_kind(
        self,
        network: SegmentationNetwork,
        images: Tensor,
        labels: Tensor,
        mask: Tensor | None,
        step: int,
    ) -> Tensor:
        loss = self.config.loss
        if isinstance(network, LatentNetwork | ImageToImageVAE | HierarchicalNetwork):
            generator = self._generator(images, step)
            with self._half(images):
                decoded = network.reconstruct(images, labels, generator)
            if loss.top_k_fraction is not None:
                fraction = loss.top_k_fraction
                mask = hardest_voxels(decoded.logits, labels, fraction, generator, mask)
            return elbo_loss(decoded, labels, beta=loss.beta, geco=self.geco, mask=mask)
        if isinstance(network, DropoutNetwork):
            with self._half(images):
                logits = network.logits(images, self._generator(images, step))
            return summed_cross_entropy(logits, labels, mask).mean()
        if isinstance(network, EnsembleNetwork):
            with self._half(images):
                logits = network.logits(images)
            # The sum: to each member this is its own loss.
            return members_cross_entropy(logits, labels, mask).sum(dim=1).mean()
        if isinstance(network.head, MultiHead):
            with self._half(images):
                logits = network.head.logits(network.backbone(images))
            return heads_loss(logits, labels, epsilon=loss.heads_epsilon, mask=mask)
        with self._half(images):
            parameters = network(images)
        return self._likelihood(parameters, labels, mask, step)

    def _likelihood(
        self, parameters: LogitParameters, labels: Tensor, mask: Tensor | None, step: int
    ) -> Tensor:
        loss = self.config.loss
        if self.config.head.kind == "point" or step < loss.mean_only_steps:
            return cross_entropy(parameters, labels, mask=mask)
        return ssn_loss(
            parameters,
            labels,
            n_samples=loss.samples,
            antithetic=loss.antithetic,
            mask=mask,
            generator=self._generator(labels, step),
        )

    def _half(self, images: Tensor) -> torch.autocast:
        device = images.device.type
        enabled = self.config.mixed_precision and device == "cuda"
        return torch.autocast(device, torch.bfloat16, enabled=enabled)

    def _generator(self, images: Tensor, step: int) -> torch.Generator:
        seed = np.random.SeedSequence((self.config.seed, LOSS_STREAM, step))
        return torch.Generator(images.device).manual_seed(int(seed.generate_state(1)[0]))


def drawn_iterations(prior: PriorConfig, seed: int, step: int) -> int:
    """How many iterations of mean field a step takes: uniform between the two limits."""
    rng = np.random.default_rng((seed, ITERATION_STREAM, step))
    return int(rng.integers(prior.min_iterations, prior.max_iterations + 1))
