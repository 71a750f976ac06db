"""The temperature and class scales with the lowest score, found without derivatives.

A single temperature comes first, by Brent's bounded method; then, from there, one factor for each
class, by the simplex of Nelder and Mead (*A simplex method for function minimization*, 1965).
Both search over logarithms: half as much spread is as far away as twice as much.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize, minimize_scalar

from napari_structseg.controls import CLASS_SCALE_MAX, TEMPERATURE_MAX
from napari_structseg.distributions import Spread
from napari_structseg.errors import Cancelled
from napari_structseg.evaluation.overlaps import FloatArray

# Less spread than this is none.
LEAST = 0.05
# A hundredth is what the sliders show.
_TOLERANCE = 0.01
_TEMPERATURE_STEPS = 20
_STEPS_PER_CLASS, _SIMPLICES = 50, 2
# The first simplex reaches from where it starts to a quarter more.
_REACH = float(np.log(1.25))


@dataclass(frozen=True, slots=True)
class Search:
    """What is searched.

    Attributes
    ----------
    n_classes
        Of the model.
    tempers_noise
        Whether temperature acts on the noise. Elsewhere only its product with a class scale
        counts, and the temperature is the geometric mean of these products.
    by_class
        Whether classes have scales of their own.
    """

    n_classes: int
    tempers_noise: bool
    by_class: bool = True

    @property
    def most_steps(self) -> int:
        """How often a score is asked for at most."""
        n_free = self.n_classes + self.tempers_noise if self.by_class else 0
        return _TEMPERATURE_STEPS + n_free * _STEPS_PER_CLASS


def fit(
    score: Callable[[Spread], float],
    search: Search,
    report: Callable[[int, int], None],
    cancelled: Callable[[], bool] | None = None,
) -> Spread:
    """Minimise a score.

    Parameters
    ----------
    score
        Of a temperature and class scales; the same for the same ones.
    search
        What is searched.
    report
        Told how many scores were computed, and how many there are at most.
    cancelled
        Asked before each.

    Returns
    -------
    spread
        To two decimals, as the sliders have them; all at 1 if nothing better was found.

    Raises
    ------
    Cancelled
        When ``cancelled`` said so.
    """
    n_asked = 0

    def asked(spread: Spread) -> float:
        nonlocal n_asked
        if cancelled is not None and cancelled():
            raise Cancelled("The calibration was cancelled. Nothing was written.")
        n_asked += 1
        report(min(n_asked, search.most_steps), search.most_steps)
        return score(spread)

    ones = (1.0,) * search.n_classes
    low, high = np.log(LEAST), np.log(TEMPERATURE_MAX)
    found = minimize_scalar(
        lambda x: asked(Spread(float(np.exp(x)), ones)),
        bounds=(low, high),
        method="bounded",
        options={"xatol": _TOLERANCE, "maxiter": _TEMPERATURE_STEPS},
    )
    candidates = [Spread.neutral(search.n_classes), Spread(float(np.exp(found.x)), ones)]
    if search.by_class:
        candidates.append(_by_class(asked, search, float(found.x)))
    rounded = [_rounded(one) for one in candidates]
    report(search.most_steps, search.most_steps)
    # Ties go to the first: to what was there, and to fewer numbers.
    return min(rounded, key=score)


def _by_class(asked: Callable[[Spread], float], search: Search, start: float) -> Spread:
    """The scales of classes, from the best single temperature on."""
    n_classes = search.n_classes

    def spread_at(x: FloatArray) -> Spread:
        factors = np.exp(x)
        if search.tempers_noise:
            return Spread(float(factors[0]), tuple(factors[1:].tolist()))
        return Spread(1.0, tuple(factors.tolist()))

    origin = np.full(n_classes, start)
    highest = np.full(n_classes, np.log(CLASS_SCALE_MAX))
    if search.tempers_noise:
        origin = np.concatenate([[start], np.zeros(n_classes)])
        highest = np.concatenate([[np.log(TEMPERATURE_MAX)], highest])
    # A simplex may collapse where a bound cuts it: a second one starts where the first ended.
    for _ in range(_SIMPLICES):
        corners = origin + _REACH * np.vstack([np.zeros(len(origin)), np.eye(len(origin))])
        outside = corners > highest
        # Inwards, where outwards is beyond the range.
        corners[outside] = (corners - 2 * _REACH)[outside]
        origin = minimize(
            lambda x: asked(spread_at(x)),
            origin,
            method="Nelder-Mead",
            bounds=[(np.log(LEAST), one) for one in highest],
            options={
                "initial_simplex": corners,
                "maxfev": len(origin) * _STEPS_PER_CLASS // _SIMPLICES,
                "xatol": _TOLERANCE,
                "fatol": np.inf,
            },
        ).x
    spread = spread_at(origin)
    return spread if search.tempers_noise else _split(spread.class_scale)


def _split(factors: tuple[float, ...]) -> Spread:
    """Products of temperature and class scale, as the two: scales are about 1."""
    common = float(np.exp(np.log(factors).mean()))
    temperature = max(common, max(factors) / CLASS_SCALE_MAX)
    return Spread(temperature, tuple(one / temperature for one in factors))


def _rounded(spread: Spread) -> Spread:
    return Spread(
        round(spread.temperature, 2),
        tuple(min(round(one, 2), CLASS_SCALE_MAX) for one in spread.class_scale),
    )
