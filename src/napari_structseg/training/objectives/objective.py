"""What a training step minimises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from napari_structseg.data.cases import UNREVIEWED
from napari_structseg.models import LogitParameters, LowRankSpec, SegmentationNetwork
from napari_structseg.training.config import TrainConfig
from napari_structseg.training.input.share import Share
from napari_structseg.training.objectives.geco import Geco
from napari_structseg.training.objectives.latent_losses import (
    elbo_loss,
    hardest_voxels,
    heads_loss,
    members_cross_entropy,
    summed_cross_entropy,
)
from napari_structseg.training.objectives.losses import (
    cross_entropy,
    prior_cross_entropy,
    sample_logits,
    ssn_loss,
)
from napari_structseg.training.sections import PriorConfig

# Of the cross-entropy of the mean, where the spread of a head is held by what the mean says; see
# docs/experiments-covariance.md.
MEAN_WEIGHT = 0.2

if TYPE_CHECKING:
    from napari_structseg.training.max_margin.learning import MaxMargin

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
    share
        Which part of each batch it is asked for; None: all of it.

    Attributes
    ----------
    geco
        The weight of a latent model's reconstruction, which moves on with each step; None: 1.
    margin
        The CRF that is learned with the network or after it; None: without.
    """

    def __init__(self, config: TrainConfig, share: Share | None = None) -> None:
        self.config = config
        self._share = share
        self.geco: Geco | None = None
        loss = config.loss
        if loss.geco_target is not None:
            self.geco = Geco(loss.geco_target, loss.geco_decay, loss.geco_rate)
        self.margin: MaxMargin | None = None
        if config.max_margin is not None:
            # OSQP, which it needs, is an extra.
            from napari_structseg.training.max_margin.learning import MaxMargin

            self.margin = MaxMargin(
                config.max_margin,
                spacing=config.spacing,
                zero_is_background=loss.zero_is_background,
            )

    def __call__(
        self, network: SegmentationNetwork, images: Tensor, labels: Tensor, step: int
    ) -> Tensor:
        """The loss of one step.

        Parameters
        ----------
        network
            The network.
        images, labels
            ``(B, C, *spatial)`` and ``(B, *spatial)``, on the network's device. Voxels with the
            label ``UNREVIEWED`` carry no loss: the gradient of their logits is exactly zero.
        step
            Which step, from 0.

        Returns
        -------
        Tensor
            Scalar, in nats per image; with a margin, in voxels per image.
        """
        config = self.config
        if self.margin is not None:
            with torch.set_grad_enabled(not config.model_frozen), self.half(images):
                mean = network(images).mean
            return self.margin.loss(mean, images, labels, step)
        mask = (images != 0).any(dim=1) if config.loss.zero_is_background else None
        reviewed = labels != UNREVIEWED
        if config.prior is None or network.prior is None:
            if not reviewed.all():
                labels = self._completed(network, images, labels, reviewed)
                mask = reviewed if mask is None else mask & reviewed
            return self._of_kind(network, images, labels, mask, step)
        with torch.set_grad_enabled(not config.model_frozen), self.half(images):
            parameters = network(images)
        n_iterations = drawn_iterations(config.prior, config.seed, step)
        refined = parameters
        if config.prior.of_samples:
            generator = self.generator(labels, step)
            drawn = sample_logits(parameters, 1, generator=generator, share=self._share)
            refined = LogitParameters(drawn[0])
        loss = prior_cross_entropy(
            network.prior,
            refined,
            labels,
            n_iterations,
            mask=mask,
            reviewed=reviewed,
            speckle=config.prior.speckle,
        )
        if config.model_frozen or not config.head.is_stochastic:
            return loss
        counted = reviewed if mask is None else mask & reviewed
        labels = labels.masked_fill(~reviewed, 0)
        return loss + self.likelihood(parameters, labels, counted, step)

    def _completed(
        self, network: SegmentationNetwork, images: Tensor, labels: Tensor, reviewed: Tensor
    ) -> Tensor:
        """Labels with a class everywhere; which one, is of no account to the losses.

        To a posterior net it is: it sees the whole segmentation. There the network's own labels
        take the place of what nobody has said.
        """
        if self.config.head.loss != "evidence":
            return labels.masked_fill(~reviewed, 0)
        with torch.no_grad(), self.half(images):
            own = network(images).mean.argmax(dim=1)
        return torch.where(reviewed, labels, own.to(labels.dtype))

    def _of_kind(
        self,
        network: SegmentationNetwork,
        images: Tensor,
        labels: Tensor,
        mask: Tensor | None,
        step: int,
    ) -> Tensor:
        of_kind = _LOSSES[self.config.head.loss]
        return of_kind(self, _Step(network, images, labels, mask, step))

    def likelihood(
        self, parameters: LogitParameters, labels: Tensor, mask: Tensor | None, step: int
    ) -> Tensor:
        """Likelihood of a distribution; of a point, and in mean-only steps, cross-entropy."""
        loss = self.config.loss
        if not self.config.head.is_stochastic or step < loss.mean_only_steps:
            return cross_entropy(parameters, labels, mask=mask)
        found = ssn_loss(
            parameters,
            labels,
            n_samples=loss.samples,
            antithetic=loss.antithetic,
            average_weight=loss.average_weight,
            mask=mask,
            generator=self.generator(labels, step),
            share=self._share,
        )
        if weight := self._mean_weight:
            found = found + weight * cross_entropy(parameters, labels, mask=mask)
        return found

    @property
    def _mean_weight(self) -> float:
        asked, head = self.config.loss.mean_weight, self.config.head
        if asked is not None:
            return asked
        return MEAN_WEIGHT if isinstance(head, LowRankSpec) and head.bound else 0.0

    def half(self, images: Tensor) -> torch.autocast:
        """Half precision, where the configuration asks for it."""
        device = images.device.type
        enabled = self.config.mixed_precision and device in ("cuda", "cpu")
        return torch.autocast(device, torch.bfloat16, enabled=enabled)

    def generator(self, images: Tensor, step: int) -> torch.Generator:
        """Randomness of a step, on the device of the images."""
        seed = np.random.SeedSequence((self.config.seed, LOSS_STREAM, step))
        return torch.Generator(images.device).manual_seed(int(seed.generate_state(1)[0]))


