"""A block of convolutions as prediction runs it: plain kernels, and no voxel computed in vain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_structseg.models.standardised import StandardisedConv

_CONVOLVE = {2: functional.conv2d, 3: functional.conv3d}
_CHANNELS_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}


@dataclass(frozen=True, slots=True)
class FoldedLayer:
    """A convolution of three voxels an axis, and what follows it.

    Attributes
    ----------
    kernel, bias
        With batch normalisation and the standardisation of weights folded in.
    norm
        A normalisation by statistics of the image, which cannot be; None: there is none.
    negative_slope
        Of the leaky ReLU.
    """

    kernel: Tensor
    bias: Tensor
    norm: nn.GroupNorm | None
    negative_slope: float

    def convolve(self, x: Tensor, faces: Sequence[tuple[bool, bool]]) -> Tensor:
        """The convolution alone.

        Parameters
        ----------
        x
            ``(1, F, *spatial)``.
        faces
            For each axis whether the image ends at its two faces. Zeros follow there; elsewhere
            the result is a voxel smaller.
        """
        n_axes = len(faces)
        if not any(map(any, faces)):
            return _convolved(x, self.kernel, self.bias, 0)
        inside = tuple(slice(0 if first else 1, None if last else -1) for first, last in faces)
        if all(map(all, faces)):
            return _convolved(x, self.kernel, self.bias, 1)
        return _convolved(x, self.kernel, self.bias, 1)[(..., *inside[-n_axes:])]

    def activate_(self, x: Tensor) -> Tensor:
        """Leaky ReLU in place."""
        return functional.leaky_relu_(x, self.negative_slope)


def folded(block: nn.Module, dtype: torch.dtype = torch.float32) -> list[FoldedLayer]:
    """The layers of a block of :func:`unet.convolutions`, in evaluation mode.

    Parameters
    ----------
    block
        Convolutions, each with normalisation or without, and with leaky ReLU.
    dtype
        Of their kernels, and of what they are applied to.

    Raises
    ------
    TypeError
        If it holds anything else.
    """
    return [
        replace(layer, kernel=channels_last(layer.kernel.to(dtype)), bias=layer.bias.to(dtype))
        for layer in _layers(list(block.children()))
    ]


def channels_last(x: Tensor) -> Tensor:
    """The same in the layout that convolutions are fastest in, ``(B, F, *spatial)``."""
    return x.contiguous(memory_format=_CHANNELS_LAST[x.ndim - 2])


def pointwise(x: Tensor, layer: nn.Module) -> Tensor:
    """A convolution of single voxels in the precision of its input."""
    kernel, bias = _plain(layer)
    return _convolved(x, channels_last(kernel.to(x.dtype)), bias.to(x.dtype), 0)


def n_inputs(layer: nn.Module) -> int:
    """Channels that a convolution takes."""
    return _plain(layer)[0].shape[1]


def pooled_by_two(x: Tensor) -> Tensor:
    """The average of two voxels along each axis, ``(B, F, *spatial)`` of even sizes."""
    n, width = x.ndim - 2, x.shape[1]
    # On a processor, pooling with channels last is some twenty times as slow as this.
    kernel = x.new_full((width, 1, *[2] * n), 0.5**n)
    if _has_fast_convolutions(x):
        return torch.mkldnn_convolution(x, kernel, None, [0] * n, [2] * n, [1] * n, width)
    result: Tensor = _CONVOLVE[n](x, kernel, stride=2, groups=width)
    return result


def _has_fast_convolutions(x: Tensor) -> bool:
    return x.device.type == "cpu" and torch.backends.mkldnn.is_available()


def _layers(children: Sequence[nn.Module]) -> Iterator[FoldedLayer]:
    remaining = list(children)
    while remaining:
        kernel, bias = _plain(remaining.pop(0))
        norm: nn.GroupNorm | None = None
        following = remaining.pop(0)
        if isinstance(following, nn.GroupNorm):
            norm, following = following, remaining.pop(0)
        elif isinstance(following, nn.BatchNorm2d | nn.BatchNorm3d):
            kernel, bias = _with_batch_norm(kernel, bias, following)
            following = remaining.pop(0)
        if not isinstance(following, nn.LeakyReLU):
            raise TypeError(f"leaky ReLU was expected, not {type(following).__name__}")
        yield FoldedLayer(kernel, bias, norm, following.negative_slope)


def _plain(layer: nn.Module) -> tuple[Tensor, Tensor]:
    if isinstance(layer, StandardisedConv):
        return layer.kernel().detach(), layer.bias.detach()
    if isinstance(layer, nn.Conv2d | nn.Conv3d):
        bias = layer.weight.new_zeros(len(layer.weight)) if layer.bias is None else layer.bias
        return layer.weight.detach(), bias.detach()
    raise TypeError(f"a convolution was expected, not {type(layer).__name__}")


def _with_batch_norm(
    kernel: Tensor, bias: Tensor, norm: nn.BatchNorm2d | nn.BatchNorm3d
) -> tuple[Tensor, Tensor]:
    if norm.running_mean is None or norm.running_var is None:
        raise TypeError("batch normalisation was expected to keep its statistics")
    scale = norm.weight.detach() * (norm.running_var + norm.eps).rsqrt()
    shift = norm.bias.detach() + (bias - norm.running_mean) * scale
    return kernel * scale.reshape(-1, *[1] * (kernel.ndim - 1)), shift


def _convolved(x: Tensor, kernel: Tensor, bias: Tensor, padding: int) -> Tensor:
    n = kernel.ndim - 2
    if _has_fast_convolutions(x):
        # For small pieces of few channels, torch chooses an implementation of its own that is
        # ten times as slow.
        ones = [1] * n
        return torch.mkldnn_convolution(x, kernel, bias, [padding] * n, ones, ones, 1)
    result: Tensor = _CONVOLVE[n](x, kernel, bias, padding=padding)
    return result
