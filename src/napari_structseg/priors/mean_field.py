"""Mean-field updates, as torch writes them: the definition, and what training differentiates.

With log-likelihoods U (the log-softmax of any model's logits) and an MRF's message M(R) from the
responsibilities R of the neighbours,

    R <- w softmax(U + s M(R)) + (1 - w) R,    R_0 = 1/K

(Brudfors 2021, eq. 6), with strength s and damping w.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from napari_structseg.priors.base import MarkovPrior

Update = Literal["parallel", "proximal", "coloured"]


def uniform(unary: Tensor) -> Tensor:
    """R_0 = 1/K everywhere, in the shape of ``unary``."""
    return torch.full_like(unary, 1 / unary.shape[1])


def parallel_step(
    unary: Tensor,
    responsibilities: Tensor,
    message: Tensor,
    strength: float = 1.0,
    damping: float = 1.0,
) -> Tensor:
    """All sites at once, from the same neighbours.

    Descends for an energy prior if ``damping`` is at most 1 / max(1, strength L), see
    :func:`contraction_bound`; undamped, it need not.

    Parameters
    ----------
    unary, responsibilities, message
        U, R and M(R), ``(B, K, *spatial)``.
    strength
        Weight s of the MRF; 0: the model alone.
    damping
        w in (0, 1].
    """
    updated = torch.softmax(unary + strength * message, dim=1)
    return updated if damping == 1 else damping * updated + (1 - damping) * responsibilities


def proximal_step(
    unary: Tensor,
    responsibilities: Tensor,
    message: Tensor,
    strength: float = 1.0,
    tau: float = 1.0,
) -> Tensor:
    """All sites at once, held back by the divergence from where they are.

    R ~ exp((U + s M(R) + tau log R) / (1 + tau)); descends for an energy prior if ``tau`` is at
    least strength L. Same arguments as :func:`parallel_step`.
    """
    held = unary + strength * message + tau * responsibilities.clamp(min=1e-30).log()
    return torch.softmax(held / (1 + tau), dim=1)


def colours(dimensions: int) -> Iterator[tuple[slice, ...]]:
    """Sets of sites none of which is another's neighbour: 4 in 2-D, 8 in 3-D.

    Yields
    ------
    tuple of slice
        Every other site along each axis, starting at 0 or 1; the first axis slowest.
    """
    for starts in itertools.product((0, 1), repeat=dimensions):
        yield tuple(slice(start, None, 2) for start in starts)


def coloured_step(
    unary: Tensor,
    responsibilities: Tensor,
    prior: MarkovPrior,
    strength: float = 1.0,
    damping: float = 1.0,
) -> Tensor:
    """One colour after the other, each from the latest neighbours, as in a red-black sweep.

    For an energy prior each colour is an exact minimisation over its sites, so that the free
    energy never rises. Same arguments as :func:`parallel_step`, and the MRF itself.
    """
    current = responsibilities
    for sites in colours(prior.dimensions):
        index = (slice(None), slice(None), *sites)
        stepped = parallel_step(
            unary[index], current[index], prior.message(current)[index], strength, damping
        )
        # A gradient needs what the message was made from.
        current = current.clone()
        current[index] = stepped
    return current


def refine(
    prior: MarkovPrior,
    unary: Tensor,
    n_iterations: int,
    *,
    strength: float = 1.0,
    damping: float = 1.0,
    update: Update = "parallel",
    tau: float = 1.0,
    start: Tensor | None = None,
) -> Tensor:
    """Run mean field; gradients flow through every iteration.

    Parameters
    ----------
    prior
        The MRF.
    unary
        U, ``(B, K, *spatial)``.
    n_iterations
        How many; 0 gives softmax(U).
    strength, damping, tau
        See the steps. ``tau`` is for proximal updates, ``damping`` for the others.
    update
        Which step.
    start
        R_0; None: uniform.

    Returns
    -------
    Tensor
        R, ``(B, K, *spatial)``.
    """
    if not n_iterations:
        return torch.softmax(unary, dim=1)
    current = uniform(unary) if start is None else start
    for _ in range(n_iterations):
        if update == "coloured":
            current = coloured_step(unary, current, prior, strength, damping)
        elif update == "proximal":
            current = proximal_step(unary, current, prior.message(current), strength, tau)
        else:
            current = parallel_step(unary, current, prior.message(current), strength, damping)
    return current