@dataclass(frozen=True, slots=True)
class _Step:
    """What the loss of a step is computed of; see :meth:`Objective.__call__`."""

    # Each loss knows which network it belongs to: that of the kinds that name it.
    network: Any
    images: Tensor
    labels: Tensor
    mask: Tensor | None
    number: int


def _likelihood_loss(objective: Objective, at: _Step) -> Tensor:
    with objective.half(at.images):
        parameters = at.network(at.images)
    return objective.likelihood(parameters, at.labels, at.mask, at.number)


def _evidence_loss(objective: Objective, at: _Step) -> Tensor:
    loss, mask = objective.config.loss, at.mask
    generator = objective.generator(at.images, at.number)
    with objective.half(at.images):
        decoded = at.network.reconstruct(at.images, at.labels, generator)
    if loss.top_k_fraction is not None:
        mask = hardest_voxels(decoded.logits, at.labels, loss.top_k_fraction, generator, mask)
    return elbo_loss(decoded, at.labels, beta=loss.beta, geco=objective.geco, mask=mask)


def _masks_loss(objective: Objective, at: _Step) -> Tensor:
    with objective.half(at.images):
        logits = at.network.logits(at.images, objective.generator(at.images, at.number))
    return summed_cross_entropy(logits, at.labels, at.mask).mean()


def _members_loss(objective: Objective, at: _Step) -> Tensor:
    with objective.half(at.images):
        logits = at.network.logits(at.images)
    # The sum: to each member this is its own loss.
    return members_cross_entropy(logits, at.labels, at.mask).sum(dim=1).mean()


def _best_head_loss(objective: Objective, at: _Step) -> Tensor:
    epsilon = objective.config.loss.heads_epsilon
    with objective.half(at.images):
        logits = at.network.head.logits(at.network.backbone(at.images))
    return heads_loss(logits, at.labels, epsilon=epsilon, mask=at.mask)


# One entry for each loss that a kind of head can name.
_LOSSES: dict[str, Callable[[Objective, _Step], Tensor]] = {
    "likelihood": _likelihood_loss,
    "evidence": _evidence_loss,
    "masks": _masks_loss,
    "members": _members_loss,
    "best_head": _best_head_loss,
}


def drawn_iterations(prior: PriorConfig, seed: int, step: int) -> int:
    """How many iterations of mean field a step takes: uniform between the two limits."""
    rng = np.random.default_rng((seed, ITERATION_STREAM, step))
    return int(rng.integers(prior.min_iterations, prior.max_iterations + 1))
