"""Who works: this process, processes beside it, or a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from napari_structseg.errors import ConfigError
from napari_structseg.workers.cluster import local_workers, scheduled
from napari_structseg.workers.number import check_number

if TYPE_CHECKING:
    from distributed import Client


@dataclass(frozen=True, slots=True)
class Crew:
    """Who works.

    Attributes
    ----------
    workers
        Processes on this computer; None: as many as fit into its memory.
    scheduler
        Address of a scheduler of dask.distributed, or the file that it wrote; None: without.
    """

    workers: int | None = None
    scheduler: str | None = None

    def __post_init__(self) -> None:
        if self.workers is not None:
            check_number(self.workers)
            if self.scheduler is not None:
                raise ConfigError(
                    "Either --workers or --scheduler was expected, but both came. The scheduler's "
                    "workers are those that were started for it."
                )


@contextmanager
def hired(crew: Crew, n_workers: int) -> Iterator[Client | None]:
    """The workers of a crew; None: this process works alone.

    Parameters
    ----------
    crew
        Who works.
    n_workers
        How many processes on this computer, if no scheduler was named.

    Raises
    ------
    ConfigError, InputError
        If there are no such workers.
    """
    if crew.scheduler is not None:
        with scheduled(crew.scheduler) as client:
            yield client
    elif n_workers > 1:
        with local_workers(n_workers) as client:
            yield client
    else:
        yield None


def threads_of(client: Client) -> int:
    """How many threads of torch each worker has.

    On this computer they share those that torch would take; elsewhere, as many as the worker
    was started with: the fewest of any, 1 before one is there.
    """
    threads: dict[str, int] = client.nthreads()
    if client.cluster is not None:
        return max(1, torch.get_num_threads() // max(1, len(threads)))
    return min(threads.values(), default=1)


@contextmanager
def threads_for(client: Client | None) -> Iterator[None]:
    """Let this process have as many threads of torch as its workers, for the time of a block."""
    before = torch.get_num_threads()
    if client is not None:
        torch.set_num_threads(threads_of(client))
    try:
        yield
    finally:
        torch.set_num_threads(before)
