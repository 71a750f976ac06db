"""Which images a model was made for, from the statistics of cases that it serves.

Of each statistic a prediction interval: a new case like the n seen ones is outside with
probability alpha, if the statistic, or a root of it, is normal (Student's t with n - 1 degrees of
freedom; Geisser, *Predictive Inference*, 1993). Of few cases the intervals are wide. All
statistics together raise a false alarm in one case of a hundred (Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.metadata import version

import numpy as np
from scipy.stats import t as student

from napari_structseg.evaluation.overlaps import FloatArray
from napari_structseg.models import DomainSpec
from napari_structseg.models.domain_spec import SeenSpec, StatisticName
from napari_structseg.prediction.domain_statistics import QUANTILES, Key

FALSE_ALARMS = 0.01
# With fewer an interval would hold anything.
LEAST_CASES = 4
# What is of a body in space, of counts, and of neither, is spread evenly as these powers of it.
_POWERS: dict[StatisticName, float] = {
    "volume": 1 / 3,
    "data at the edge": 1 / 2,
    "tissue at the edge": 1 / 2,
    "entropy": 1 / 2,
}
# Too little of these is nothing to warn of.
_ONE_SIDED: frozenset[StatisticName] = frozenset(
    {"data at the edge", "tissue at the edge", "entropy"}
)
# Least standard deviation: cases of one scanner are more alike than what the model serves.
_LEAST_SIGMA, _LEAST_OF_VOLUME = 0.02, 0.03


def fit_domain(
    cases: Sequence[dict[Key, float]], data: str, *, volume_unit: str = "mL"
) -> DomainSpec | None:
    """Ranges of every statistic that enough cases have.

    Parameters
    ----------
    cases
        Statistics of each.
    data
        Name of the data set.
    volume_unit
        mL, or mm² for images with two axes.

    Returns
    -------
    domain
        None: there are too few cases.
    """
    values: dict[Key, list[float]] = {}
    for case in cases:
        for key, value in case.items():
            values.setdefault(key, []).append(value)
    enough = {key: np.array(one) for key, one in values.items() if len(one) >= LEAST_CASES}
    if not enough:
        return None
    alpha = FALSE_ALARMS / len(enough)
    return DomainSpec(
        statistics=tuple(_seen(key, one, alpha, volume_unit) for key, one in enough.items()),
        data=data[:200],
        cases=len(cases),
        software=version("napari-structseg"),
    )


def _seen(key: Key, values: FloatArray, alpha: float, volume_unit: str) -> SeenSpec:
    name, of = key
    power = _POWERS.get(name, 1.0)
    even = values**power
    least = _LEAST_OF_VOLUME * float(even.mean()) if name == "volume" else _LEAST_SIGMA
    n_cases, is_one_sided = len(values), name in _ONE_SIDED
    sigma = max(float(even.std(ddof=1)), least)
    quantile = student.ppf(1 - alpha / (1 if is_one_sided else 2), n_cases - 1)
    reach = float(quantile) * sigma * math.sqrt(1 + 1 / n_cases)
    ends = [float(even.mean()) - reach, float(even.mean()) + reach]
    if power != 1:
        ends = [max(end, 0.0) ** (1 / power) for end in ends]
    return SeenSpec(
        name=name,
        of=of,
        unit=_unit(name, volume_unit),
        seen=(_rounded(float(values.min())), _rounded(float(values.max()))),
        low=None if is_one_sided else _rounded(min(ends[0], float(values.min()))),
        high=_rounded(max(ends[1], float(values.max()))),
    )


def _unit(name: StatisticName, volume_unit: str) -> str:
    if name == "volume":
        return volume_unit
    if name in QUANTILES or name == "brightness":
        return ""
    return "nats" if name == "entropy" else "%"


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
