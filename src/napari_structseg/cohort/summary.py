"""From rows to the summary of an evaluation: means, intervals by patient, comparisons."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from napari_structseg.cohort.rows import Row
from napari_structseg.evaluation.bootstrap import (
    Interval,
    interval,
    resampled_means,
    resampled_sums,
)
from napari_structseg.evaluation.calibration import N_BINS, Reliability
from napari_structseg.evaluation.metrics import metric_of
from napari_structseg.evaluation.overlaps import FloatArray
from napari_structseg.evaluation.paired import bonferroni, paired_test

_DIGITS = 6


@dataclass
class _Accumulator:
    """One metric of one model, summed by patient."""

    sums: dict[str, list[float]] = field(default_factory=dict)
    n_undefined: int = 0
    left_out: list[str] = field(default_factory=list)

    def add(self, row: Row, values: Sequence[float | None]) -> None:
        found = [value for value in values if value is not None]
        self.n_undefined += len(values) - len(found)
        if not found:
            self.left_out.append(row.case)
        total = self.sums.setdefault(row.patient, [0.0, 0.0, 0.0])
        total[0] += sum(found)
        total[1] += len(found)
        total[2] += bool(found)

    def by_patient(self, patients: Sequence[str]) -> FloatArray:
        """Sum of values, their number, and cases with any, ``(patients, 3)``."""
        return np.array([self.sums.get(patient, [0.0, 0.0, 0.0]) for patient in patients])


@dataclass
class ModelAccumulator:
    """Everything about one model that the summary needs: a few numbers for each patient."""

    metrics: dict[str, _Accumulator] = field(default_factory=dict)
    reliability: dict[str, FloatArray] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        """Count one case."""
        for name, values in row.scores.items():
            self.metrics.setdefault(name, _Accumulator()).add(row, values)
        counts = np.array(row.reliability)
        self.reliability[row.patient] = self.reliability.get(row.patient, 0.0) + counts


def accumulate(rows: Iterable[Row], models: Sequence[str]) -> dict[str, ModelAccumulator]:
    """Sum the rows of some models, by model and patient.

    Parameters
    ----------
    rows
        Read once, one by one.
    models
        Their SHA-256.
    """
    accumulators = {model: ModelAccumulator() for model in models}
    for row in rows:
        if row.model in accumulators:
            accumulators[row.model].add(row)
    return accumulators


def summarise_model(model: ModelAccumulator) -> dict[str, Any]:
    """Mean, interval and what is left out, of every metric.

    Parameters
    ----------
    model
        All its cases.

    Returns
    -------
    summary
        ``metrics`` by name; of the voxels of all cases together, ``ece_pooled`` and the bins
        behind it, ``reliability``.
    """
    patients = sorted(model.reliability)
    metrics = {name: _summarise(one, patients) for name, one in model.metrics.items()}
    pooled = np.array([model.reliability[patient].ravel() for patient in patients])
    total = Reliability(*pooled.sum(axis=0).reshape(3, N_BINS))
    estimates = np.array(
        [Reliability(*sums.reshape(3, N_BINS)).error() for sums in resampled_sums(pooled)]
    )
    pooled_ece = {
        "mean": _rounded(total.error()),
        **_ends(interval(estimates, len(patients))),
    }
    return {"metrics": metrics, "ece_pooled": pooled_ece, "reliability": _bins(total)}


def compare_models(
    accumulators: Mapping[str, ModelAccumulator], metrics: Sequence[str]
) -> list[dict[str, Any]]:
    """Compare each pair of models on the patients for whom the metric is defined for both.

    Parameters
    ----------
    accumulators
        By what a model is called; all of them on the same cases.
    metrics
        By which to compare; the p-values are corrected for all of them and for all pairs.
    """
    pairs = list(itertools.combinations(accumulators, 2))
    compared = [
        (pair, name)
        for pair in pairs
        for name in metrics
        if all(name in accumulators[model].metrics for model in pair)
    ]
    return [
        _compare(accumulators, first, second, name, len(compared))
        for (first, second), name in compared
    ]


def _compare(
    accumulators: Mapping[str, ModelAccumulator], first: str, second: str, name: str, n_tests: int
) -> dict[str, Any]:
    patients = sorted(accumulators[first].reliability)
    sums = [
        accumulators[model].metrics[name].by_patient(patients)[:, :2] for model in (first, second)
    ]
    # A metric may be undefined for one of them: both are judged by the same patients.
    shared = (sums[0][:, 1] > 0) & (sums[1][:, 1] > 0)
    sums = [one[shared] for one in sums]
    means, others = (_ratio(one) for one in sums)
    test = paired_test(means, others)
    difference = [_mean(one) for one in sums]
    resampled = resampled_means(sums[0]) - resampled_means(sums[1])
    return {
        "metric": name,
        "better": metric_of(name).better,
        "first": first,
        "second": second,
        "difference": _rounded(difference[0] - difference[1]),
        **_ends(interval(resampled, test.n_pairs)),
        "values": [int(one[:, 1].sum()) for one in sums],
        "patients": test.n_pairs,
        "patients_that_differ": test.n_different,
        "p": float(f"{test.p:.4g}"),
        "p_bonferroni": float(f"{bonferroni(test.p, n_tests):.4g}"),
        "tests": n_tests,
    }


def _summarise(metric: _Accumulator, patients: Sequence[str]) -> dict[str, Any]:
    sums = metric.by_patient(patients)
    n_patients = int((sums[:, 1] > 0).sum())
    return {
        "mean": _rounded(_mean(sums)),
        **_ends(interval(resampled_means(sums[:, :2]), n_patients)),
        "cases": int(sums[:, 2].sum()),
        "values": int(sums[:, 1].sum()),
        "undefined_values": metric.n_undefined,
        "left_out_cases": metric.left_out,
    }


def _mean(sums: FloatArray) -> float:
    total, n_values = sums[:, 0].sum(), sums[:, 1].sum()
    return float(total / n_values) if n_values else math.nan


def _ratio(sums: FloatArray) -> FloatArray:
    """Mean of each patient; NaN without a value."""
    result = np.full(len(sums), np.nan)
    np.divide(sums[:, 0], sums[:, 1], out=result, where=sums[:, 1] > 0)
    return result


def _ends(found: Interval) -> dict[str, float | None]:
    return {
        "low": _rounded(found.low),
        "high": _rounded(found.high),
        "standard_error": _rounded(found.standard_error),
    }


def _bins(total: Reliability) -> list[dict[str, float]]:
    return [
        {
            "observations": int(count),
            "confidence": round(confidence / count, _DIGITS),
            "accuracy": round(correct / count, _DIGITS),
        }
        for count, confidence, correct in zip(
            total.count.tolist(), total.confidence.tolist(), total.correct.tolist(), strict=True
        )
        if count
    ]


def _rounded(value: float) -> float | None:
    """For JSON, which has no NaN."""
    return None if math.isnan(value) else round(value, _DIGITS)
