"""What the features of a network are computed in."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

Precision = Literal["auto", "float32", "bfloat16"]

_CPUINFO = Path("/proc/cpuinfo")
# Instructions that multiply bfloat16 at twice the rate of float32, or more.
_FAST = {"avx512_bf16", "amx_bf16"}


def resolve_precision(name: Precision, device: torch.device) -> torch.dtype:
    """The type of a precision's name.

    Parameters
    ----------
    name
        ``auto``: bfloat16 on processors that multiply it faster than float32, which is known on
        Linux alone; float32 elsewhere, and on GPUs, where it is not measured.
    device
        What computes.
    """
    if name == "auto":
        name = "bfloat16" if device.type == "cpu" and _multiplies_bfloat16() else "float32"
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]


def _multiplies_bfloat16() -> bool:
    if not _CPUINFO.exists():
        return False
    for line in _CPUINFO.read_text(encoding="utf-8").splitlines():
        if line.startswith("flags"):
            return bool(_FAST.intersection(line.split()))
    return False
