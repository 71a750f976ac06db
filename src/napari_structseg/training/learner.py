"""What one step of training changes: weights, the optimiser, and GECO's weight."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from napari_structseg.data.cases import UNREVIEWED
from napari_structseg.errors import Diverged, MemoryLimitError
from napari_structseg.memory import is_out_of_memory
from napari_structseg.models import SegmentationNetwork
from napari_structseg.training.config import TrainConfig
from napari_structseg.training.ddp import ALONE, Group
from napari_structseg.training.objectives.objective import Objective
from napari_structseg.training.schedule import learning_rate, weight_decay
from napari_structseg.training.tuning import Tuning

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
    tuning
        What fine-tuning asks for; None: all of the network learns.
    group
        The processes that train it; each is given its share of a batch.

    Attributes
    ----------
    objective
        The loss.
    optimiser
        Adam, with its state.
    """

    def __init__(
        self,
        config: TrainConfig,
        network: SegmentationNetwork,
        tuning: Tuning | None = None,
        group: Group = ALONE,
    ) -> None:
        self._config = config
        self._network = network
        self._tuning = tuning
        self._group = group
        self._learning = self._chosen()
        self.objective = Objective(config, None if group.size == 1 else group.share(config.batch))
        self.optimiser = torch.optim.Adam(
            self._learning,
            lr=config.optimiser.learning_rate,
            weight_decay=weight_decay(config),
        )
        self._n_skipped = 0
        # Of fine-tuning, those whose loss was the last finite one.
        self._last_good: list[Tensor] = []

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
            If the memory of the device runs out; the step was not taken.
        Diverged
            If training diverged.
        """
        rate = learning_rate(self._config, step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        if self.objective.geco is not None:
            self.objective.geco.learning_rate = rate
        # A frozen model keeps the running means of batch normalisation, too.
        self._network.train(self._tuning is None and not self._config.model_frozen)
        self.optimiser.zero_grad(set_to_none=True)
        total = 0.0
        try:
            for part in self._parts(images, labels):
                loss = self._loss(*part, step) * (len(part[0]) / len(images))
                if not loss.requires_grad:
                    # Of a network that stays as it is only a CRF is learned, at an epoch's end.
                    return float(loss)
                torch.autograd.backward(loss)
                total += float(loss.detach())
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            self.optimiser.zero_grad(set_to_none=True)
            device = "GPU" if images.device.type == "cuda" else "computer"
            raise MemoryLimitError(
                f"The {device} ran out of memory at step {step}. Lower batch, patch or "
                "loss.samples in the configuration, or set mixed_precision = true."
            ) from error
        # The same of them in every process: they take the same way through the network.
        self._group.average([one.grad for one in self._learning if one.grad is not None])
        total = self._group.mean(total, images.device)
        norm = torch.nn.utils.clip_grad_norm_(self._learning, self._config.optimiser.gradient_clip)
        self._take_step(step, finite=bool(torch.isfinite(norm)))
        if self._tuning is not None:
            self._tuning.hold(self._network, rate / self._config.optimiser.learning_rate)
        return total

    def _chosen(self) -> list[nn.Parameter]:
        """What learns."""
        if self._tuning is not None:
            return self._tuning.prepare(self._network)
        prior = self._network.prior if self._config.model_frozen else None
        return list((self._network if prior is None else prior).parameters())

    def _parts(self, images: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """What goes through the network together: a whole batch, or patch by patch."""
        size = len(images) if self._tuning is None else 1
        return zip(images.split(size), labels.split(size), strict=True)

    def _loss(self, images: Tensor, labels: Tensor, step: int) -> Tensor:
        loss = self.objective(self._network, images, labels, step)
        # Per voxel, so that one clipping norm suits every patch size.
        if self._tuning is None:
            return loss / labels[0].numel()
        return loss / max(1, int((labels != UNREVIEWED).sum()))

    def _take_step(self, step: int, *, finite: bool) -> None:
        if finite:
            if self._tuning is not None:
                self._last_good = [one.detach().clone() for one in self._learning]
            self.optimiser.step()
            self._n_skipped = 0
            return
        self._n_skipped += 1
        logger.warning("step %d skipped: its gradient is not finite", step)
        if self._tuning is not None:
            with torch.no_grad():
                for one, good in zip(self._learning, self._last_good, strict=False):
                    one.copy_(good)
            raise Diverged(f"The gradient of step {step} is not finite.")
        if self._n_skipped == _MAX_SKIPPED:
            raise Diverged(
                f"Training diverged: the last {_MAX_SKIPPED} gradients were not finite. Train in "
                "a new folder with a lower optimiser.learning_rate, or with "
                "loss.zero_is_background = true where large parts of the images hold no data."
            )
