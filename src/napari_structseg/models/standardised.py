"""Convolutions whose weights are standardised: normalisation without statistics of an image.

Qiao et al., *Weight Standardization*, 2019; scaled as in Brock et al., *Characterizing Signal
Propagation to Close the Performance Gap in Unnormalized ResNets*, ICLR 2021, equation 2.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

_CONVOLVE = {2: functional.conv2d, 3: functional.conv3d}
# A kernel of equal weights has no variance to divide by.
_EPSILON = 1e-8


def preserving_gain(negative_slope: float) -> float:
    """One over the standard deviation of leaky ReLU of a standard normal.

    Its variance is (1 + a^2) / 2 - (1 - a)^2 / (2 pi) at the slope a. The mean does not count:
    standardised weights sum to zero, and cancel it.
    """
    a = negative_slope
    return 1 / math.sqrt((1 + a**2) / 2 - (1 - a) ** 2 / (2 * math.pi))


class _Folded(NamedTuple):
    """A kernel, and what it was made of."""

    key: tuple[object, ...]
    kernel: Tensor


class StandardisedConv(nn.Module):
    """A convolution with kernels of mean 0 and sum of squares 1, times a learned gain.

    Of independent inputs with variance 1, whatever their common mean, the output has the
    variance of the gain squared. What it says of a voxel depends on the voxels under its kernel
    alone. A constant added to all inputs changes nothing: it is no layer for the image itself,
    whose intensities mean something.

    Parameters
    ----------
    dimensions
        2 or 3.
    n_in, n_out
        Channels.
    gain
        Of every output channel at the start.
    """

    def __init__(self, dimensions: int, n_in: int, n_out: int, gain: float) -> None:
        super().__init__()
        self._convolve = _CONVOLVE[dimensions]
        self.weight = nn.Parameter(torch.randn(n_out, n_in, *[3] * dimensions))
        self.gain = nn.Parameter(torch.full((n_out,), gain))
        self.bias = nn.Parameter(torch.zeros(n_out))
        self._folded: _Folded | None = None

    def kernel(self) -> Tensor:
        """The kernels that a plain convolution would have, ``(n_out, n_in, 3, ...)``."""
        axes = tuple(range(1, self.weight.ndim))
        fan_in = self.weight[0].numel()
        variance, mean = torch.var_mean(self.weight, axes, correction=0, keepdim=True)
        gain = self.gain.reshape(mean.shape)
        return (self.weight - mean) * (gain / (variance * fan_in + _EPSILON).sqrt())

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, n_in, *spatial)`` to ``(B, n_out, *spatial)``, with zeros beyond the edge."""
        # Weights that were made in inference mode do not say whether they have changed.
        learns = self.training or torch.is_grad_enabled() or self.weight.is_inference()
        kernel = self.kernel() if learns else self._kept_kernel()
        return self._convolve(x, kernel, self.bias, padding=1)

    def train(self, mode: bool = True) -> StandardisedConv:
        """Set the mode, and let go of the kernel."""
        self._folded = None
        super().train(mode)
        return self

    def _kept_kernel(self) -> Tensor:
        """The kernel, computed once for as long as its weights stay what they are."""
        parts = (self.weight, self.gain)
        key = tuple((one._version, one.data_ptr(), one.dtype, one.device) for one in parts)
        if self._folded is None or self._folded.key != key:
            self._folded = _Folded(key, self.kernel())
        return self._folded.kernel
