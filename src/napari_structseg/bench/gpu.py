"""What a benchmark asks of a GPU: to be done before the clock is read, and how much it held."""

from __future__ import annotations

import torch

from napari_structseg.bench.memory import megabytes


def finish(device: torch.device) -> None:
    """Wait until a GPU has done what it was asked; a processor has always done so."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def gpu_memory(device: torch.device) -> dict[str, float]:
    """``gpu_peak_memory_mb`` of this process where torch counts it, else nothing."""
    if device.type != "cuda":
        return {}
    return {"gpu_peak_memory_mb": megabytes(torch.cuda.max_memory_allocated(device))}
