"""Work on a CPU in pieces that torch leaves to one thread.

Rendering a slice is some hundred steps of microseconds. torch splits any step of more than
32,768 elements over all cores and waits for the last of them: on a machine with anything else to
do, such as painting the slice before, that wait is many times longer than the step.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

CHUNK = 1 << 15


def chunks(n: int, device: torch.device, size: int = CHUNK) -> Iterator[slice]:
    """Cut ``n`` elements into slices of at most ``size``; not at all on a GPU."""
    step = max(1, size if device.type == "cpu" else n)
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))


def compact(values: Tensor) -> Tensor:
    """Lay values out contiguously; they are copied only if they are not so yet."""
    if values.device.type != "cpu":
        return values.contiguous()
    # numpy copies in one thread, and values that are far apart in half of torch's time.
    return torch.from_numpy(np.ascontiguousarray(values.numpy()))
