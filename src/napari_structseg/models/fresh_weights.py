"""Fresh weights of convolutions, in networks that may have no memory."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


def kaiming_normal_(weight: Tensor, **how: Any) -> None:  # noqa: ANN401 -- those of torch
    """As ``torch.nn.init.kaiming_normal_``; nothing on the device ``meta``, which has no numbers.

    There torch would load its compiler to draw nothing. That takes seconds, and with torch 2.15 it
    ends the program where a window already draws with Mesa: both bring an LLVM of their own.
    """
    if not weight.is_meta:
        nn.init.kaiming_normal_(weight, **how)
