"""Whether a training run fits into memory, asked before anything is built or read."""

from __future__ import annotations

import math

import torch

from napari_structseg.devices import free_memory
from napari_structseg.errors import ConfigError, MemoryLimitError
from napari_structseg.memory import check_memory
from napari_structseg.models import ModelSpec, build_network
from napari_structseg.training.config import TrainConfig

# float32; and of each weight its gradient and two moments of Adam.
_FLOAT, _PER_WEIGHT = 4, 4
_ADVICE = "Lower batch, patch, loss.samples, backbone.widths or head.rank in the configuration."


def check_patches(config: TrainConfig, n_channels: int) -> None:
    """Refuse batches that do not fit into the main memory.

    Raises
    ------
    MemoryLimitError
        Saying how much is needed, and what there is.
    """
    # The batch in use, and those that are prepared ahead.
    n_batches = 2 + -(-config.workers // config.batch)
    voxels = math.prod(config.patch) * config.batch * n_batches
    _check(voxels * (n_channels * _FLOAT + 1), f"A batch of {config.batch} patches", None)


def check_step(config: TrainConfig, spec: ModelSpec, device: torch.device) -> None:
    """Refuse a step that cannot fit into the memory of a device.

    What is counted is less than what a step takes: the weights, and at each voxel the first
    features and the parameters and samples of the distribution.

    Raises
    ------
    ConfigError
        If the network is too large for any computer.
    MemoryLimitError
        Saying how much is needed at least, and what there is.
    """
    try:
        with torch.device("meta"):
            network = build_network(spec)
    except (RuntimeError, OverflowError, TypeError) as error:
        raise ConfigError(
            f"The configuration describes a network too large for any computer. {_ADVICE}"
        ) from error
    # A program of other origin does not learn: its bytes have no gradients.
    tensors = network.state_dict().values()
    n_weights = sum(tensor.numel() for tensor in tensors if tensor.is_floating_point())
    draws = spec.head.loss == "likelihood" and spec.head.is_stochastic
    n_samples = config.loss.samples if draws else 0
    # Mean and diagonal, each column of the factor, and each sample.
    n_maps = spec.n_classes * (2 + spec.head.factor_rank + n_samples)
    voxels = math.prod(config.patch) * config.batch
    floats = n_weights * _PER_WEIGHT + voxels * (spec.backbone.widths[0] + n_maps)
    _check(floats * _FLOAT, f"A step of training {spec.name!r}", free_memory(device))


def _check(n_bytes: int, what: str, available: int | None) -> None:
    try:
        check_memory(n_bytes, what, available)
    except MemoryLimitError as error:
        raise MemoryLimitError(f"{error} {_ADVICE}") from error
