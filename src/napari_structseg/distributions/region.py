"""Regions: tuples of slices over the spatial axes of an image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

Region = tuple[slice, ...]


def whole(spatial_shape: Sequence[int]) -> Region:
    """The region that is the whole image."""
    return tuple(slice(0, size) for size in spatial_shape)


def region_shape(spatial_shape: Sequence[int], region: Region) -> tuple[int, ...]:
    """Shape of an array cut out by ``region``.

    Raises
    ------
    ValueError
        If the region has another number of axes than the image.
    """
    if len(region) != len(spatial_shape):
        raise ValueError(f"a region of {len(region)} axes does not fit {tuple(spatial_shape)}")
    return tuple(
        len(range(*part.indices(size))) for part, size in zip(region, spatial_shape, strict=True)
    )


def slice_region(spatial_shape: Sequence[int], axis: int, position: int) -> Region:
    """The region of one slice: ``position`` on ``axis``, everything on the others.

    The axis is kept, with length 1.
    """
    region = list(whole(spatial_shape))
    position = min(max(position, 0), spatial_shape[axis] - 1)
    region[axis] = slice(position, position + 1)
    return tuple(region)


def slabs(spatial_shape: Sequence[int], voxels: int) -> Iterator[Region]:
    """Cut an image along its first axis into regions of at most ``voxels`` voxels or one slice."""
    per_slice = 1
    for size in spatial_shape[1:]:
        per_slice *= size
    thickness = max(1, voxels // per_slice)
    for start in range(0, spatial_shape[0], thickness):
        stop = min(start + thickness, spatial_shape[0])
        yield (slice(start, stop), *whole(spatial_shape[1:]))
