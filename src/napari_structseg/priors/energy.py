"""The MRF with an energy: symmetric, linear, and mean field that never climbs.

With couplings w_{kl,d} = w_{lk,-d} between class k at a site and class l at its neighbour d,

    F(R) = sum R (log R - U) - 1/2 sum R (W R)  =  KL(q || p) + const

is the variational free energy of q = prod_i Cat(R_i) (Brudfors 2021, eqs 3-6, with the sign of W
such that a positive coupling attracts).
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

from napari_structseg.priors.base import SIDE, MarkovPrior

# Frequencies along each axis at which the symbol of a kernel is looked at.
_FREQUENCIES = 16
_INITIAL_ATTRACTION = 0.1


class EnergyPrior(MarkovPrior):
    """Linear couplings with w_{kl,d} = w_{lk,-d} and a zero centre.

    Parameters
    ----------
    dimensions
        2 or 3.
    n_classes
        Number of classes K.
    """

    kind = "energy"

    def __init__(self, dimensions: int, n_classes: int) -> None:
        super().__init__(dimensions, n_classes)
        start = torch.zeros((n_classes, n_classes, *[SIDE] * dimensions))
        # Like attracts like.
        start[range(n_classes), range(n_classes)] = _INITIAL_ATTRACTION
        self.couplings = nn.Parameter(start * self.around)
        self.register_buffer("_no_bias", torch.zeros(n_classes), persistent=False)
        self._no_bias: Tensor

    def kernel(self) -> Tensor:
        """W, symmetric whatever the parameters are, ``(K, K, 3, 3[, 3])``."""
        return symmetric(self.couplings) * self.around

    def first_bias(self) -> Tensor:
        """Zero: it would not couple anything."""
        return self._no_bias

    def mix(self, first: Tensor) -> Tensor:
        """The first stage is the message."""
        return first


def symmetric(couplings: Tensor) -> Tensor:
    """The part of couplings ``(K, K, 3, 3[, 3])`` with w_{kl,d} = w_{lk,-d}."""
    offsets = list(range(2, couplings.ndim))
    return (couplings + couplings.transpose(0, 1).flip(offsets)) / 2


def free_energy(
    unary: Tensor, responsibilities: Tensor, message: Tensor, strength: float = 1.0
) -> Tensor:
    """F(R) of each image of a batch, up to the constant log Z.

    Parameters
    ----------
    unary
        U, log-likelihoods, ``(B, K, *spatial)``.
    responsibilities
        R, ``(B, K, *spatial)``, summing to one over classes.
    message
        W R, of an :class:`EnergyPrior`.
    strength
        What W is multiplied with.

    Returns
    -------
    Tensor
        ``(B,)``, in nats.
    """
    entropy = torch.special.entr(responsibilities)
    terms: Tensor = -entropy - responsibilities * (unary + 0.5 * strength * message)
    return terms.flatten(1).sum(dim=1)


def contraction_bound(kernel: Tensor) -> float:
    """An upper bound of L = -lambda_min(W), the steepest curvature that a step must respect.

    Damping w <= 1 / max(1, L) and a proximal weight tau >= L make parallel mean field descend.
    The eigenvalues of W on any grid lie within those of its symbol, the K x K matrix
    sum_d W_d exp(i omega d); between the frequencies looked at, Bernstein's inequality for
    trigonometric polynomials of degree one bounds it.

    Parameters
    ----------
    kernel
        Symmetric couplings with zero centre, ``(K, K, 3, 3[, 3])``.

    Returns
    -------
    float
        At least 0.
    """
    dimensions = kernel.ndim - 2
    weights = kernel.detach().cpu().double().flatten(2)
    offsets = torch.tensor(list(itertools.product((-1, 0, 1), repeat=dimensions))).double()
    grid = torch.arange(_FREQUENCIES).double() * (2 * math.pi / _FREQUENCIES)
    omega = torch.cartesian_prod(*[grid] * dimensions)
    phases = torch.exp(1j * (omega @ offsets.T))
    symbol = torch.einsum("kld,fd->fkl", weights.to(phases.dtype), phases)
    lowest = float(torch.linalg.eigvalsh(symbol)[:, 0].min())
    ceiling = float(torch.linalg.matrix_norm(weights.movedim(-1, 0), ord=2).sum())
    # ceiling - symbol is positive everywhere, and its maximum at most this much above the grid's.
    between = math.cos(math.pi / _FREQUENCIES) ** dimensions
    return max(0.0, (ceiling - lowest) / between - ceiling)
