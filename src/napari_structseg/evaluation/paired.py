"""Whether one model is better than another on the same patients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import wilcoxon

from napari_structseg.evaluation.overlaps import FloatArray


@dataclass(frozen=True, slots=True)
class PairedTest:
    """A two-sided Wilcoxon signed-rank test.

    Attributes
    ----------
    n_pairs
        Patients with a value of both models.
    n_different
        Those whose values differ: the others say nothing.
    p
        Before any correction for several tests; 1 where no pair differs.
    """

    n_pairs: int
    n_different: int
    p: float


def paired_test(first: FloatArray, second: FloatArray) -> PairedTest:
    """Compare two models patient by patient.

    Parameters
    ----------
    first, second
        The mean value of each patient, ``(patients,)``, in the same order; NaN where a patient
        has none. A pair with a NaN is left out.

    Raises
    ------
    ValueError
        If the lengths differ.
    """
    if first.shape != second.shape:
        raise ValueError(f"pairs need equal lengths, not {first.shape} and {second.shape}")
    differences = (first - second)[~np.isnan(first - second)]
    different = differences[differences != 0]
    p = float(wilcoxon(different).pvalue) if len(different) else 1.0
    return PairedTest(len(differences), len(different), p)


def bonferroni(p: float, n_tests: int) -> float:
    """A p-value corrected for the number of tests that were made."""
    return min(1.0, p * n_tests)
