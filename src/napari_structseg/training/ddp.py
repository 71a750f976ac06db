"""Training in several processes at once, as torchrun starts them.

Every process has the whole network and a share of each batch. The gradients of the shares are
averaged before a step, so that all processes take the same step: the one that a single process
takes with the whole batch. Only the first writes files, validates and reports.

This is data parallelism as `torch.nn.parallel.DistributedDataParallel` does it, with one message
for each step. That class wants the loss to be computed by the network's ``forward``, and ours asks
networks for more than that.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, nn

from napari_structseg.errors import ConfigError
from napari_structseg.training.config import TrainConfig
from napari_structseg.training.input.share import Share

# The others wait while the first validates.
_PATIENCE = timedelta(hours=12)
# What their loss draws for a batch does not depend on how it is shared out.
_LOSSES = ("likelihood", "members", "best_head")


@dataclass(frozen=True, slots=True)
class Group:
    """The processes that train one network.

    Attributes
    ----------
    rank
        Which of them this is, from 0.
    size
        How many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes, validates and reports."""
        return self.rank == 0

    def share(self, batch: int) -> Share:
        """Which patches of a batch are this process's."""
        count = batch // self.size
        return Share(self.rank * count, count, batch)

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over the processes, in one message."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([one.reshape(-1) for one in tensors])
        torch.distributed.all_reduce(flat)
        flat /= self.size
        parts = flat.split([one.numel() for one in tensors])
        for one, part in zip(tensors, parts, strict=True):
            one.copy_(part.view_as(one))

    def mean(self, value: float, device: torch.device) -> float:
        """The mean of a number over the processes."""
        if self.size == 1:
            return value
        mean = torch.tensor([value], dtype=torch.float32, device=device)
        self.average([mean])
        return float(mean)

    def largest(self, value: int, device: torch.device) -> int:
        """The largest of a number over the processes: the same for all of them."""
        if self.size == 1:
            return value
        largest = torch.tensor([value], device=device)
        torch.distributed.all_reduce(largest, torch.distributed.ReduceOp.MAX)
        return int(largest)

    def agree(self, network: nn.Module) -> None:
        """Give every process the weights of the first."""
        if self.size == 1:
            return
        for one in network.state_dict().values():
            torch.distributed.broadcast(one, 0)


ALONE = Group()


def local_device(device: str) -> str:
    """With ``auto``, the GPU of this process among those of its computer, if it has any."""
    rank = os.environ.get("LOCAL_RANK")
    if device != "auto" or rank is None or not torch.cuda.is_available():
        return device
    return f"cuda:{int(rank) % torch.cuda.device_count()}"


@contextmanager
def joined(device: torch.device) -> Iterator[Group]:
    """Join the processes that torchrun started beside this one; without it, this one is alone.

    Parameters
    ----------
    device
        Where this process trains: processes on GPUs speak NCCL, others gloo.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or not torch.distributed.is_torchelastic_launched():
        yield ALONE
        return
    backend = "nccl" if device.type == "cuda" else "gloo"
    torch.distributed.init_process_group(backend, timeout=_PATIENCE)
    try:
        yield Group(torch.distributed.get_rank(), size)
    finally:
        torch.distributed.destroy_process_group()


def check_group(config: TrainConfig, group: Group) -> None:
    """Refuse what several processes cannot train as one would.

    Raises
    ------
    ConfigError
        If a batch cannot be shared out, or a loss or a network needs all of it.
    """
    if group.size == 1:
        return
    if config.batch % group.size:
        raise ConfigError(
            f"A batch is shared out among the {group.size} processes, but batch = {config.batch}. "
            f"Give a multiple of {group.size}, or start another number of processes."
        )
    if config.backbone.norm == "batch":
        raise ConfigError(
            'backbone.norm = "batch" needs the statistics of whole batches, which several '
            'processes do not have. Train with one process, or with "instance" or "weight".'
        )
    if config.max_margin is not None or config.head.loss not in _LOSSES:
        raise ConfigError(
            "This loss is trained by one process alone: max_margin, and models with latents or "
            "dropout, keep something of all patches of a batch. Start it without torchrun."
        )
