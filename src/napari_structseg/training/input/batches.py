"""Batches of training patches, prepared in the background."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_structseg.training.config import TrainConfig
from napari_structseg.training.input.share import Share
from napari_structseg.training.objectives.objective import PATCH_STREAM

Patch = tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]


class PatchSource(Protocol):
    """Where training patches come from; asked from several threads at once."""

    def patch(self, rng: np.random.Generator) -> Patch:
        """Draw an image ``(C, *patch)`` and its labels ``(*patch)``, from ``rng`` alone."""
        ...


@runtime_checkable
class CasesInTurn(Protocol):
    """A source that can go through its cases one after the other."""

    def patch_in_turn(self, rng: np.random.Generator, number: int) -> Patch:
        """As :meth:`PatchSource.patch`, of the case whose turn it is with this number."""
        ...


def batches(
    source: PatchSource, config: TrainConfig, first: int, share: Share | None = None
) -> Generator[tuple[Tensor, Tensor]]:
    """The batches of a run, from a step on.

    ``config.workers`` threads prepare the next patches while this one trains. Each patch has a
    generator of its own, from (seed, step, place in the batch): the same patches come, in the same
    order, however many threads there are. Closing the generator ends the threads.

    Parameters
    ----------
    source
        Patches.
    config
        Seed, size of a batch, steps and workers.
    first
        Step to begin with.
    share
        Which patches of each batch; None: all.

    Yields
    ------
    images, labels
        ``(B, C, *patch)`` and ``(B, *patch)``, on the CPU.
    """
    # So many steps ahead that no thread waits.
    places = range(config.batch) if share is None else share.places
    n_ahead = 1 + -(-config.workers // len(places))
    pending: deque[list[Future[Patch]]] = deque()
    with ThreadPoolExecutor(config.workers, thread_name_prefix="structseg-patches") as executor:
        try:
            for step in range(first, config.steps):
                last = min(step + n_ahead, config.steps)
                for later in range(step + len(pending), last):
                    pending.append(
                        [executor.submit(drawn, source, config, later, place) for place in places]
                    )
                patches = [future.result() for future in pending.popleft()]
                images = np.stack([image for image, _ in patches])
                labels = np.stack([label for _, label in patches])
                yield torch.from_numpy(images), torch.from_numpy(labels)
        finally:
            executor.shutdown(cancel_futures=True)


def drawn(source: PatchSource, config: TrainConfig, step: int, place: int) -> Patch:
    """One patch of a batch, the same whenever it is drawn."""
    rng = np.random.default_rng((config.seed, PATCH_STREAM, step, place))
    if config.max_margin is not None and isinstance(source, CasesInTurn):
        # A CRF is that of all cases.
        return source.patch_in_turn(rng, step * config.batch + place)
    return source.patch(rng)
