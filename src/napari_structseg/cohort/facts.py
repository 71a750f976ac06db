"""What a cohort is made of, found by reading all of it before anything is computed."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from napari_structseg.cohort.cases import Cohort
from napari_structseg.data.cases import ReadCase
from napari_structseg.io.references import voxel_hash

Report = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is."""


@dataclass
class CohortFacts:
    """Counts over the cases of a cohort.

    Attributes
    ----------
    sha256
        Of names, voxels and labels: the same cohort has the same wherever it lies.
    n_cases, n_patients
        How many.
    raters
        How many cases have how many raters.
    empty_masks
        Segmentations of raters without any foreground.
    empty_cases
        Cases in which no rater marked anything.
    """

    sha256: str = ""
    n_cases: int = 0
    n_patients: int = 0
    raters: Counter[int] = field(default_factory=Counter)
    empty_masks: int = 0
    empty_cases: int = 0

    def as_json(self) -> dict[str, Any]:
        """For the summary."""
        return {
            "sha256": self.sha256,
            "cases": self.n_cases,
            "patients": self.n_patients,
            "cases_by_number_of_raters": {f"{n}": self.raters[n] for n in sorted(self.raters)},
            "empty_masks": self.empty_masks,
            "cases_that_nobody_marked": self.empty_cases,
        }


def read_facts(cohort: Cohort, accept: Callable[[ReadCase], None], report: Report) -> CohortFacts:
    """Read every case once.

    Parameters
    ----------
    cohort
        The cases.
    accept
        Raises for a case that cannot be evaluated.
    report
        Told about progress.

    Raises
    ------
    ConfigError, InputError, MemoryLimitError
        For the first case that cannot be used, naming it.
    """
    facts = CohortFacts(n_cases=len(cohort))
    digest = hashlib.sha256()
    patients = set()
    for number, case in enumerate(cohort, start=1):
        accept(case)
        patients.add(case.patient)
        facts.raters[len(case.raters)] += 1
        marked = case.raters.reshape(len(case.raters), -1).any(axis=1)
        facts.empty_masks += int(np.count_nonzero(~marked))
        facts.empty_cases += not marked.any()
        voxels = map(voxel_hash, (case.image.data, case.raters))
        for part in (case.name, case.patient, case.image.spacing, *voxels):
            digest.update(f"{part}\n".encode())
        report("Checking the data set", number, len(cohort))
    facts.n_patients = len(patients)
    facts.sha256 = digest.hexdigest()
    return facts
