"""Confidence intervals by patient.

Cases of a patient are not independent, so patients are drawn with replacement, each with all its
cases (cluster bootstrap: Davison and Hinkley, *Bootstrap Methods and their Application*, 1997).
The interval is that of the percentiles.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_structseg.evaluation.overlaps import FloatArray

N_RESAMPLES = 2000
_LEVEL = 0.95
_SEED = 0
# Resamples drawn at a time, so that a large cohort needs little memory.
_BLOCK = 100


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and how sure it is.

    Attributes
    ----------
    low, high
        Ends of the 95 % interval; NaN with fewer than two patients.
    standard_error
        Standard deviation of the resampled estimates; NaN with fewer than two patients.
    """

    low: float
    high: float
    standard_error: float


def resampled_sums(by_patient: FloatArray, n_resamples: int = N_RESAMPLES) -> FloatArray:
    """Sums over patients, of patients drawn with replacement.

    The draws depend on the number of patients alone, so two models on the same patients are
    resampled alike, and the difference of their estimates is a paired one.

    Parameters
    ----------
    by_patient
        What is summed, for each patient, ``(patients, K)``.
    n_resamples
        How many.

    Returns
    -------
    sums
        ``(n_resamples, K)``.
    """
    n_patients = len(by_patient)
    rng = np.random.default_rng(_SEED)
    equal = np.full(n_patients, 1 / n_patients)
    sums = np.empty((n_resamples, by_patient.shape[1]))
    for start in range(0, n_resamples, _BLOCK):
        times = rng.multinomial(n_patients, equal, min(_BLOCK, n_resamples - start))
        sums[start : start + _BLOCK] = times @ by_patient
    return sums


def resampled_means(by_patient: FloatArray, n_resamples: int = N_RESAMPLES) -> FloatArray:
    """Means over values, of patients drawn with replacement.

    Parameters
    ----------
    by_patient
        Sum and number of the values of each patient, ``(patients, 2)``.
    n_resamples
        How many.

    Returns
    -------
    means
        ``(n_resamples,)``; NaN where no value was drawn.
    """
    totals, counts = resampled_sums(by_patient, n_resamples).T
    means = np.full(len(totals), np.nan)
    np.divide(totals, counts, out=means, where=counts > 0)
    return means


def interval(estimates: FloatArray, n_patients: int) -> Interval:
    """The interval of resampled estimates.

    Parameters
    ----------
    estimates
        ``(n_resamples,)``; NaN is left out.
    n_patients
        How many patients they rest on: a single one says nothing about others.
    """
    defined = estimates[~np.isnan(estimates)]
    if n_patients < 2 or not len(defined):
        return Interval(np.nan, np.nan, np.nan)
    tail = (1 - _LEVEL) / 2
    low, high = np.quantile(defined, (tail, 1 - tail))
    return Interval(float(low), float(high), float(defined.std(ddof=1)))
