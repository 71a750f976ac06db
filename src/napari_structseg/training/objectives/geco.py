"""GECO: the weight of a reconstruction is learned, so that it reaches a given quality.

Rezende and Viola, *Taming VAEs*, 2018; as Kohl et al., *A Hierarchical Probabilistic U-Net*, 2019,
use it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

# Of Adam, as for the network.
_BETAS, _EPSILON = (0.9, 0.999), 1e-8
# The weight is softplus(raw)^2, and 1 at first.
_RAW_OF_ONE = math.log(math.expm1(1.0))


@dataclass
class Geco:
    r"""The Lagrange multiplier of a constraint on the cross-entropy.

    .. math:: \lambda = \mathrm{softplus}(u)^2, \qquad
        \max_u\ \lambda\,(\bar L - \kappa)

    As in the authors' code: the cross-entropy is a moving average, u climbs by Adam with the
    learning rate of the network, its gradient is scaled by a rate, and the weight of a step is
    that before the step. Since Adam does not depend on the scale of gradients, the weight moves
    by about the learning rate in each step, whatever the rate is.

    Attributes
    ----------
    target
        Cross-entropy per voxel to reach, kappa.
    decay
        Of the moving average.
    rate
        Scales the gradient.
    average
        Of the cross-entropy per voxel so far; NaN before the first step.
    raw
        u.
    mean, square
        Adam's moments of the gradient.
    n_steps
        Steps taken.
    learning_rate
        Of the next step.
    """

    target: float
    decay: float = 0.99
    rate: float = 1e-2
    average: float = math.nan
    raw: float = _RAW_OF_ONE
    mean: float = 0.0
    square: float = 0.0
    n_steps: int = 0
    learning_rate: float = 1e-3

    @property
    def multiplier(self) -> float:
        """Lambda, more than 0."""
        return _softplus(self.raw) ** 2

    def weight(self, reconstruction: float, n_voxels: float = 1.0) -> float:
        """The weight of a step, after which the multiplier moves on.

        Parameters
        ----------
        reconstruction
            Cross-entropy of the step, per voxel. One that is not finite moves nothing.
        n_voxels
            Voxels of an image that count: the constraint is on their sum.
        """
        weight = self.multiplier
        if not math.isfinite(reconstruction):
            return weight
        known = not math.isnan(self.average)
        decay = self.decay if known else 0.0
        self.average = decay * (self.average if known else 0.0) + (1 - decay) * reconstruction
        constraint = (self.average - self.target) * n_voxels
        slope = 2 * _softplus(self.raw) * _sigmoid(self.raw)
        gradient = -self.rate * constraint * slope
        self.n_steps += 1
        self.mean = _BETAS[0] * self.mean + (1 - _BETAS[0]) * gradient
        self.square = _BETAS[1] * self.square + (1 - _BETAS[1]) * gradient**2
        mean = self.mean / (1 - _BETAS[0] ** self.n_steps)
        square = self.square / (1 - _BETAS[1] ** self.n_steps)
        self.raw -= self.learning_rate * mean / (math.sqrt(square) + _EPSILON)
        return weight


def _softplus(value: float) -> float:
    return max(value, 0.0) + math.log1p(math.exp(-abs(value)))


def _sigmoid(value: float) -> float:
    small = math.exp(-abs(value))
    return (1.0 if value >= 0 else small) / (1 + small)
