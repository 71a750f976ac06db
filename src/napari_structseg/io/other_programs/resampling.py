"""Probabilities from the grid of nnU-Net's first version's network onto that of the cropped image.

As its `resample_data_or_seg` does it: linearly; where one axis is more than three times as coarse
as the finest, slice by slice, and to the nearest slice along that axis.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

# From nnU-Net's RESAMPLING_SEPARATE_Z_ANISO_THRESHOLD.
_ANISOTROPIC = 3


def resampled(
    maps: npt.NDArray[np.float32], shape: Sequence[int], spacing: Sequence[float]
) -> npt.NDArray[np.float32]:
    """Maps on another grid over the same field of view.

    Parameters
    ----------
    maps
        ``(C, z, y, x)``.
    shape
        Of the new grid.
    spacing
        mm between the voxels of the image, in the same order.

    Returns
    -------
    array
        ``(C, *shape)``.
    """
    steps = np.asarray(spacing, np.float64)
    coarse = np.flatnonzero(steps == steps.max())
    by_slice = steps.max() / steps.min() > _ANISOTROPIC and len(coarse) == 1
    result = np.empty((len(maps), *shape), np.float32)
    for one, channel in zip(result, maps, strict=True):
        one[:] = _by_slice(channel, shape, int(coarse[0])) if by_slice else _linear(channel, shape)
    return result


def _linear(channel: npt.NDArray[np.float32], shape: Sequence[int]) -> npt.NDArray[np.float32]:
    from skimage.transform import resize

    return np.asarray(resize(channel, tuple(shape), 1, mode="edge", anti_aliasing=False))


def _by_slice(
    channel: npt.NDArray[np.float32], shape: Sequence[int], axis: int
) -> npt.NDArray[np.float32]:
    slices = np.moveaxis(channel, axis, 0)
    flat = [size for other, size in enumerate(shape) if other != axis]
    inside = np.stack([_linear(one, flat) for one in slices])
    # Where the middle of each new slice lies among the old ones.
    middles = (np.arange(shape[axis]) + 0.5) * len(slices) / shape[axis] - 0.5
    # As map_coordinates rounds: half a slice goes up.
    nearest = np.clip(np.floor(middles + 0.5).astype(int), 0, len(slices) - 1)
    return np.moveaxis(inside[nearest], 0, axis)
