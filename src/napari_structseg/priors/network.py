"""The prior of the MRF-UNet: a small network without the constraints of an energy."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_structseg.priors.base import SIDE, MarkovPrior

_NEGATIVE_SLOPE = 0.2


class NetworkPrior(MarkovPrior):
    """Convolution to K^2 channels with zero centre, leaky ReLU, 1x1 convolution to K.

    Brudfors et al., *An MRF-UNet Product of Experts for Image Segmentation*, MIDL 2021, and the
    authors' code: with 4 classes in 3-D, 1,812 parameters, of which the 64 at the centre stay 0.
    It has no energy in general, so that nothing is promised about the convergence of mean field.

    Parameters
    ----------
    dimensions
        2 or 3.
    n_classes
        Number of classes K.
    """

    kind = "network"

    def __init__(self, dimensions: int, n_classes: int) -> None:
        super().__init__(dimensions, n_classes)
        convolution = nn.Conv2d if dimensions == 2 else nn.Conv3d
        self.neighbours = convolution(n_classes, n_classes**2, SIDE, padding=SIDE // 2)
        self.combine = nn.Linear(n_classes**2, n_classes)
        with torch.no_grad():
            self.neighbours.weight.mul_(self.around)

    def kernel(self) -> Tensor:
        """See :class:`MarkovPrior`; the centre gets no gradient and stays 0."""
        return self.neighbours.weight * self.around

    def first_bias(self) -> Tensor:
        """See :class:`MarkovPrior`."""
        bias: Tensor | None = self.neighbours.bias
        if bias is None:
            raise AssertionError("the convolution is made with a bias")
        return bias

    def mix(self, first: Tensor) -> Tensor:
        """See :class:`MarkovPrior`."""
        rectified = functional.leaky_relu(first, _NEGATIVE_SLOPE)
        return torch.addmm(self.combine.bias[:, None], self.combine.weight, rectified)
