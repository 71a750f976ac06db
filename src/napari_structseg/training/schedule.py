"""The learning rate of each step, and the weight decay."""

from __future__ import annotations

import math

from napari_structseg.training.config import LATENT_KINDS, TrainConfig


def learning_rate(config: TrainConfig, step: int) -> float:
    """Learning rate of a step: linear warm-up, then half a cosine to zero."""
    optimiser = config.optimiser
    if step < optimiser.warmup_steps:
        return optimiser.learning_rate * (step + 1) / optimiser.warmup_steps
    length = max(1, config.steps - optimiser.warmup_steps)
    phase = (step - optimiser.warmup_steps) / length
    return optimiser.learning_rate * 0.5 * (1 + math.cos(math.pi * phase))


def weight_decay(config: TrainConfig) -> float:
    """The L2 penalty, on the scale of the loss per voxel that the optimiser sees.

    The evidence lower bound is published with 1e-5 beside a loss that is the sum over voxels.
    Beside the loss per voxel as it stands, it would count as many times more as a patch has
    voxels: in 3-D more than the whole segmentation.
    """
    decay = config.optimiser.weight_decay
    return decay / math.prod(config.patch) if config.head.kind in LATENT_KINDS else decay
