"""The MRF of the MRF-UNet: a small network without the constraints of an energy."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_structseg.priors.base import SIDE, MarkovPrior

_NEGATIVE_SLOPE = 0.2
# Of the authors' code: more pairs of classes share filters.
MAX_FILTERS = 64


class NetworkPrior(MarkovPrior):
    """Convolution to K^2 filters with zero centre, leaky ReLU, 1x1 convolution to K.

    Brudfors et al., *An MRF-UNet Product of Experts for Image Segmentation*, MIDL 2021, and the
    authors' code: with 4 classes in 3-D, 1,812 parameters, of which the 64 at the centre stay 0.
    It has no energy in general, so that nothing is promised about the convergence of mean field.
    The first layer starts as He et al. (2015) have it for this slope, 2.4 times as wide as torch
    does by itself.

    Parameters
    ----------
    dimensions
        2 or 3.
    n_classes
        Number of classes K.
    max_filters
        Where K^2 is more, there are so many filters; None: always K^2.
    """

    kind = "network"

    def __init__(
        self, dimensions: int, n_classes: int, max_filters: int | None = MAX_FILTERS
    ) -> None:
        super().__init__(dimensions, n_classes)
        convolution = nn.Conv2d if dimensions == 2 else nn.Conv3d
        n_filters = n_classes**2 if max_filters is None else min(n_classes**2, max_filters)
        self.neighbours = convolution(n_classes, n_filters, SIDE, padding=SIDE // 2)
        self.combine = nn.Linear(n_filters, n_classes)
        with torch.no_grad():
            nn.init.kaiming_uniform_(
                self.neighbours.weight, a=_NEGATIVE_SLOPE, nonlinearity="leaky_relu"
            )
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
