"""Smooth random fields: numbers at control points, interpolated linearly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

Array = npt.NDArray[np.float32]


def upsampled(coarse: Array, size: Sequence[int]) -> Array:
    """Linear upsampling of ``(C, z, y, x)`` to ``(C, *size)``; outer points on outer voxels."""
    fine = functional.interpolate(
        torch.from_numpy(coarse)[None], size=tuple(size), mode="trilinear", align_corners=True
    )
    result: Array = fine[0].numpy()
    return result


def smooth_field(
    size: Sequence[int],
    spacing: float,
    sigma: float,
    rng: np.random.Generator,
    n_fields: int = 1,
) -> Array:
    """Independent normal numbers at control points, with linear interpolation between them.

    Parameters
    ----------
    size
        Shape of the patch.
    spacing
        Voxels between neighbouring control points, about; at least two points an axis.
    sigma
        Standard deviation at the control points.
    rng
        Source of randomness.
    n_fields
        How many fields.

    Returns
    -------
    ndarray
        ``(n_fields, *size)`` float32.
    """
    points = [max(2, round(n / spacing) + 1) for n in size]
    return upsampled(rng.normal(0, sigma, (n_fields, *points)).astype(np.float32), size)
