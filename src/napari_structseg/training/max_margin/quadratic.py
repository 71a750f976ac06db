r"""The quadratic program of max-margin learning, solved so that its multipliers can be used.

.. math:: \gamma = \min_{w, \xi}\ \tfrac12\lVert w\rVert^2 + \frac CN \sum_n \xi_n
    \quad\text{with}\quad w^\top d_k + \xi_{n(k)} \ge \Delta_k,\quad \xi \ge 0,\quad w \ge 0

Larsson, Alvén and Kahl, *Max-Margin Learning of Deep Structured Models for Semantic Segmentation*,
SCIA 2017, section 3. Its text asks for :math:`w_2 \le 0`; the energy is submodular, and its
minimum found by a cut, with :math:`w_2, w_3 \ge 0`. The paper leaves :math:`w_1` free: a negative
one would say that the network's opposite is better than the network, and is not allowed here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import osqp
from scipy import sparse

from napari_structseg.training.max_margin.active_set import ActiveSet, FloatArray, IntArray

# OSQP comes near the optimum; from there the active set is exact.
_TOLERANCE, _MAX_ITERATIONS = 1e-6, 4000


@dataclass(frozen=True, slots=True)
class Constraints:
    """The constraints of a program, one for each stored labelling.

    Attributes
    ----------
    differences
        Features of the labelling less those of the ground truth, ``(K, F)``.
    losses
        Their Hamming distance, in voxels, ``(K,)``.
    images
        The image that each belongs to, ``(K,)``, from 0.
    n_images
        N.
    """

    differences: FloatArray
    losses: FloatArray
    images: IntArray
    n_images: int


@dataclass(frozen=True, slots=True)
class Optimum:
    """Where the program has its minimum.

    Attributes
    ----------
    weights
        ``(F,)``.
    slacks
        Of each image, in voxels, ``(N,)``.
    multipliers
        Of each constraint, at least 0, those of an image adding up to C / N at most; ``(K,)``.
    value
        gamma.
    """

    weights: FloatArray
    slacks: FloatArray
    multipliers: FloatArray
    value: float


def solve(constraints: Constraints, cost: float, start: Optimum | None = None) -> Optimum:
    """Solve the program: OSQP comes near, and its result is made exact on the active constraints.

    Stellato et al., *OSQP: An Operator Splitting Solver for Quadratic Programs*, 2020; then
    :class:`~napari_structseg.training.max_margin.active_set.ActiveSet`. The program is scaled
    first, so that accuracy means the same for images of any size.

    Parameters
    ----------
    constraints
        At least one.
    cost
        C, more than 0.
    start
        The optimum of the same program with some constraints left out, to begin with.

    Raises
    ------
    StructSegError
        If no optimum was found.
    """
    scale = float(max(constraints.losses.max(), 1.0))
    n_images, n_weights = constraints.n_images, constraints.differences.shape[1]
    # xi / scale in place of xi, and the objective divided by C scale / N.
    curvature = n_images / (cost * scale)
    scaled = replace(
        constraints,
        differences=constraints.differences / scale,
        losses=constraints.losses / scale,
    )
    near = _near(scaled, curvature, None if start is None else start.weights)
    # The slack itself is at least 0: a constraint of zeros in each image.
    exact = ActiveSet(
        curvature,
        np.vstack([scaled.differences, np.zeros((n_images, n_weights))]),
        np.concatenate([scaled.losses, np.zeros(n_images)]),
        np.concatenate([constraints.images, np.arange(n_images)]),
        near,
    )
    multipliers = exact.solve()[: len(scaled.losses)] * cost / n_images
    weights = exact.weights
    slacks = _slacks(constraints, weights)
    value = 0.5 * float(weights @ weights) + cost / n_images * float(slacks.sum())
    return Optimum(weights, slacks, multipliers, value)


def _slacks(constraints: Constraints, weights: FloatArray) -> FloatArray:
    """The least slacks with these weights, ``(N,)``."""
    slacks = np.zeros(constraints.n_images)
    needed = constraints.losses - constraints.differences @ weights
    np.maximum.at(slacks, constraints.images, needed)
    return slacks


def _near(scaled: Constraints, curvature: float, start: FloatArray | None) -> FloatArray:
    """The weights that OSQP finds, of which few iterations are asked."""
    rows, n_images = scaled.differences, scaled.n_images
    n_rows, n_weights = rows.shape
    # Features of one size: OSQP converges slowly otherwise.
    unit = np.sqrt((rows**2).mean(axis=0))
    unit[unit == 0] = 1
    n = n_weights + n_images
    places = np.arange(n_rows), scaled.images
    own = sparse.csc_matrix((np.ones(n_rows), places), (n_rows, n_images))
    with_slacks = sparse.hstack([sparse.csc_matrix(rows / unit), own])
    bounds = np.concatenate([scaled.losses, np.zeros(n)])
    curvatures = np.concatenate([curvature / unit**2, np.zeros(n_images)])
    solver = osqp.OSQP()
    solver.setup(
        sparse.diags(curvatures, format="csc"),
        np.repeat([0.0, 1.0], [n_weights, n_images]),
        sparse.vstack([with_slacks, sparse.identity(n)], format="csc"),
        bounds,
        np.full(len(bounds), np.inf),
        eps_abs=_TOLERANCE,
        eps_rel=_TOLERANCE,
        max_iter=_MAX_ITERATIONS,
        polishing=True,
        verbose=False,
    )
    if start is not None:
        solver.warm_start(x=np.concatenate([start * unit, _slacks(scaled, start)]))
    weights = solver.solve(raise_error=False).x[:n_weights] / unit
    # A start is all it is: without one that can be used, 0 will do.
    return np.maximum(weights, 0) if np.isfinite(weights).all() else np.zeros(n_weights)
