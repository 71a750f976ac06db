"""Single voxels of an image, by their index in the flattened image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_structseg.distributions.region import Region, region_shape

IntArray = npt.NDArray[np.int64]


def within(voxels: IntArray, shape: Sequence[int], region: Region) -> tuple[IntArray, IntArray]:
    """Which of some voxels lie in a region, and where.

    Parameters
    ----------
    voxels
        ``(n,)``.
    shape
        Of the image.
    region
        With steps, or without.

    Returns
    -------
    kept
        Which of them, ascending, ``(k,)``.
    inside
        Their index in the flattened region, ``(k,)``.
    """
    if all(
        range(*part.indices(size)) == range(size) for size, part in zip(shape, region, strict=True)
    ):
        return np.arange(len(voxels)), voxels
    keep = np.ones(len(voxels), bool)
    offsets = []
    for axis, (size, part) in enumerate(zip(shape, region, strict=True)):
        rest = int(np.prod(shape[axis + 1 :], dtype=np.int64))
        positions = range(*part.indices(size))
        offset = voxels // rest % size - positions.start
        keep &= (offset >= 0) & (offset % positions.step == 0)
        offsets.append(offset // positions.step)
        keep &= offsets[-1] < len(positions)
    kept = np.flatnonzero(keep).astype(np.int64)
    inner = region_shape(shape, region)
    if not len(kept):
        return kept, kept
    place = np.ravel_multi_index(tuple(offset[kept] for offset in offsets), inner)
    return kept, np.asarray(place, np.int64)


def index_of(
    voxels: IntArray, shape: Sequence[int], device: torch.device, leading: int
) -> tuple[slice | Tensor, ...]:
    """What picks voxels out of a tensor with the axes of the image behind ``leading`` others."""
    place = np.unravel_index(voxels, tuple(shape))
    return (
        *(slice(None) for _ in range(leading)),
        *(torch.from_numpy(np.ascontiguousarray(axis)).to(device) for axis in place),
    )
