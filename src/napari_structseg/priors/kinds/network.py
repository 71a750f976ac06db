"""The MRF of the MRF-UNet: a small network without the constraints of an energy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from napari_structseg.priors.base import SIDE, MarkovPrior
from napari_structseg.priors.spec import PriorSpec

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

    def flip_(self, axes: Sequence[int]) -> None:
        """See :class:`MarkovPrior`."""
        with torch.no_grad():
            self.neighbours.weight.copy_(self.neighbours.weight.flip([2 + axis for axis in axes]))


class NetworkSpec(PriorSpec):
    """The network, and how many filters its first layer has at most."""

    kind: Literal["network"] = Field("network", description="That of the MRF-UNet (Brudfors 2021).")
    # Files from before there was a limit do not have this field.
    max_filters: int | None = Field(
        None,
        ge=1,
        le=255**2,
        description="Most filters of its first layer, which has one for each pair of classes; "
        "training sets 64.",
    )

    @property
    def title(self) -> str:
        """The kind in words."""
        return "MRF-UNet network"

    def build(self, dimensions: int, n_classes: int) -> MarkovPrior:
        """The network, with fresh weights."""
        return NetworkPrior(dimensions, n_classes, self.max_filters)

    def for_training(self) -> NetworkSpec:
        """With the authors' limit, where none is given."""
        return self.model_copy(update={"max_filters": self.max_filters or MAX_FILTERS})

    def fitting(self, weights: PriorSpec) -> PriorSpec:
        """With as many filters as the weights that training starts from."""
        if not isinstance(weights, NetworkSpec):
            return self
        return self.model_copy(update={"max_filters": weights.max_filters})
