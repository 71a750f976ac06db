"""Pieces of a grid, and regions within regions."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from napari_structseg.distributions import Region


def cut(shape: Sequence[int], size: Sequence[int]) -> list[Region]:
    """Pieces that cover a grid once, in order of position, the last axis fastest.

    Parameters
    ----------
    shape
        Of the grid.
    size
        Of a piece; the last ones along each axis may be smaller.

    Raises
    ------
    ValueError
        If a size is not positive.
    """
    if min(size) < 1:
        raise ValueError(f"pieces need at least one voxel along each axis, not {tuple(size)}")
    axes = [
        [slice(start, min(start + width, n)) for start in range(0, n, width)]
        for n, width in zip(shape, size, strict=True)
    ]
    return list(itertools.product(*axes))


def grown(region: Region, margin: int, shape: Sequence[int]) -> Region:
    """A region with so many voxels around it, where the grid has them."""
    return tuple(
        slice(max(0, part.start - margin), min(size, part.stop + margin))
        for part, size in zip(region, shape, strict=True)
    )


def halved(region: Region) -> Region:
    """The same region on a grid of half the size; its ends are even."""
    return tuple(slice(part.start // 2, part.stop // 2) for part in region)


def within(region: Region, base: Region) -> Region:
    """A region in the coordinates of another that contains it."""
    return tuple(
        slice(part.start - other.start, part.stop - other.start)
        for part, other in zip(region, base, strict=True)
    )


def shifted(region: Region, offset: Sequence[int]) -> Region:
    """A region moved by so many voxels."""
    return tuple(
        slice(part.start + by, part.stop + by) for part, by in zip(region, offset, strict=True)
    )


def flipped(region: Region, shape: Sequence[int], axes: Sequence[int]) -> Region:
    """A region of a grid that is mirrored along some axes, given as negative numbers."""
    mirrored = list(region)
    for axis in axes:
        part, size = region[axis], shape[axis]
        mirrored[axis] = slice(size - part.stop, size - part.start)
    return tuple(mirrored)


def touch(one: Region, other: Region) -> bool:
    """Whether two regions share a voxel."""
    return all(
        ours.start < theirs.stop and theirs.start < ours.stop
        for ours, theirs in zip(one, other, strict=True)
    )
