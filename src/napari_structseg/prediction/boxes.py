"""Boxes of a grid: where the data is, and regions within them."""

from __future__ import annotations

import torch
from torch import Tensor

from napari_structseg.distributions import Region


def nonzero_box(data: Tensor, least: int) -> Region:
    """Bounding box of voxels that are not 0 in every channel; everything if there are none.

    It is grown to at least ``least`` voxels an axis where the image has them: a network cannot
    normalise the features of a patch that its coarsest level sees as a single voxel.
    """
    nonzero = (data != 0).any(dim=0)
    box = []
    for axis, size in enumerate(nonzero.shape):
        others = [other for other in range(nonzero.ndim) if other != axis]
        found = torch.nonzero(nonzero.amax(dim=others))
        start, stop = (int(found[0]), int(found[-1]) + 1) if len(found) else (0, size)
        length = min(max(stop - start, least), size)
        start = min(max(0, start - (length - (stop - start)) // 2), size - length)
        box.append(slice(start, start + length))
    return tuple(box)


def inside(region: Region, box: Region) -> Region:
    """A region in the coordinates of a box; empty where they do not meet."""
    return tuple(
        slice(max(part.start - base.start, 0), part.stop - base.start)
        for part, base in zip(region, box, strict=True)
    )


def shifted(region: Region, box: Region) -> Region:
    """A region in the coordinates of a box, in those of the image."""
    return tuple(
        slice(part.start + base.start, part.stop + base.start)
        for part, base in zip(region, box, strict=True)
    )
