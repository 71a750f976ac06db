"""What one step of training changes: weights, the optimiser, and GECO's weight."""

from __future__ import annotations

import logging

import torch
from torch import Tensor, nn

from napari_structseg.errors import MemoryLimitError, StructSegError
from napari_structseg.models import SegmentationNetwork
from napari_structseg.training.config import TrainConfig
from napari_structseg.training.objectives.objective import Objective
from napari_structseg.training.schedule import learning_rate, weight_decay

logger = logging.getLogger(__name__)

# A training run does not come back from this many gradients in a row that are not finite.
_MAX_SKIPPED = 50


class Learner:
    """Takes steps of Adam on the loss per voxel.

    Parameters
    ----------
    config
        The configuration.
    network
        On its device. With a frozen model, only its prior learns.

    Attributes
    ----------
    objective
        The loss.
    optimiser
        Adam, with its state.
    """

    def __init__(self, config: TrainConfig, network: SegmentationNetwork) -> None:
        self._config = config
        self._network = network
        prior = network.prior if config.model_frozen else None
        self._learning: nn.Module = network if prior is None else prior
        self.objective = Objective(config)
        self.optimiser = torch.optim.Adam(
            self._learning.parameters(),
            lr=config.optimiser.learning_rate,
            weight_decay=weight_decay(config),
        )
        self._n_skipped = 0

    def update(self, images: Tensor, labels: Tensor, step: int) -> float:
        """Take a step; a gradient that is not finite is left out.

        Parameters
        ----------
        images, labels
            ``(B, C, *spatial)`` and ``(B, *spatial)``, on the network's device.
        step
            Which, from 0.

        Returns
        -------
        float
            The loss in nats per voxel.

        Raises
        ------
        MemoryLimitError
            If the GPU runs out of memory.
        StructSegError
            If training diverged.
        """
        rate = learning_rate(self._config, step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        if self.objective.geco is not None:
            self.objective.geco.learning_rate = rate
        # A frozen model keeps the running means of batch normalisation, too.
        self._network.train(not self._config.model_frozen)
        self.optimiser.zero_grad(set_to_none=True)
        try:
            # Per voxel, so that one clipping norm suits every patch size.
            loss = self.objective(self._network, images, labels, step)
            loss = loss / labels[0].numel()
            torch.autograd.backward(loss)
        except torch.OutOfMemoryError as error:
            raise MemoryLimitError(
                f"The GPU ran out of memory at step {step}. Lower batch, patch or "
                "loss.samples in the configuration, or set mixed_precision = true."
            ) from error
        norm = torch.nn.utils.clip_grad_norm_(
            self._learning.parameters(), self._config.optimiser.gradient_clip
        )
        self._take_step(step, finite=bool(torch.isfinite(norm)))
        return float(loss.detach())

    def _take_step(self, step: int, *, finite: bool) -> None:
        if finite:
            self.optimiser.step()
            self._n_skipped = 0
            return
        self._n_skipped += 1
        logger.warning("step %d skipped: its gradient is not finite", step)
        if self._n_skipped == _MAX_SKIPPED:
            raise StructSegError(
                f"Training diverged: the last {_MAX_SKIPPED} gradients were not finite. Train in "
                "a new folder with a lower optimiser.learning_rate, or with "
                "loss.zero_is_background = true where large parts of the images hold no data."
            )
