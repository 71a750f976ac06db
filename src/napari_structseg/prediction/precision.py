"""What the features of a network are computed in."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

Precision = Literal["auto", "float32", "bfloat16"]
TYPES: dict[Precision, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}

_CPUINFO = Path("/proc/cpuinfo")
# Instructions that multiply bfloat16 at twice the rate of float32, or more.
_FAST = {"avx512_bf16", "amx_bf16"}


def resolve_precision(name: Precision, device: torch.device, *, bfloat16_serves: bool) -> Precision:
    """A precision with nothing left open: one of :data:`TYPES`.

    Parameters
    ----------
    name
        ``auto``: bfloat16 where it serves, on processors that multiply it faster than float32,
        which is known on Linux alone; float32 elsewhere, and on GPUs, where it is not measured.
    device
        What computes.
    bfloat16_serves
        Whether the model gives as good labels with it, see ``ModelSpec.bfloat16``.
    """
    if name == "auto":
        fast = bfloat16_serves and device.type == "cpu" and _multiplies_bfloat16()
        return "bfloat16" if fast else "float32"
    return name


def _multiplies_bfloat16() -> bool:
    if not _CPUINFO.exists():
        return False
    for line in _CPUINFO.read_text(encoding="utf-8").splitlines():
        if line.startswith("flags"):
            return bool(_FAST.intersection(line.split()))
    return False
