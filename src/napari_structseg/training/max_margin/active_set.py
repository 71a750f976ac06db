r"""The exact optimum of the program, from a point near it.

Given w, the slack of an image is the largest of :math:`\Delta_k - w^\top d_k` and 0. So the program
is one of F unknowns: in each image one constraint, its *base*, says what the slack is, and few
others hold with it. The primal active-set method (Nocedal and Wright, *Numerical Optimization*,
2006, algorithm 16.3) goes from one such set to the next. An operator splitting alone needs a
hundred thousand iterations for multipliers that are accurate: the pairwise features are nearly
proportional, and beside thousands of voxels 1/2 |w|^2 is next to nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from napari_structseg.errors import StructSegError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# Of steps, against the size of w; and of multipliers, which lie between 0 and 1.
_STILL, _NEGATIVE = 1e-13, -1e-12
# Steps for each constraint, far more than any program takes.
_MOST_STEPS = 20


@dataclass(slots=True)
class ActiveSet:
    r"""Minimise :math:`\tfrac f2\lVert w\rVert^2 + \sum_n \max_{k \in n} (l_k - w^\top d_k)`.

    All weights are at least 0.

    Attributes
    ----------
    curvature
        f, more than 0.
    rows
        d, ``(K, F)``; for each image one of them is all 0.
    lower
        l, ``(K,)``, 0 for these.
    images
        Of each row, ``(K,)``.
    weights
        Where to begin, ``(F,)``, at least 0; then the optimum.
    """

    curvature: float
    rows: FloatArray
    lower: FloatArray
    images: IntArray
    weights: FloatArray
    _base: IntArray = field(init=False)
    # Rows that are as high as the base of their image, and weights that are 0.
    _tied: list[int] = field(init=False, default_factory=list)
    _zero: list[int] = field(init=False, default_factory=list)

    def solve(self) -> FloatArray:
        """Find the optimum, and give the multiplier of each row, ``(K,)``.

        Those of an image add up to 1.

        Raises
        ------
        StructSegError
            If rounding leads in a circle.
        """
        self._base = self._highest()
        for _ in range(_MOST_STEPS * (len(self.rows) + len(self.weights)) + 100):
            target, of_tied, of_zero = self._on_active()
            step = target - self.weights
            if np.abs(step).max() > _STILL * (1 + np.abs(target).max()):
                self._go(step)
                continue
            # What differs from 0 by rounding alone is 0.
            size = 1 + np.abs(target).max()
            self.weights = np.where(target > _STILL * size, target, 0)
            multipliers = np.zeros(len(self.rows))
            multipliers[self._base] = 1
            for row, value in zip(self._tied, of_tied, strict=True):
                multipliers[row] = value
                multipliers[self._base[self.images[row]]] -= value
            if not self._let_go(multipliers, of_zero):
                return np.maximum(multipliers, 0)
        raise StructSegError(
            "The quadratic program of max-margin learning was not solved: rounding leads in a "
            "circle. Lower max_margin.cost."
        )

    def _values(self) -> FloatArray:
        values: FloatArray = self.lower - self.rows @ self.weights
        return values

    def _highest(self) -> IntArray:
        """The row of each image with the largest value."""
        order = np.lexsort((self._values(), self.images))
        last = np.flatnonzero(np.diff(self.images[order], append=-1))
        return order[last]

    def _on_active(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """The minimum with active constraints as equations; multipliers of ties and of zeros."""
        n, n_tied = len(self.weights), len(self._tied)
        below = self._base[self.images[self._tied]]
        ties = self.rows[self._tied] - self.rows[below]
        equations = np.vstack([ties, np.eye(n)[self._zero]])
        right = np.zeros(len(equations))
        right[:n_tied] = self.lower[self._tied] - self.lower[below]
        size = len(equations)
        system = np.block(
            [[self.curvature * np.eye(n), -equations.T], [equations, np.zeros((size, size))]]
        )
        linear = self.rows[self._base].sum(axis=0)
        found = np.linalg.lstsq(system, np.concatenate([linear, right]), rcond=None)[0]
        return found[:n], found[n : n + n_tied], found[n + n_tied :]

    def _go(self, step: FloatArray) -> None:
        """As far as no other row becomes the highest of its image, and no weight negative."""
        values = self._values()
        base = self._base[self.images]
        room = values[base] - values
        closing = (self.rows[base] - self.rows) @ step
        closing[self._base] = 0
        closing[self._tied] = 0
        sinking = -step
        sinking[self._zero] = 0
        with np.errstate(divide="ignore", invalid="ignore"):
            until = np.where(closing > 0, np.maximum(room, 0) / closing, np.inf)
            until_zero = np.where(sinking > 0, self.weights / sinking, np.inf)
        row, weight = int(until.argmin()), int(until_zero.argmin())
        share = min(1.0, float(until[row]), float(until_zero[weight]))
        self.weights = self.weights + share * step
        if share == 1:
            return
        if until[row] <= until_zero[weight]:
            self._tied.append(row)
        else:
            self.weights[weight] = 0
            self._zero.append(weight)

    def _let_go(self, multipliers: FloatArray, of_zero: FloatArray) -> bool:
        """Leave the constraint with the most negative multiplier; False where none has one."""
        row = int(multipliers.argmin())
        lowest_zero = float(of_zero.min(initial=0))
        if min(multipliers[row], lowest_zero) >= _NEGATIVE:
            return False
        if lowest_zero < multipliers[row]:
            del self._zero[int(of_zero.argmin())]
        elif row in self._tied:
            self._tied.remove(row)
        else:
            # A base: another row of the image takes its place, the one that counts most.
            image = self.images[row]
            others = [one for one in self._tied if self.images[one] == image]
            best = max(others, key=lambda one: float(multipliers[one]))
            self._tied.remove(best)
            self._base[image] = best
        return True
