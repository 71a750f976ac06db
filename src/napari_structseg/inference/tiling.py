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
        """Whether the tile has a say about a voxel of ``region``."""
        return all(
            bool(
                profile[max(theirs.start - ours.start, 0) : max(theirs.stop - ours.start, 0)].any()
            )
            for ours, theirs, profile in zip(self.region, region, self.profiles, strict=True)
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
        In order of position, last axis fastest. Their weights add up to one at every voxel. One
        hands over to the next midway between their middles, over half the overlap: what lies
        nearer to the end of a tile is seen with more context by its neighbour.

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
    seams = [(first + width + second) / 2 for first, second in itertools.pairwise(starts)]
    # The share of everything behind each seam, from 0 to 1.
    centres = torch.arange(n, dtype=torch.float32) + 0.5
    blend = max(overlap / 2, 1)
    shares = [((centres - seam) / blend + 0.5).clamp(0, 1) for seam in seams]
    behind = [torch.ones(n), *shares, torch.zeros(n)]
    return [
        (slice(start, start + width), (behind[i] - behind[i + 1])[start : start + width])
        for i, start in enumerate(starts)
    ]
