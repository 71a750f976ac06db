"""Whether parameters are finite numbers: what is not would be shown as background."""

from __future__ import annotations

import torch
from torch import Tensor

from napari_structseg.errors import InputError

# Values that are summed at a time: half precision is converted first, which takes memory.
_AT_ONCE = 1 << 24


def all_finite(values: Tensor) -> bool:
    """Whether no value is NaN or infinite: one pass, without an array of flags as a rule."""
    if values.ndim and values.numel() > _AT_ONCE:
        return all(all_finite(part) for part in values.unbind(0))
    # A sum is NaN or infinite if one of its terms is. It can overflow on its own.
    total = values.sum(dtype=torch.float32)
    return bool(total.isfinite()) or bool(values.isfinite().all())


def check_finite(what: str, **parameters: Tensor | None) -> None:
    """Refuse parameters that are not finite.

    Parameters
    ----------
    what
        Whose they are, for the message.
    parameters
        By their names in the message, without their underscores; None: not there.

    Raises
    ------
    InputError
        Naming the parameter, and how many of its values are NaN or infinite.
    """
    for name, values in parameters.items():
        if values is None or all_finite(values):
            continue
        n_nan, n_infinite = int(values.isnan().sum()), int(values.isinf().sum())
        raise InputError(
            f"Finite numbers were expected for the {name.replace('_', ' ')} of {what}, but "
            f"{n_nan:,} of {values.numel():,} values are NaN and {n_infinite:,} are infinite. "
            "Check what computed them; before a logarithm, replace zeros by a small number."
        )
