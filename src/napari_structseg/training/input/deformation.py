"""Random diffeomorphisms: deformations that are smooth, invertible and never fold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from scipy.interpolate import CubicSpline
from torch.nn import functional

Array = npt.NDArray[np.float32]

# Control points of the velocity along an axis.
_GRID = 5
# The first of 2^6 small steps is so short that adding it cannot fold.
_SQUARINGS = 6
# A flow that stretches more within a voxel cannot be told from a fold on the voxel grid.
_STEEPEST = 1.5


def random_diffeomorphism(size: Sequence[int], sigma: float, rng: np.random.Generator) -> Array:
    """Displacement of every voxel by the flow of a smooth random velocity over a unit of time.

    The flow exp(v) is integrated by scaling and squaring: exp(v) = exp(v / 2^n) composed with
    itself n times. Arsigny et al., *A Log-Euclidean Framework for Statistics on Diffeomorphisms*,
    MICCAI 2006. Where the velocity would change by more than 1.5 voxels from one voxel to the
    next, all of it is scaled down, so that the flow is one on the voxel grid, too.

    Parameters
    ----------
    size
        Shape of the patch.
    sigma
        Standard deviation of the velocity at its control points, in voxels.
    rng
        Source of randomness.

    Returns
    -------
    displacement
        ``(d, *size)``, in voxels.
    """
    velocity = _smooth(rng.normal(0, sigma, (len(size), *[_GRID] * len(size))), size)
    steepest = _steepest_change(velocity)
    if steepest > _STEEPEST:
        velocity = velocity * (_STEEPEST / steepest)
    return _flow(velocity.astype(np.float32))


def _smooth(control: npt.NDArray[np.float64], size: Sequence[int]) -> npt.NDArray[np.float64]:
    """Cubic splines through control points, the outer ones on the outer voxels."""
    spline = CubicSpline(np.arange(_GRID), np.eye(_GRID))
    for axis, n in enumerate(size, start=1):
        weights = spline(np.linspace(0, _GRID - 1, n))
        control = np.moveaxis(np.tensordot(weights, control, axes=(1, axis)), 0, axis)
    return control


def _steepest_change(field: npt.NDArray[np.float64]) -> float:
    """Largest norm of the derivative of a vector field ``(d, *size)``."""
    axes = [axis for axis, n in enumerate(field.shape[1:], start=1) if n > 1]
    squares = [np.square(np.gradient(field, axis=axis)).sum(axis=0) for axis in axes]
    return float(np.sqrt(np.sum(squares, axis=0).max())) if squares else 0.0


def _flow(velocity: Array) -> Array:
    """exp(velocity) - identity. Beyond the border the displacement is that of the border."""
    size = velocity.shape[1:]
    displacement = torch.from_numpy(velocity)[None] / 2**_SQUARINGS
    # grid_sample counts from -1 to 1 and names the last axis first.
    ends = [torch.linspace(-1, 1, n) for n in size]
    identity = torch.stack(torch.meshgrid(*ends, indexing="ij")[::-1], dim=-1)
    half = torch.tensor([max(n - 1, 1) / 2 for n in size[::-1]])
    for _ in range(_SQUARINGS):
        moved = identity + displacement[0].flip(0).movedim(0, -1) / half
        displacement = displacement + functional.grid_sample(
            displacement, moved[None], padding_mode="border", align_corners=True
        )
    result: Array = displacement[0].numpy()
    return result
