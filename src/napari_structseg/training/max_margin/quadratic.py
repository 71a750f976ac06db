r"""The quadratic program of max-margin learning, solved so that its multipliers can be used.

.. math:: \gamma = \min_{w, \xi}\ \tfrac12\lVert w\rVert^2 + \frac CN \sum_n \xi_n
    \quad\text{with}\quad w^\top d_k + \xi_{n(k)} \ge \Delta_k,\quad \xi \ge 0,\quad w_2, w_3 \ge 0

Larsson, Alvén and Kahl, *Max-Margin Learning of Deep Structured Models for Semantic Segmentation*,
SCIA 2017, section 3. Its text asks for :math:`w_2 \le 0`; the energy is submodular, and its
minimum found by a cut, with :math:`w_2, w_3 \ge 0`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import osqp
from scipy import sparse

from napari_structseg.errors import StructSegError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# Of the scaled problem, whose multipliers lie between 0 and 1.
_TOLERANCE = 1e-9
_MAX_ITERATIONS = 200_000
# The optimality conditions of a result that is used hold to this.
_ACCEPTED = 1e-5
_SLOW = osqp.SolverStatus.OSQP_MAX_ITER_REACHED
_USABLE = (
    osqp.SolverStatus.OSQP_SOLVED,
    osqp.SolverStatus.OSQP_SOLVED_INACCURATE,
    _SLOW,
)


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
    free
        How many weights may be negative; they come first.
    """

    differences: FloatArray
    losses: FloatArray
    images: IntArray
    n_images: int
    free: int = 1


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
    """Solve the program by ADMM, and polish it on the constraints that are active.

    Stellato et al., *OSQP: An Operator Splitting Solver for Quadratic Programs*, 2020. The program
    is scaled first, so that accuracy means the same for images of any size.

    Parameters
    ----------
    constraints
        At least one.
    cost
        C, more than 0.
    start
        The optimum of the same program with the last constraints left out, to begin with.

    Raises
    ------
    StructSegError
        If no accurate optimum was found.
    """
    scale = float(max(constraints.losses.max(), 1.0))
    problem = _Scaled.of(constraints, cost, scale)
    solver = osqp.OSQP()
    solver.setup(
        sparse.csc_matrix(problem.quadratic),
        problem.linear,
        problem.matrix,
        problem.lower,
        np.full(len(problem.lower), np.inf),
        eps_abs=_TOLERANCE,
        eps_rel=_TOLERANCE,
        max_iter=_MAX_ITERATIONS,
        polishing=True,
        polish_refine_iter=10,
        verbose=False,
    )
    if start is not None:
        solver.warm_start(x=np.concatenate([start.weights, start.slacks / scale]))
    found = solver.solve(raise_error=False)
    if found.info.status_val not in _USABLE:
        raise StructSegError(
            f"The quadratic program of max-margin learning was not solved: {found.info.status}. "
            "Check that the network's logits are not extreme, or lower max_margin.cost."
        )
    n_weights = constraints.differences.shape[1]
    point, duals = problem.polished(found.x, -found.y)
    weights = point[:n_weights]
    weights[constraints.free :] = np.maximum(weights[constraints.free :], 0)
    multipliers = np.maximum(duals[: len(constraints.losses)], 0) * cost / constraints.n_images
    slacks = np.maximum(point[n_weights:], 0) * scale
    value = 0.5 * float(weights @ weights) + cost / constraints.n_images * float(slacks.sum())
    return Optimum(weights, slacks, multipliers, value)


@dataclass(frozen=True, slots=True)
class _Scaled:
    """The program for (w, xi / scale), its objective divided by C scale / N.

    Minimise 1/2 x Q x + q x with A x >= l; its multipliers are those of the program times N / C.
    """

    quadratic: sparse.csc_matrix
    linear: FloatArray
    matrix: sparse.csc_matrix
    lower: FloatArray

    @classmethod
    def of(cls, constraints: Constraints, cost: float, scale: float) -> _Scaled:
        n_rows, n_weights = constraints.differences.shape
        n_images = constraints.n_images
        own_slack = sparse.csc_matrix(
            (np.ones(n_rows), (np.arange(n_rows), constraints.images)), (n_rows, n_images)
        )
        bounded = np.arange(constraints.free, n_weights + n_images)
        rows = sparse.hstack([sparse.csc_matrix(constraints.differences / scale), own_slack])
        signs = sparse.identity(n_weights + n_images, format="csr")[bounded]
        diagonal = np.zeros(n_weights + n_images)
        diagonal[:n_weights] = n_images / (cost * scale)
        linear = np.ones(n_weights + n_images)
        linear[:n_weights] = 0
        return cls(
            sparse.diags(diagonal, format="csc"),
            linear,
            sparse.vstack([rows, signs], format="csc"),
            np.concatenate([constraints.losses / scale, np.zeros(len(bounded))]),
        )

    def polished(self, point: FloatArray, duals: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The better of what the solver found and of the solution on its active constraints.

        Raises
        ------
        StructSegError
            If neither is accurate.
        """
        candidates = [(point, duals)]
        gaps = self.matrix @ point - self.lower
        # A constraint is active where its multiplier is larger than its gap, both being of order 1.
        active = np.flatnonzero(duals > gaps)
        candidates.append(self._on(active))
        errors = [self.error(*one) for one in candidates]
        best = int(np.argmin(errors))
        if not errors[best] <= _ACCEPTED:
            raise StructSegError(
                "The quadratic program of max-margin learning was not solved accurately "
                f"(residual {errors[best]:.1e}). Lower max_margin.cost."
            )
        return candidates[best]

    def _on(self, active: IntArray) -> tuple[FloatArray, FloatArray]:
        """The stationary point with some constraints as equations, and their multipliers."""
        rows = self.matrix[active].toarray()
        n = len(self.linear)
        system = np.block(
            [[self.quadratic.toarray(), -rows.T], [rows, np.zeros((len(active),) * 2)]]
        )
        right = np.concatenate([-self.linear, self.lower[active]])
        # Where constraints depend on each other, the multipliers of least norm.
        solution = np.linalg.lstsq(system, right, rcond=1e-13)[0]
        duals = np.zeros(len(self.lower))
        duals[active] = solution[n:]
        return solution[:n], duals

    def error(self, point: FloatArray, duals: FloatArray) -> float:
        """By how much a point and its multipliers miss the conditions of an optimum."""
        stationary = self.quadratic @ point + self.linear - self.matrix.T @ duals
        gaps = self.matrix @ point - self.lower
        wrong = (
            np.abs(stationary).max(),
            -gaps.min(),
            -duals.min(),
            np.abs(np.minimum(np.maximum(gaps, 0), np.maximum(duals, 0))).max(),
        )
        return float(max(wrong))
