"""The latent prior p(z | x) of an image of any size: that of one pass, in pieces that fit.

What a prior net says about an image is linear in the average of its coarsest features over space.
Its layers are local, so a piece that is read with a margin as wide as the net sees gives the same
features as the whole image. Every voxel counts once.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_structseg.distributions import Region
from napari_structseg.models.encoder import LatentEncoder

# Bytes that the finest features of a piece may take, of which three are alive at a time.
_PIECE_BYTES = 1 << 29
_ALIVE = 3


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an image.

    Attributes
    ----------
    read
        What the net is shown, margin included, in voxels.
    inner
        What counts of its coarsest features.
    """

    read: Region
    inner: Region


def voxels_of_a_piece(n_features: int) -> int:
    """How many voxels a piece may have, for so many features at the finest level."""
    return max(1, _PIECE_BYTES // (_ALIVE * torch.float32.itemsize * n_features))


def piece_bytes(n_features: int, n_voxels: int) -> int:
    """Memory that the prior net takes for an image of so many voxels."""
    voxels = min(n_voxels, voxels_of_a_piece(n_features))
    return voxels * n_features * _ALIVE * torch.float32.itemsize


def make_pieces(shape: Sequence[int], stride: int, reach: int, most_voxels: int) -> list[Piece]:
    """Cut an image into pieces whose inner parts cover it once.

    Parameters
    ----------
    shape
        Of the image.
    stride
        Voxels that the coarsest level sees as one, along each axis.
    reach
        How far the net sees beyond them, in voxels.
    most_voxels
        That a piece should not exceed, margin included, unless it would be mostly margin.
    """
    margin = -(-reach // stride)
    coarse = [-(-size // stride) for size in shape]
    core = list(coarse)

    def read_size(axis: int) -> int:
        return min(shape[axis], (core[axis] + 2 * margin) * stride)

    while math.prod(map(read_size, range(len(shape)))) > most_voxels:
        axis = max(range(len(shape)), key=core.__getitem__)
        if core[axis] <= max(1, margin):
            break
        core[axis] = -(-core[axis] // 2)
    axes = []
    for size, n_coarse, width in zip(shape, coarse, core, strict=True):
        parts = []
        for start in range(0, n_coarse, width):
            stop = min(start + width, n_coarse)
            first, last = max(0, start - margin), min(n_coarse, stop + margin)
            read = slice(first * stride, min(size, last * stride))
            parts.append((read, slice(start - first, stop - first)))
        axes.append(parts)
    pieces = []
    for sides in itertools.product(*axes):
        read, inner = zip(*sides, strict=True)
        pieces.append(Piece(read, inner))
    return pieces


def latent_statistics(
    encoder: LatentEncoder,
    data: Tensor,
    pieces: Sequence[Piece],
    watched: Callable[[], AbstractContextManager[None]],
) -> Iterator[Tensor]:
    """Mean and log sigma of the prior: what one pass over the image gives.

    Parameters
    ----------
    encoder
        The prior net.
    data
        The image as the net sees it, ``(channels, *spatial)``.
    pieces
        Of :func:`make_pieces`.
    watched
        What each pass of the net runs in, so that it can be stopped.

    Yields
    ------
    Tensor
        After each piece, ``(2L,)`` of what was added so far; the last is that of the image.
    """
    device = encoder.statistics.weight.device
    total = torch.zeros(encoder.statistics.in_features, device=device)
    for piece in pieces:
        with torch.inference_mode(), watched():
            part = data[(slice(None), *piece.read)].to(device)
            features = encoder.features(part[None])[0].float()
            weights = encoder.coverage(part.shape[1:]).to(device)
            inner = (slice(None), *piece.inner)
            share = (features * weights)[inner].flatten(1).sum(dim=1)
            total = total + share / data[0].numel()
            statistics = encoder.statistics(total)
        # A copy that is made outside of inference mode is a tensor like any other.
        yield statistics.clone()
