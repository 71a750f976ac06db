"""A program on one image: tiles of a size that it takes, whose parameters are blended.

Nothing is known of a program's layers, so that it is run on whole tiles. Where tiles overlap, mean,
factor and diagonal are each an average, weighted towards the middle of a tile. It is the
parameters that are averaged, before anything is drawn of them: averages of samples would be less
diverse there than elsewhere.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from napari_structseg.distributions import Region
from napari_structseg.errors import WeightsError
from napari_structseg.models import LogitParameters, ModelSpec, SegmentationNetwork
from napari_structseg.models.program_spec import ProgramSpec
from napari_structseg.prediction.field import Field
from napari_structseg.prediction.maps.parameter_maps import ParameterMaps
from napari_structseg.prediction.network_run import Watch
from napari_structseg.prediction.pieces import touch, within

# Weight of the outermost voxel of a tile beside 1 in its middle, for each axis.
_LEAST_WEIGHT = 0.01


@dataclass(frozen=True, slots=True)
class _Sums:
    """Weighted sums over the tiles so far, on the box where there is data.

    Attributes
    ----------
    weight
        ``(*spatial)``.
    parts
        Mean, diagonal and factor as far as there are, flattened to ``(K, *spatial)``.
    """

    weight: Tensor
    parts: list[Tensor]


class ProgramRun:
    """Evaluates a program on a field, tile by tile.

    Parameters
    ----------
    network, spec, program
        The model.
    field
        What it sees of an image.
    """

    def __init__(
        self, network: SegmentationNetwork, spec: ModelSpec, program: ProgramSpec, field: Field
    ) -> None:
        self._network, self._spec, self.field = network, spec, field
        shape = field.data.shape[1:]
        self._size = program.tile(spec.patch, shape)
        # A field that is smaller than a tile has zeros around it.
        missing = [max(0, ours - theirs) for ours, theirs in zip(self._size, shape, strict=True)]
        self._before = [part // 2 for part in missing]
        around = list(zip(self._before, missing, strict=True))
        padding = [part for before, all_ in reversed(around) for part in (before, all_ - before)]
        self._data = functional.pad(field.data, padding)
        self._box = tuple(
            slice(part.start + before, part.stop + before)
            for part, before in zip(field.box, self._before, strict=True)
        )
        self.pieces = [
            tile
            for tile in tiles(self._data.shape[1:], self._size, program.overlap)
            if touch(tile, self._box) and self._has_data(tile)
        ]
        self._weight = tile_weight(self._size).to(network.device)
        self._sums: _Sums | None = None

    @property
    def n_steps(self) -> int:
        """Tiles."""
        return len(self.pieces)

    def put_first(self, region: Region) -> int:
        """Begin with the tiles that touch a region of the image's grid; how many there are."""
        first = [touch(self.field.on_grid(self._seen(one)), region) for one in self.pieces]
        order = sorted(range(len(first)), key=lambda index: not first[index])
        self.pieces = [self.pieces[index] for index in order]
        return sum(first)

    def prepare(self, watch: Watch) -> Iterator[None]:
        """Nothing comes before the tiles."""
        del watch
        return iter(())

    def place(self, piece: Region) -> Region:
        """The part of the image's grid that a tile says something about."""
        return self.field.on_grid(self._seen(piece))

    def write(self, piece: Region, maps: ParameterMaps, watch: Watch) -> str | None:
        """Blend a tile into the maps; what is not finite of it, nothing: None."""
        with torch.inference_mode(), watch():
            shown = self._data[(slice(None), *piece)].to(self._network.device)[None]
            parameters = self._network(shown)
            wrong = parameters.first_not_finite()
            if wrong is not None:
                return str(wrong)
            self._check_size(parameters)
            part = tuple(
                slice(max(ours.start, box.start), min(ours.stop, box.stop))
                for ours, box in zip(piece, self._box, strict=True)
            )
            blended = self._blended(parameters, within(part, piece), within(part, self._box))
            region = self._in_field(part)
            counts = None
            if self._spec.zero_is_background:
                data = self.field.data[(slice(None), *region)]
                counts = (data != 0).any(dim=0).flip(self.field.flips).to(self._weight.device)
            maps.write(self.field.on_grid(region), blended.flip(self.field.flips), counts)
        return None

    def _blended(self, parameters: LogitParameters, tile: Region, box: Region) -> LogitParameters:
        """The average so far, of a part of the tile that lies so in the box."""
        given = {
            name: getattr(parameters, name)
            for name in ("mean", "diagonal", "factor")
            if getattr(parameters, name) is not None
        }
        parts = [one[0].flatten(0, -1 - len(tile)) for one in given.values()]
        if len(self.pieces) == 1:
            averages = [one[(slice(None), *tile)] for one in parts]
        else:
            sums = self._sums or self._make_sums(parts)
            self._sums = sums
            weight = self._weight[tile]
            sums.weight[box] += weight
            for total, one in zip(sums.parts, parts, strict=True):
                total[(slice(None), *box)] += weight * one[(slice(None), *tile)]
            averages = [total[(slice(None), *box)] / sums.weight[box] for total in sums.parts]
        shaped = {
            name: one.reshape(1, *given[name].shape[1 : -len(tile)], *one.shape[1:])
            for name, one in zip(given, averages, strict=True)
        }
        return LogitParameters(**shaped)

    def _make_sums(self, parts: Sequence[Tensor]) -> _Sums:
        shape = [part.stop - part.start for part in self._box]
        device = self._weight.device
        sums = [torch.zeros(len(one), *shape, device=device) for one in parts]
        return _Sums(torch.zeros(shape, device=device), sums)

    def _check_size(self, parameters: LogitParameters) -> None:
        found = tuple(parameters.mean.shape[2:])
        if found != self._size:
            raise WeightsError(
                f"The program of {self._spec.name!r} was shown {self._size} voxels and returned "
                f"{found}: it has to return as many. Pad inside the network, or crop its input."
            )

    def _has_data(self, tile: Region) -> bool:
        return not self._spec.zero_is_background or bool(self._data[(slice(None), *tile)].any())

    def _seen(self, tile: Region) -> Region:
        """The part of a tile that lies in the box, in the field's coordinates."""
        part = tuple(
            slice(max(ours.start, box.start), min(ours.stop, box.stop))
            for ours, box in zip(tile, self._box, strict=True)
        )
        return self._in_field(part)

    def _in_field(self, part: Region) -> Region:
        pairs = zip(part, self._before, strict=True)
        return tuple(slice(one.start - by, one.stop - by) for one, by in pairs)


