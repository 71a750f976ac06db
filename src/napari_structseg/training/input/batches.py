"""Batches of training patches, prepared in the background."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_structseg.training.config import TrainConfig
from napari_structseg.training.objectives.objective import PATCH_STREAM

Patch = tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]


class PatchSource(Protocol):
    """Where training patches come from; asked from several threads at once."""

    def patch(self, rng: np.random.Generator) -> Patch:
        """Draw an image ``(C, *patch)`` and its labels ``(*patch)``, from ``rng`` alone."""
        ...


def batches(
    source: PatchSource, config: TrainConfig, first: int
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

    Yields
    ------
    images, labels
        ``(B, C, *patch)`` and ``(B, *patch)``, on the CPU.
    """
    # So many steps ahead that no thread waits.
    n_ahead = 1 + -(-config.workers // config.batch)
    pending: deque[list[Future[Patch]]] = deque()
    with ThreadPoolExecutor(config.workers, thread_name_prefix="structseg-patches") as executor:
        try:
            for step in range(first, config.steps):
                last = min(step + n_ahead, config.steps)
                for later in range(step + len(pending), last):
                    pending.append(
                        [
                            executor.submit(_drawn, source, config.seed, later, place)
                            for place in range(config.batch)
                        ]
                    )
                patches = [future.result() for future in pending.popleft()]
                images = np.stack([image for image, _ in patches])
                labels = np.stack([label for _, label in patches])
                yield torch.from_numpy(images), torch.from_numpy(labels)
        finally:
            executor.shutdown(cancel_futures=True)


def _drawn(source: PatchSource, seed: int, step: int, place: int) -> Patch:
    return source.patch(np.random.default_rng((seed, PATCH_STREAM, step, place)))
