"""The U-Net backbone, in 2-D and 3-D.

Ronneberger, Fischer and Brox, *U-Net: Convolutional Networks for Biomedical Image
Segmentation*, MICCAI 2015.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_structseg.models.backbone_spec import BackboneSpec
from napari_structseg.models.fresh_weights import kaiming_normal_
from napari_structseg.models.standardised import StandardisedConv, preserving_gain

NEGATIVE_SLOPE = 0.01
N_INNERMOST = 3
_CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}
_BATCH_NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
Dropout = Callable[[Tensor, int], Tensor]
"""Features of a block, given them and the number of the block."""

POOL = {2: functional.avg_pool2d, 3: functional.avg_pool3d}
UPSAMPLING = {2: "bilinear", 3: "trilinear"}


def _norm(kind: str, dimensions: int, width: int) -> list[nn.Module]:
    if kind == "instance":
        # One group per channel is instance normalisation; on CPU its backward pass is
        # about ten times faster than that of InstanceNorm3d.
        return [nn.GroupNorm(width, width)]
    if kind == "batch":
        return [_BATCH_NORM[dimensions](width)]
    return []


def _convolution(n_in: int, width: int, norm: str, dimensions: int) -> nn.Module:
    layer = _CONVOLUTION[dimensions](
        n_in, width, 3, padding=1, bias=norm not in ("instance", "batch")
    )
    kaiming_normal_(layer.weight, a=NEGATIVE_SLOPE)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def convolutions(
    n: int, n_in: int, width: int, norm: str, dimensions: int, *, of_image: bool = False
) -> nn.Sequential:
    """Convolutions of one level, each with normalisation and leaky ReLU.

    Parameters
    ----------
    n
        How many.
    n_in, width
        Input and output channels.
    norm
        As in :class:`BackboneSpec`.
    dimensions
        2 or 3.
    of_image
        Whether the input is the image itself: standardised weights would not see how bright it
        is, so its convolution has plain ones.
    """
    layers: list[nn.Module] = []
    for index in range(n):
        inputs = n_in if index == 0 else width
        if norm == "weight" and not (of_image and index == 0):
            gain = preserving_gain(NEGATIVE_SLOPE)
            layers.append(StandardisedConv(dimensions, inputs, width, gain))
        else:
            layers.append(_convolution(inputs, width, norm, dimensions))
        layers += _norm(norm, dimensions, width)
        layers.append(nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True))
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """Features at every pixel or voxel, from several scales.

    Average pooling on the way down, a 1x1 convolution and linear upsampling on the way up,
    skip connections by concatenation. Sizes that are not a multiple of :attr:`stride` are
    padded at the far end (by replication) and cropped back.

    Parameters
    ----------
    dimensions
        2 or 3.
    n_channels
        Input channels.
    spec
        Widths, convolutions per level and normalisation.
    """

    # Whether each level on the way up is added to what comes from the coarser one.
    adds_coarser: ClassVar[bool] = False

    def __init__(self, dimensions: int, n_channels: int, spec: BackboneSpec) -> None:
        super().__init__()
        self.dimensions = dimensions
        self.n_channels = n_channels
        self.n_features = spec.widths[0]
        self.stride = 2 ** (len(spec.widths) - 1)
        inputs = (n_channels, *spec.widths[:-1])
        self.down = nn.ModuleList(
            convolutions(n, n_in, width, spec.norm, dimensions, of_image=level == 0)
            for level, (n, n_in, width) in enumerate(
                zip(spec.convolutions, inputs, spec.widths, strict=True)
            )
        )
        finer = list(zip(spec.convolutions, spec.widths, spec.widths[1:], strict=False))[::-1]
        self.reduce = nn.ModuleList(
            _CONVOLUTION[dimensions](coarse, width, 1) for _, width, coarse in finer
        )
        self.up = nn.ModuleList(
            convolutions(n, 2 * width, width, spec.norm, dimensions) for n, width, _ in finer
        )

    def forward(self, x: Tensor, dropout: Dropout | None = None) -> Tensor:
        """Map ``(B, n_channels, *spatial)`` to ``(B, n_features, *spatial)``.

        Parameters
        ----------
        x
            The image.
        dropout
            Applied to what comes out of the innermost blocks, see :meth:`is_innermost`; None:
            nothing is.
        """
        levels = self.descend(x, dropout)
        return cropped(self.climbed(levels, len(self.up), dropout), x.shape[2:])

    @property
    def n_blocks(self) -> int:
        """Blocks of convolutions, numbered from the finest on the way down to the last."""
        return len(self.down) + len(self.up)

    def is_innermost(self, block: int) -> bool:
        """Whether a block is one of the three innermost on the way down or on the way up."""
        bottom = len(self.down)
        return bottom - N_INNERMOST <= block < bottom + N_INNERMOST

    def descend(self, x: Tensor, dropout: Dropout | None = None) -> list[Tensor]:
        """Features of every level on the way down, the finest first, as :meth:`forward` has them.

        Their sizes are those of the padded image.
        """
        padding = [p for size in reversed(x.shape[2:]) for p in (0, -size % self.stride)]
        if any(padding):
            x = functional.pad(x, padding, mode="replicate")
        finest = self._dropped(0, self.down[0](x), dropout)
        return [finest, *self.descend_further(self.pooled(finest), dropout)]

    def descend_further(self, x: Tensor, dropout: Dropout | None = None) -> list[Tensor]:
        """Features of every level but the finest, given the finest ones pooled."""
        levels: list[Tensor] = []
        for index in range(1, len(self.down)):
            x = self.pooled(levels[-1]) if levels else x
            levels.append(self._dropped(index, self.down[index](x), dropout))
        return levels

    def pooled(self, x: Tensor) -> Tensor:
        """Half as large along each axis; a single level is not halved."""
        return x if len(self.down) == 1 else POOL[self.dimensions](x, 2)

    def climbed(
        self, levels: Sequence[Tensor], n_steps: int, dropout: Dropout | None = None
    ) -> Tensor:
        """Features after some steps up.

        Parameters
        ----------
        levels
            Of the way down, the coarsest last; as many as the steps need.
        n_steps
            How many.
        dropout
            As in :meth:`forward`.
        """
        inner = levels[-1]
        for index in range(n_steps):
            inner = self.ascend(index, inner, levels[-2 - index])
            inner = self._dropped(len(self.down) + index, inner, dropout)
        return inner

    def _dropped(self, block: int, x: Tensor, dropout: Dropout | None) -> Tensor:
        return x if dropout is None or not self.is_innermost(block) else dropout(x, block)

    def ascend(self, index: int, x: Tensor, skip: Tensor) -> Tensor:
        """Features of the next finer level on the way up.

        Parameters
        ----------
        index
            Of the step, from 0 at the coarsest level.
        x
            Features of the coarser level.
        skip
            Those of the finer one on the way down.
        """
        return self.merged(index, self.enlarged(index, x, skip), skip)

    def merged(self, index: int, enlarged: Tensor, skip: Tensor) -> Tensor:
        """The second half of :meth:`ascend`: what the convolutions make of both."""
        finer: Tensor = self.up[index](torch.cat([enlarged, skip], dim=1))
        return enlarged + finer if self.adds_coarser else finer

    def enlarged(self, index: int, x: Tensor, skip: Tensor) -> Tensor:
        """Features of the coarser level with the channels and the size of the finer one."""
        mode = UPSAMPLING[self.dimensions]
        return functional.interpolate(self.reduce[index](x), size=skip.shape[2:], mode=mode)


def cropped(features: Tensor, spatial_shape: Sequence[int]) -> Tensor:
    """Features without what the image was padded with at the far end."""
    inside: tuple[slice, ...] = tuple(slice(0, size) for size in spatial_shape)
    return features[(slice(None), slice(None), *inside)]
