"""Tiles that cover a grid, with weights that add up to one.

Parameters of the distribution are blended where tiles overlap; samples never are: a sample is
drawn once, from the parameters of the whole image. Since the weights of all tiles over a voxel
add up to one by construction, a voxel is final as soon as its last tile is done.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_structseg.distributions import Region


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile of a grid.

    Attributes
    ----------
    region
        Where it lies.
    profiles
        Blending weights along each axis, whose product is the weight of a voxel.
    """

    region: Region
    profiles: tuple[Tensor, ...]

    @property
    def weight(self) -> Tensor:
        """Blending weight of each voxel, ``(*region)``, float32."""
        weight = torch.ones(())
        for profile in self.profiles:
            weight = weight[..., None] * profile
        return weight

    def touches(self, region: Region) -> bool:
        """Whether the tile shares a voxel with ``region``."""
        return all(
            ours.start < theirs.stop and theirs.start < ours.stop
            for ours, theirs in zip(self.region, region, strict=True)
        )


def make_tiles(shape: Sequence[int], size: Sequence[int], overlap: Sequence[int]) -> list[Tile]:
    """Cover a grid with overlapping tiles.

    Parameters
    ----------
    shape
        Grid.
    size
        Size of a tile; where it exceeds the grid, the tile is the grid.
    overlap
        The least number of voxels that neighbours share, below ``size``.

    Returns
    -------
    list of Tile
        In order of position, last axis fastest. Weights are largest in the middle of a tile, where
        the context is best, and add up to one at every voxel.

    Raises
    ------
    ValueError
        If an overlap is not below its size.
    """
    axes = []
    for n, width, shared in zip(shape, size, overlap, strict=True):
        if not 0 <= shared < width:
            raise ValueError(f"overlap {shared} must lie between 0 and the tile size {width}")
        axes.append(_axis_tiles(n, min(n, width), min(shared, max(n - 1, 0))))
    tiles = []
    for parts in itertools.product(*axes):
        region, profiles = zip(*parts, strict=True)
        tiles.append(Tile(region, profiles))
    return tiles


def _axis_tiles(n: int, width: int, overlap: int) -> list[tuple[slice, Tensor]]:
    count = 1 if width >= n else -(-(n - overlap) // (width - overlap))
    starts = [round(i * (n - width) / max(count - 1, 1)) for i in range(count)]
    positions = torch.arange(n, dtype=torch.float32)
    profiles = []
    for start in starts:
        # Distance to the nearer end.
        ramp = torch.minimum(positions - start + 1, start + width - positions).clamp(min=0)
        profiles.append(ramp)
    total = torch.stack(profiles).sum(dim=0)
    return [
        (slice(start, start + width), (profile / total)[start : start + width])
        for start, profile in zip(starts, profiles, strict=True)
    ]
