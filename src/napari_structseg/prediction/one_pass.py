"""One U-Net over one image of any size: what a single pass gives, in pieces that fit.

An image is not cut into tiles: the *levels* of the network are. The coarser ones are small and
evaluated whole; the second on the way up only where it is needed, since a first slice needs little
of it. The finest, where memory and much of the work go, is evaluated piece by piece:
a piece is read with a margin as wide as the convolutions of this level alone, one voxel each, and
zeros follow only where the image ends. So each piece is final, nothing is blended, and whatever
the size of the pieces, they are what one pass over the image gives, to rounding.

Instance normalisation takes its statistics from the whole image: the finest level is then
evaluated layer by layer, each of them whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from napari_structseg.distributions import Region
from napari_structseg.models import LogitParameters
from napari_structseg.models.folded import FoldedLayer, channels_last, folded, pooled_by_two
from napari_structseg.models.passes import Pass
from napari_structseg.models.unet import UNet
from napari_structseg.prediction.levels import (
    SecondLevel,
    convolved,
    enlarged,
    faces_of,
    part_of,
)
from napari_structseg.prediction.moments import Moments
from napari_structseg.prediction.pieces import cut, grown, halved, within

Read = Callable[[Region], Tensor]


@dataclass(slots=True)
class Descent:
    """The way down.

    Attributes
    ----------
    finest
        Features of the finest level, ``(1, F, *spatial)``; None: they are computed again
        wherever they are needed.
    coarser
        Features of the other levels.
    """

    finest: Tensor | None = None
    coarser: list[Tensor] = field(default_factory=list)


class OnePass:
    """Evaluates a pass.

    Parameters
    ----------
    one
        The pass.
    seen
        The image as the network sees it, ``(channels, *spatial)``; every size is a multiple of
        the U-Net's stride.
    size
        Of a piece.
    keeps
        Whether the finest features on the way down are kept.
    dtype
        What the features are computed in: float32, or bfloat16. Heads are always in float32.
    descent
        The way down of a pass that is prepared before and shares it; None: it has its own.
    """

    def __init__(
        self,
        one: Pass,
        seen: Tensor,
        size: Sequence[int],
        *,
        keeps: bool,
        dtype: torch.dtype = torch.float32,
        descent: Descent | None = None,
    ) -> None:
        self._pass = one
        self._net: UNet = one.backbone
        self._seen = seen
        self._shape = tuple(seen.shape[1:])
        self._pieces = cut(self._shape, [part + part % 2 for part in size])
        self._dtype = dtype
        self._down_layers = folded(self._net.down[0], dtype)
        self._up_layers = folded(self._net.up[-1], dtype) if self._net.up else []
        self._has_statistics = any(layer.norm is not None for layer in self._down_layers)
        self._keeps = keeps or self._has_statistics
        self._shared = descent is not None
        self.descent = Descent() if descent is None else descent
        # Of the coarser level on the way up, with as many channels as the finest.
        self._reduced: Tensor | None = None
        # Of the finest level on the way up, where instance normalisation made them whole.
        self._last: Tensor | None = None
        self._nothing: dict[object, Tensor] = {}
        self._second: SecondLevel | None = None
        if not self._has_statistics and SecondLevel.suits(self._net):
            self._second = SecondLevel(self._net, one.masks, self._shape, size, dtype)
        self._device = next(self._net.parameters()).device

    @property
    def n_steps(self) -> int:
        """Steps of :meth:`prepare`."""
        n, net = len(self._pieces), self._net
        if not self._has_statistics and not net.up:
            return 0
        layers = len(self._down_layers) if self._has_statistics else 1
        steps = 0 if self._shared else n * layers
        if net.up:
            steps += 1 + self._has_statistics * n * len(self._up_layers)
        return steps

    def prepare(self) -> Iterator[None]:
        """Evaluate all but the finest level on the way up, in steps; run in inference mode."""
        net = self._net
        if not self._has_statistics and not net.up:
            return
        if not self._shared:
            yield from self._descend()
        if not net.up:
            return
        with self._precision():
            # The second level is evaluated where a piece needs it, if it can be.
            steps = len(net.up) - 1 - (self._second is not None)
            coarse = net.reduce[steps](self._pass.climb(self.descent.coarser, steps))
        coarse = channels_last(coarse.to(self._dtype))
        if self._second is None:
            self._reduced = coarse
        else:
            self._second.begin(coarse, self.descent.coarser[0])
        yield
        if self._has_statistics:
            out = self._empty(self._shape)
            yield from self._whole(self._up_layers, self._beside_skip, out)
            self._last = out
            self.descent.finest = None

    def __call__(self, region: Region) -> LogitParameters:
        """Parameters of a region, a batch of one; run in inference mode."""
        return self._pass.head(self._features(region).float())

    def _features(self, region: Region) -> Tensor:
        net = self._net
        if not net.up:
            return self._skip(region)
        if self._last is not None:
            return self._dropped(net.n_blocks - 1, part_of(self._last, region), region)
        wide = grown(region, len(self._up_layers), self._shape)
        coarser = self._enlarged(wide)
        both = torch.cat([coarser, self._skip(wide)], dim=1)
        features = convolved(self._up_layers, both, region, self._shape)
        if net.adds_coarser:
            features += part_of(coarser, within(region, wide))
        return self._dropped(net.n_blocks - 1, features, region)

    def _descend(self) -> Iterator[None]:
        net, descent = self._net, self.descent
        if self._keeps:
            descent.finest = self._empty(self._shape)
        if self._has_statistics and descent.finest is not None:
            yield from self._whole(self._down_layers, self._image, descent.finest)
            if not net.up:
                return
        pooled = self._empty([size // 2 for size in self._shape])
        for piece in self._pieces:
            if self._has_statistics:
                features = self._skip(piece)
            else:
                features = self._down(piece)
                if descent.finest is not None:
                    part_of(descent.finest, piece).copy_(features)
            part_of(pooled, halved(piece)).copy_(pooled_by_two(features))
            if not self._has_statistics:
                yield
        with self._precision():
            descent.coarser = net.descend_further(pooled, self._pass.masks)

    def _whole(self, layers: Sequence[FoldedLayer], read: Read, out: Tensor) -> Iterator[None]:
        """Convolutions with instance normalisation, layer by layer, into ``out``."""
        for index, layer in enumerate(layers):
            if layer.norm is None:
                raise TypeError("instance normalisation was expected after each convolution")
            target = out if index == len(layers) - 1 else torch.empty_like(out)
            moments = Moments()
            for piece in self._pieces:
                wide = grown(piece, 1, self._shape)
                features = layer.convolve(read(wide), faces_of(piece, self._shape))
                moments.add(features)
                part_of(target, piece).copy_(features)
                yield
            for piece in self._pieces:
                layer.activate_(moments.normalise_(part_of(target, piece), layer.norm))
            read = _reader(target)

    def _precision(self) -> torch.autocast:
        enabled = self._dtype != torch.float32
        return torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=enabled)

    def _empty(self, shape: Sequence[int]) -> Tensor:
        size = (1, self._net.n_features, *shape)
        return channels_last(torch.empty(size, dtype=self._dtype, device=self._device))

    def _image(self, region: Region) -> Tensor:
        part = self._seen[(slice(None), *region)].to(self._device)
        beside = self._pass.beside
        if beside is not None:
            ones = [1] * len(self._shape)
            beside = beside.to(self._device).reshape(-1, *ones).expand(-1, *part.shape[1:])
            part = torch.cat([part, beside])
        return channels_last(part[None].to(self._dtype))

    def _down(self, region: Region) -> Tensor:
        wide = grown(region, len(self._down_layers), self._shape)
        if self._seen[(slice(None), *wide)].any():
            features = convolved(self._down_layers, self._image(wide), region, self._shape)
        else:
            features = self._of_nothing(wide, region)
        return self._dropped(0, features, region)

    def _of_nothing(self, wide: Region, region: Region) -> Tensor:
        """Features where all is 0: the same for all regions that lie alike to the faces."""
        margins = range(len(self._down_layers))
        faces = [
            tuple(faces_of(grown(region, margin, self._shape), self._shape)) for margin in margins
        ]
        sizes = tuple(part.stop - part.start for part in wide)
        key = (sizes, tuple(faces))
        if key not in self._nothing:
            features = convolved(self._down_layers, self._image(wide), region, self._shape)
            self._nothing[key] = features
        return self._nothing[key]

    def _skip(self, region: Region) -> Tensor:
        if self.descent.finest is None:
            return self._down(region)
        part = part_of(self.descent.finest, region)
        return self._dropped(0, part, region) if self._has_statistics else part

    def _enlarged(self, region: Region) -> Tensor:
        if self._second is not None:
            reduced = self._second.around(region)
        elif self._reduced is not None:
            reduced = self._reduced
        else:
            raise RuntimeError("prepare comes first")
        return enlarged(reduced, region, self._shape)

    def _beside_skip(self, region: Region) -> Tensor:
        return torch.cat([self._enlarged(region), self._skip(region)], dim=1)

    def _dropped(self, block: int, features: Tensor, region: Region) -> Tensor:
        masks = self._pass.masks
        if masks is None or not self._net.is_innermost(block):
            return features
        return masks(features, block, self._shape, region)


def _reader(features: Tensor) -> Read:
    return lambda region: part_of(features, region)
