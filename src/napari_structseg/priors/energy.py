"""The free energy of an MRF with symmetric couplings, and how steep it is.

With couplings w_{kl,d} = w_{lk,-d} between class k at a site and class l at its neighbour d,

    F(R) = sum R (log R - U) - 1/2 sum R (W R)  =  KL(q || p) + const

is the variational free energy of q = prod_i Cat(R_i) (Brudfors 2021, eqs 3-6, with the sign of W
such that a positive coupling attracts).
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

# Frequencies along each axis at which the symbol of a kernel is looked at.
_FREQUENCIES = 16


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
        W R, of an MRF whose ``has_energy`` is true.
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
