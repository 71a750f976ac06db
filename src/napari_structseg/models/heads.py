"""Heads: from a backbone's features to the parameters of a distribution over logits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_structseg.models.spec import HeadSpec

_CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}
# The diagonal starts at e^-1, the factor small: with a large initial spread the Monte Carlo
# likelihood of a whole patch has no useful gradient (see the toy problem).
INITIAL_LOG_DIAGONAL = -1.0
INITIAL_FACTOR_SCALE = 0.1
# exp of more overflows in float32; a variance that large is noise and nothing else.
_LARGEST_LOG_DIAGONAL = 80.0


@dataclass(frozen=True, slots=True)
class LogitParameters:
    """What a network says about a batch of images.

    Attributes
    ----------
    mean
        Mean logits, ``(B, C, *spatial)``.
    factor
        Covariance factor P, rank-major, ``(B, R, C, *spatial)``; None without one.
    diagonal
        Diagonal D of the covariance (a variance, not its logarithm),
        ``(B, C, *spatial)``; None for a point.
    """

    mean: Tensor
    factor: Tensor | None = None
    diagonal: Tensor | None = None

    def flip(self, axes: list[int]) -> LogitParameters:
        """Mirrored along spatial axes, given as negative dimensions."""
        return LogitParameters(
            self.mean.flip(axes),
            None if self.factor is None else self.factor.flip(axes),
            None if self.diagonal is None else self.diagonal.flip(axes),
        )

    def mean_only(self) -> LogitParameters:
        """The same mean with no spread."""
        return LogitParameters(self.mean)


class PointHead(nn.Module):
    """One 1x1 convolution to logits: the deterministic U-Net."""

    def __init__(self, dimensions: int, n_features: int, n_classes: int) -> None:
        super().__init__()
        self.mean = _CONVOLUTION[dimensions](n_features, n_classes, 1)

    def forward(self, features: Tensor) -> LogitParameters:
        """Map features ``(B, F, *spatial)`` to mean logits."""
        return LogitParameters(self.mean(features))


class StochasticHead(nn.Module):
    """The low-rank normal head of a Stochastic Segmentation Network.

    Three 1x1 convolutions on the rectified features give the mean, the logarithm of the
    diagonal, and the factor: p(eta | x) = N(mu, P P^T + D) with D = exp(.) + epsilon.
    It goes on any backbone that yields features. Monteiro et al., NeurIPS 2020, section 3.

    Parameters
    ----------
    dimensions
        2 or 3.
    n_features
        Channels of the backbone's features.
    n_classes
        Number of classes C, at least 2.
    spec
        Rank, epsilon, and whether the factor is left out.
    """

    def __init__(self, dimensions: int, n_features: int, n_classes: int, spec: HeadSpec) -> None:
        super().__init__()
        convolution = _CONVOLUTION[dimensions]
        self.n_classes = n_classes
        self.epsilon = spec.epsilon
        self.rank = spec.factor_rank
        self.mean = convolution(n_features, n_classes, 1)
        self.log_diagonal = convolution(n_features, n_classes, 1)
        nn.init.zeros_(self.log_diagonal.weight)
        if self.log_diagonal.bias is not None:
            nn.init.constant_(self.log_diagonal.bias, INITIAL_LOG_DIAGONAL)
        self.factor: nn.Module | None = None
        if self.rank:
            self.factor = convolution(n_features, self.rank * n_classes, 1)
            with torch.no_grad():
                self.factor.weight.mul_(INITIAL_FACTOR_SCALE)

    def forward(self, features: Tensor) -> LogitParameters:
        """Map features ``(B, F, *spatial)`` to mean, factor and diagonal.

        The diagonal is computed in float32 even under autocast: ``exp`` in half precision
        overflows at 11.
        """
        features = functional.relu(features)
        log_diagonal = self.log_diagonal(features).float().clamp(max=_LARGEST_LOG_DIAGONAL)
        diagonal = torch.exp(log_diagonal) + self.epsilon
        factor = None
        if self.factor is not None:
            flat = self.factor(features)
            factor = flat.unflatten(1, (self.rank, self.n_classes))
        return LogitParameters(self.mean(features), factor, diagonal)
