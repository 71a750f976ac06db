"""`structseg predict` of many images without the terminal."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari_structseg.errors import ConfigError, InputError
from napari_structseg.interrupts import stopped_at_once
from napari_structseg.many.cases import Case, Part, find_cases
from napari_structseg.many.crew import outcomes
from napari_structseg.many.tables import Tables, check_folder
from napari_structseg.many.work import Order, Outcome, holds_results, opened
from napari_structseg.results.request import (
    FilePath,
    PredictionRequest,
    make_request,
    takes_options,
)
from napari_structseg.results.task import controls_of
from napari_structseg.workers.crew import Crew

Report = Callable[[Outcome, int, int], None]
"""Told of each case that is through, how many are, and how many there are."""

# These belong to one image.
_OF_ONE_IMAGE = ("probabilities", "strokes", "stroke_labels")


@dataclass(frozen=True, slots=True)
class Choice:
    """Which cases, and by whom.

    Attributes
    ----------
    skip_existing
        Leave what was predicted with the same settings before.
    part
        Of the cases; None: all of them.
    crew
        Who works on them.
    """

    skip_existing: bool = False
    part: Part | None = None
    crew: Crew = field(default_factory=Crew)


@dataclass(slots=True)
class Finished:
    """What became of many cases.

    Attributes
    ----------
    out
        Where results and tables are.
    outcomes
        By name of the case.
    """

    out: Path
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    def count(self, status: str) -> int:
        """How many cases ended that way."""
        return sum(one.status == status for one in self.outcomes.values())

    @property
    def failed(self) -> dict[str, str]:
        """Errors by name of the case."""
        return {one.case: one.error for one in self.outcomes.values() if one.status == "failed"}


@takes_options
def predict_many(
    cases: FilePath,
    model: FilePath,
    out: FilePath,
    *,
    skip_existing: bool = False,
    part: str | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    report: Report | None = None,
    **options: Any,  # noqa: ANN401 -- the fields of a request, which checks them
) -> Finished:
    """Predict the images of a folder or a list, one folder of results for each.

    A case that fails is written down, and the others go on. ``volumes.csv`` in `out` has one row
    for each case and class, ``failed.csv`` one for each case that failed.

    Parameters
    ----------
    cases
        A folder with images; a text file with one image in each line; or a table, ``*.csv``, with
        the column ``case`` and one for each channel. Files ``CASE_0000``, ``CASE_0001`` are
        channels of one case.
    model
        Name of a shipped model, or a .safetensors file.
    out
        Folder for the results, made if it is missing.
    skip_existing
        Leave what was predicted with the same settings before, and replace what is not whole.
    part
        ``"2/10"``: only the second of ten parts of the cases.
    workers
        Processes on this computer; None: as many as fit into its memory, with the extra
        ``cohort``. A script that asks for several needs ``if __name__ == "__main__":``.
    scheduler
        Instead: the address of a scheduler of dask.distributed, or the file that it wrote.
    report
        Told of each case that is through.
    **options
        {options}

    Returns
    -------
    finished
        What became of each case.

    Raises
    ------
    ConfigError, InputError, WeightsError, MemoryLimitError
        If settings, model, list or folder cannot be used, before anything is computed. What is
        wrong with single images is in the result.

    Examples
    --------
    >>> finished = predict_many("images", "brain-tissue", "results")  # doctest: +SKIP
    >>> finished.failed  # doctest: +SKIP
    {'IXI007': 'IXI007.nii.gz is not a NIfTI file ...'}
    """
    request = make_request(images=cases, model=model, out=out, **options)
    of_cases = None if part is None else Part.parse(part)
    chosen = Choice(skip_existing, of_cases, Crew(workers, scheduler))
    return run(request, chosen, report)


def run(request: PredictionRequest, choice: Choice, report: Report | None = None) -> Finished:
    """Predict many images, as :func:`predict_many`.

    Ctrl-C and SIGTERM end the case that is computed; what was done before is kept and in the
    tables.

    Parameters
    ----------
    request
        Its one image is the folder or the list.
    choice
        Which cases.
    report
        Told of each case that is through.
    """
    cases = find_cases(request.images[0])
    mine = cases if choice.part is None else choice.part.of(cases)
    _check(request, cases, mine, choice)
    finished, tables = Finished(request.out), Tables(request.out)
    orders = [Order(case.name, of_case(request, case), choice.skip_existing) for case in mine]
    with stopped_at_once(), closing(outcomes(orders, choice.crew)) as coming:
        try:
            for outcome in coming:
                finished.outcomes[outcome.case] = outcome
                tables.write_now_and_then(finished.failed)
                if report is not None:
                    report(outcome, len(finished.outcomes), len(mine))
        finally:
            tables.write(finished.failed)
    return finished


def of_case(request: PredictionRequest, case: Case) -> PredictionRequest:
    """The request of one case, in a folder of its own."""
    return request.model_copy(update={"images": case.images, "out": request.out / case.name})


def _check(
    request: PredictionRequest, cases: Sequence[Case], mine: Sequence[Case], choice: Choice
) -> None:
    """Refuse what would go wrong for all cases, or overwrite something."""
    if choice.skip_existing and request.overwrite:
        raise ConfigError("Choose either --skip-existing or --overwrite.")
    given = [name for name in _OF_ONE_IMAGE if getattr(request, name)]
    if given:
        raise ConfigError(
            f"--{given[0].replace('_', '-')} belongs to one image, but {request.images[0]} stands "
            "for several. Predict that image alone, or leave the option out."
        )
    if mine and not request.members:
        # What is wrong with members is wrong with one case.
        first = of_case(request, mine[0])
        controls_of(first, opened(first))
    check_folder(request.out)
    folders = {os.path.realpath(request.out / case.name): case for case in mine}
    for case in cases:
        for image in case.images:
            other = folders.get(os.path.realpath(image.parent))
            if other is not None:
                raise InputError(
                    f"{image} lies in the folder for the results of {other.name!r}, where it "
                    "could be replaced. Choose another folder for --out."
                )
    if choice.skip_existing or request.overwrite:
        return
    there = [case.name for case in mine if holds_results(request.out / case.name)]
    if there:
        raise InputError(
            f"{request.out} already holds results of {len(there)} of the {len(mine)} cases, such "
            f"as {there[0]!r}. Go on with --skip-existing, replace them with --overwrite, or "
            "choose another folder."
        )