def tiles(shape: Sequence[int], size: Sequence[int], overlap: float) -> list[Region]:
    """Tiles of one size that cover a field, evenly spaced, overlapping at least by a share.

    Parameters
    ----------
    shape
        Of the field, nowhere smaller than a tile.
    size
        Of a tile.
    overlap
        Least share of a tile that the next one overlaps along each axis.
    """
    axes = []
    for whole, tile in zip(shape, size, strict=True):
        step = max(1, int(tile * (1 - overlap)))
        n = 1 + -(-(whole - tile) // step)
        starts = [round(index * (whole - tile) / max(1, n - 1)) for index in range(n)]
        axes.append([slice(start, start + tile) for start in starts])
    return list(itertools.product(*axes))


def tile_weight(size: Sequence[int]) -> Tensor:
    """Weights of a tile's voxels, ``(*size)``: 1 in the middle, falling linearly outwards."""
    weight = torch.ones(())
    for one in size:
        distance = (torch.arange(one) + 0.5) / one
        axis = (2 * torch.minimum(distance, 1 - distance)).clamp(min=_LEAST_WEIGHT)
        weight = weight[..., None] * axis
    return weight


def program_bytes(spec: ModelSpec, program: ProgramSpec, shape: Sequence[int]) -> int:
    """Memory of a run beside the maps: sums, the program, and the parameters of a tile.

    What the program itself takes for a tile is not known.
    """
    n_maps = spec.n_classes * (1 + spec.head.is_stochastic * (1 + spec.head.factor_rank))
    size = program.tile(spec.patch, shape)
    # A head of our own reads features of a small U-Net.
    n_features = 6 * spec.backbone.widths[0] * program.head_is_own
    tile = math.prod(size) * (len(spec.channels) + 2 * n_maps + n_features)
    sums = 0 if all(a <= b for a, b in zip(shape, size, strict=True)) else math.prod(shape)
    floats = tile + sums * (1 + n_maps)
    return floats * torch.float32.itemsize + 3 * program.n_bytes
