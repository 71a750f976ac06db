"""Levels of a U-Net in pieces: convolutions, enlargement, and the second level where needed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from napari_structseg.distributions import Region
from napari_structseg.models.folded import FoldedLayer, channels_last, folded, n_inputs, pointwise
from napari_structseg.models.passes import Masks
from napari_structseg.models.unet import UPSAMPLING, UNet
from napari_structseg.prediction.pieces import cut, grown, touch, within


class SecondLevel:
    """The second finest level on the way up, evaluated where it is asked for, and kept.

    Parameters
    ----------
    net
        Without statistics of the image.
    masks
        Its dropout.
    shape
        Of the finest level.
    size
        Of a piece of the finest level: half of it is one of this level.
    dtype
        What features are computed in.
    """

    def __init__(
        self,
        net: UNet,
        masks: Masks | None,
        shape: Sequence[int],
        size: Sequence[int],
        dtype: torch.dtype,
    ) -> None:
        self._net = net
        self._masks = masks
        self._block = net.n_blocks - 2
        self._layers = folded(net.up[-2], dtype)
        self._finest_shape = tuple(shape)
        self._shape = tuple(part // 2 for part in shape)
        self._missing = cut(self._shape, [max(1, part // 2) for part in size])
        self._coarser = self._skip = self._reduced = torch.zeros(0)

    @staticmethod
    def suits(net: UNet) -> bool:
        """Whether a network has such a level, without latents of its own."""
        if len(net.up) < 2:
            return False
        return n_inputs(net.reduce[-1]) == len(folded(net.up[-2])[-1].kernel)

    def begin(self, coarser: Tensor, skip: Tensor) -> None:
        """Take what it is computed from.

        Parameters
        ----------
        coarser
            Features of the third level on the way up, as many as this one has.
        skip
            Features of this level on the way down.
        """
        self._coarser, self._skip = coarser, channels_last(skip.to(coarser.dtype))
        size = (1, self._net.n_features, *self._shape)
        empty = torch.empty(size, dtype=coarser.dtype, device=coarser.device)
        self._reduced = channels_last(empty)

    def around(self, region: Region) -> Tensor:
        """Features, as many as the finest level has; final where a region's are made of them."""
        needed = coarse_region(region, self._finest_shape)
        for piece in [one for one in self._missing if touch(one, needed)]:
            self._missing.remove(piece)
            part_of(self._reduced, piece).copy_(self._evaluated(piece))
        return self._reduced

    def _evaluated(self, piece: Region) -> Tensor:
        wide = grown(piece, len(self._layers), self._shape)
        coarser = enlarged(self._coarser, wide, self._shape)
        both = torch.cat([coarser, part_of(self._skip, wide)], dim=1)
        features = convolved(self._layers, both, piece, self._shape)
        if self._net.adds_coarser:
            features += part_of(coarser, within(piece, wide))
        if self._masks is not None and self._net.is_innermost(self._block):
            features = self._masks(features, self._block, self._shape, piece)
        return pointwise(features, self._net.reduce[-1])


def convolved(
    layers: Sequence[FoldedLayer], x: Tensor, region: Region, shape: Sequence[int]
) -> Tensor:
    """What layers give in a region, given what they read: one voxel more for each of them.

    Parameters
    ----------
    layers
        Without statistics of the image.
    x
        Features of the region grown by as many voxels as there are layers.
    region
        Of the result.
    shape
        Of the level: where it ends, zeros follow.
    """
    for margin, layer in zip(reversed(range(len(layers))), layers, strict=True):
        x = layer.convolve(x, faces_of(grown(region, margin, shape), shape))
        x = layer.activate_(x)
    return x


def faces_of(region: Region, shape: Sequence[int]) -> list[tuple[bool, bool]]:
    """For each axis, whether a region begins and ends where its level does."""
    return [(part.start == 0, part.stop == size) for part, size in zip(region, shape, strict=True)]


def coarse_region(region: Region, shape: Sequence[int]) -> Region:
    """What of the coarser level linear interpolation makes a region of.

    Parameters
    ----------
    region
        Of the finer level.
    shape
        Of the finer level, even.
    """
    return tuple(
        slice(max(0, (part.start - 1) // 2), min(size // 2, part.stop // 2 + 1))
        for part, size in zip(region, shape, strict=True)
    )


def enlarged(coarse: Tensor, region: Region, shape: Sequence[int]) -> Tensor:
    """Twice as large by linear interpolation, ``(B, F, *region)``.

    Parameters
    ----------
    coarse
        ``(B, F, *spatial)``.
    region
        Of the result.
    shape
        Of all of it, even.
    """
    read = coarse_region(region, shape)
    mode = UPSAMPLING[len(region)]
    fine = functional.interpolate(part_of(coarse, read), scale_factor=2, mode=mode)
    offset = tuple(slice(2 * part.start, 2 * part.stop) for part in read)
    return part_of(fine, within(region, offset))


def part_of(features: Tensor, region: Region) -> Tensor:
    """A region of features ``(B, F, *spatial)``."""
    return features[(slice(None), slice(None), *region)]
