"""Mean and variance of the channels of an image that is seen piece by piece."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Moments:
    """Adds up pieces; what it says does not depend on how an image was cut, but for rounding.

    Chan, Golub and LeVeque, *Updating Formulae and a Pairwise Algorithm for Computing Sample
    Variances*, 1979.
    """

    def __init__(self) -> None:
        self._count = 0
        self._mean = torch.zeros(())
        self._squares = torch.zeros(())

    def add(self, features: Tensor) -> None:
        """Add a piece ``(1, F, *piece)``."""
        axes = [0, *range(2, features.ndim)]
        features = features.float()
        # torch.var_mean of a layout with channels last is twenty times as slow.
        mean = features.mean(axes, keepdim=True)
        squares = (features - mean).square_().sum(axes)
        # In double precision, on the processor: Apple's GPUs have none.
        squares, mean = squares.cpu().double(), mean.flatten().cpu().double()
        count = features[0, 0].numel()
        total = self._count + count
        apart = mean - self._mean
        self._squares = self._squares + squares + apart.square() * (self._count * count / total)
        self._mean = self._mean + apart * (count / total)
        self._count = total

    def normalise_(self, features: Tensor, norm: nn.GroupNorm) -> Tensor:
        """Apply a normalisation with a group for each channel, in place.

        Parameters
        ----------
        features
            ``(1, F, *piece)``.
        norm
            Its epsilon, weight and bias.
        """
        scale = (self._squares / self._count + norm.eps).rsqrt()
        shift = -self._mean * scale
        ones = [1] * (features.ndim - 2)
        weight, bias = norm.weight.float(), norm.bias.float()
        scale, shift = (one.float().to(weight.device) for one in (scale, shift))
        factor, offset = scale * weight, shift * weight + bias
        return features.mul_(factor.reshape(-1, *ones)).add_(offset.reshape(-1, *ones))
