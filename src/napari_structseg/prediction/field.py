"""The part of an image that a network sees: where there is data, a margin, and a whole grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from napari_structseg.distributions import Region
from napari_structseg.models import ModelSpec
from napari_structseg.prediction.boxes import nonzero_box
from napari_structseg.prediction.pieces import flipped, shifted

# Zeros around the box of voxels that are not 0, in voxels: a face of the box that the network took
# for the end of the image would be called background.
MARGIN = 16


@dataclass(frozen=True, slots=True)
class Field:
    """What a network sees of an image, in RAS orientation, as in training.

    Attributes
    ----------
    data
        ``(channels, *spatial)``, every size a multiple of the network's stride.
    n_seen
        How much of it is the image and its margin; what comes after repeats the last voxels.
    box
        Where there is data, in its coordinates: elsewhere background is certain.
    origin
        Its first voxel on the grid of the whole image, in this orientation; it can be negative.
    flips
        Axes, as negative numbers, along which the image is stored the other way round.
    grid_shape
        Of the whole image.
    """

    data: Tensor
    n_seen: tuple[int, ...]
    box: Region
    origin: tuple[int, ...]
    flips: list[int]
    grid_shape: tuple[int, ...]

    @property
    def seen(self) -> Tensor:
        """Image and margin without what was repeated."""
        return self.data[(slice(None), *(slice(0, size) for size in self.n_seen))]

    @property
    def boxed(self) -> Tensor:
        """The data alone."""
        return self.data[(slice(None), *self.box)]

    def on_grid(self, region: Region) -> Region:
        """A region of the box, on the image's grid as it is stored."""
        return flipped(shifted(region, self.origin), self.grid_shape, self.flips)


def make_field(data: Tensor, spec: ModelSpec, flips: list[int]) -> Field:
    """Cut out what a network sees.

    The margin consists of the zeros that are there. Where 0 means no data, it goes on beyond the
    image, so that zeros around an image change nothing.

    Parameters
    ----------
    data
        The whole image, normalised and on the model's grid, ``(channels, *spatial)``.
    spec
        The model's.
    flips
        Axes to mirror, as negative numbers.
    """
    grid_shape = tuple(data.shape[1:])
    data = data.flip(flips) if flips else data
    box = nonzero_box(data)
    stride = stride_of(spec)
    starts, stops = [], []
    for part, size in zip(box, grid_shape, strict=True):
        margin = 0 if spec.intensity.kind == "window" else MARGIN
        start, stop = part.start - margin, part.stop + margin
        if not spec.zero_is_background:
            start, stop = max(0, start), min(size, stop)
        starts.append(start)
        stops.append(stop)
    n_seen = tuple(stop - start for start, stop in zip(starts, stops, strict=True))
    seen = data.new_zeros((len(data), *n_seen))
    source = tuple(
        slice(max(0, start), min(size, stop))
        for start, stop, size in zip(starts, stops, grid_shape, strict=True)
    )
    back = [-start for start in starts]
    seen[(slice(None), *shifted(source, back))] = data[(slice(None), *source)]
    padding = [p for size in reversed(n_seen) for p in (0, -size % stride)]
    if any(padding):
        seen = functional.pad(seen[None], padding, mode="replicate")[0]
    return Field(seen, n_seen, shifted(box, back), tuple(starts), flips, grid_shape)


def stride_of(spec: ModelSpec) -> int:
    """Voxels of the grid that the coarsest level of the network sees as one.

    Of a program, what the sizes that it takes are multiples of.
    """
    if spec.program is not None:
        return spec.program.divisor if spec.program.sizes == "multiple" else 1
    return 1 << (len(spec.backbone.widths) - 1)


def most_seen(shape: Sequence[int], spec: ModelSpec) -> tuple[int, ...]:
    """The largest field that an image of a shape can have."""
    stride, margin = stride_of(spec), 2 * MARGIN * spec.zero_is_background
    return tuple(-(-(size + margin) // stride) * stride for size in shape)


def working_bytes(spec: ModelSpec, shape: Sequence[int], n_passes: int, n_kept: int) -> int:
    """Memory that the features of a network take beside the maps of a prediction.

    Parameters
    ----------
    spec
        The model's.
    shape
        Of the grid of the whole image.
    n_passes
        Passes, each of which keeps reduced features.
    n_kept
        Passes whose finest features are kept.
    """
    voxels, widths = math.prod(most_seen(shape, spec)), spec.backbone.widths
    folds = 2**spec.dimensions
    # At each coarser level: the features of the way down, both inputs of the way up and its result.
    coarser = sum(4 * width / folds**level for level, width in enumerate(widths) if level)
    finest = n_kept * widths[0]
    if spec.backbone.norm == "instance":
        finest = max(finest, 3 * widths[0])
    features = coarser + finest + n_passes * widths[0] / folds
    return int(voxels * (features + len(spec.channels)) * torch.float32.itemsize)
