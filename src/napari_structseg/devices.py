"""Devices: which there are, and which one 'auto' means."""

from __future__ import annotations

import torch
from torch import Tensor

from napari_structseg.errors import ConfigError

AUTO = "auto"


def available_devices() -> list[str]:
    """Names that :func:`resolve_device` takes: auto, cpu, and every accelerator found."""
    names = [AUTO, "cpu"]
    names += [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        names.append("mps")
    return names


def resolve_device(name: str = AUTO) -> torch.device:
    """The device of a name; ``auto`` prefers the first GPU to the CPU.

    Raises
    ------
    ConfigError
        If this machine has no such device, naming those it has.
    """
    names = available_devices()
    if name == "cuda" and "cuda:0" in names:
        name = "cuda:0"
    if name not in names:
        raise ConfigError(
            f"There is no device {name!r} here. Available: {', '.join(names)}. A GPU needs a "
            "build of PyTorch for it: see pytorch.org/get-started."
        )
    if name != AUTO:
        return torch.device(name)
    accelerators = [candidate for candidate in names if candidate not in (AUTO, "cpu")]
    return torch.device(accelerators[0] if accelerators else "cpu")


def free_memory(device: torch.device) -> int | None:
    """Bytes of its own that a device has free; None: it has none, or does not tell.

    What torch keeps of a GPU for its next tensors counts as free: nothing else can use it.
    """
    if device.type != "cuda":
        return None
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept


def precise_sum(values: Tensor) -> float:
    """Sum of all values, of rows in single precision and over rows in double precision.

    Apple GPUs have no double precision: the sum over rows is taken on the processor.
    """
    rows = values.float().sum(dim=-1) if values.ndim else values.float()
    return rows.cpu().double().sum().item()


def device_name(device: torch.device) -> str:
    """What computes, in words: ``CPU``, ``NVIDIA H100``."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return {"cpu": "CPU", "mps": "Apple GPU"}[device.type]


def describe_device(name: str) -> str:
    """A device in words, for the user: ``auto: CPU``, ``NVIDIA H100 (cuda:0)``."""
    device = resolve_device(name)
    words = device_name(device)
    if device.type == "cuda":
        words = f"{words} ({device})"
    return f"auto: {words}" if name == AUTO else words
