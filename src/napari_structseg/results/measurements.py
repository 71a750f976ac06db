"""Measurements of one image: volumes of every class, their spread over samples, and agreement.

What the Measure dock shows, copies, and writes as a table (CSV) or with every sample (JSON).
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from napari_structseg.controls import Controls
from napari_structseg.errors import InputError
from napari_structseg.evaluation.surfaces import surface_distances
from napari_structseg.results.labelling import write_text
from napari_structseg.results.recipe import installed_versions

RANGE_PERCENT = (5, 95)
_DIGITS = 4
_SIZES = ("shown", "result", "mean", "median", "p5", "p95")
_APART = ("dice", "surface_mm", "hd95_mm")
_COLUMNS = ("label", "class", "unit", *_SIZES, "samples", "samples_are", *_APART)


@cache
def _versions() -> dict[str, str]:
    # Looking them up takes milliseconds, and they do not change while the program runs.
    return installed_versions()


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Agreement(_Record):
    """How a class of the user's own result lies to that of the labels shown."""

    dice: float | None = Field(description="1 where they are the same; None: neither has it.")
    surface_mm: float | None = Field(description="Mean distance of both surfaces; None: no mm.")
    hd95_mm: float | None = Field(description="Hausdorff distance, 95th percentile.")


class ClassMeasurement(_Record):
    """One class. Sizes are in the unit of the measurements; None: not known."""

    label: int
    name: str
    shown: float | None = Field(description="In the labels that are shown.")
    result: float | None = Field(description="In the user's own result.")
    mean: float | None = Field(description="Mean over the samples.")
    median: float | None = None
    p5: float | None = None
    p95: float | None = None
    samples: tuple[float, ...] = Field((), description="In each of the samples 1 to N.")
    agreement: Agreement | None = Field(None, description="Result and labels shown.")


class Measurements(_Record):
    """All classes of one image, in label order."""

    format_version: int = 1
    image: str
    shown: str = Field(description="Which labels are shown: the mean, sample 3, ...")
    unit: str = Field(description="mL, or mm² for a slice; voxels or px where nothing is known.")
    n_samples: int = Field(description="Samples that mean, median and range are of; 0: none.")
    exact: bool = Field(description="Whether every voxel of every sample was counted.")
    refined: bool = Field(description="Whether an MRF refined the labels that are shown.")
    samples_refined: bool = Field(description="Whether it refined the samples, too.")
    controls: Controls
    classes: tuple[ClassMeasurement, ...]
    versions: dict[str, str] = Field(default_factory=lambda: dict(_versions()))

    @property
    def caption(self) -> str:
        """What the range is of."""
        if not self.n_samples:
            return "no range over samples is known"
        of = f"range of {self.n_samples} samples"
        return f"{of} of the model alone" if self.refined and not self.samples_refined else of

    def to_csv(self, separator: str = ",") -> str:
        """A table with one row for each class; what is not known is empty.

        Parameters
        ----------
        separator
            Between columns; a tab for the clipboard, which spreadsheets take apart.
        """
        stream = io.StringIO()
        writer = csv.writer(stream, delimiter=separator, lineterminator="\n")
        writer.writerow(_COLUMNS)
        alone = "model alone" if self.refined and not self.samples_refined else "as shown"
        for one in self.classes:
            sizes = [_text(one, name) for name in _SIZES]
            apart = [_text(one.agreement, name) for name in _APART]
            row: list[object] = [one.label, one.name, self.unit, *sizes]
            row += [self.n_samples or "", alone if self.n_samples else ""]
            writer.writerow([*row, *apart])
        return stream.getvalue()


def measured(
    *,
    image: str,
    shown: str,
    names: Sequence[str],
    unit: str,
    per_ml: float,
    controls: Controls,
    refined: bool,
    shown_ml: npt.NDArray[np.float64] | None = None,
    result_ml: npt.NDArray[np.float64] | None = None,
    samples_ml: npt.NDArray[np.float64] | None = None,
    samples_exact: bool = True,
    samples_refined: bool = False,
    agreement: Sequence[Agreement] | None = None,
) -> Measurements:
    """Put together what is known of one image.

    Parameters
    ----------
    image, shown
        Which image, and which of its labellings is shown, in words.
    names
        Of the classes, ``(C,)``.
    unit, per_ml
        How sizes are written: what a volume in mL is multiplied with, and what comes out.
    controls
        By which the labels were made.
    refined
        Whether an MRF refined the labels that are shown.
    shown_ml, result_ml
        Of each class, ``(C,)``; None: not known.
    samples_ml
        Of each class in each sample, ``(N, C)``; None: not known.
    samples_exact, samples_refined
        Whether every voxel was counted, and whether an MRF refined the samples.
    agreement
        Of each class, ``(C,)``; None: there is no result, or it was not compared.
    """
    n_samples = 0 if samples_ml is None else len(samples_ml)
    classes = []
    for label, name in enumerate(names):
        spread: dict[str, object] = {"mean": None}
        if samples_ml is not None and n_samples:
            sizes = samples_ml[:, label] * per_ml
            low, median, high = np.percentile(sizes, (RANGE_PERCENT[0], 50, RANGE_PERCENT[1]))
            spread = {
                "mean": float(sizes.mean()),
                "median": float(median),
                "p5": float(low),
                "p95": float(high),
                "samples": tuple(float(size) for size in sizes),
            }
        classes.append(
            ClassMeasurement.model_validate(
                {
                    "label": label,
                    "name": name,
                    "shown": None if shown_ml is None else float(shown_ml[label] * per_ml),
                    "result": None if result_ml is None else float(result_ml[label] * per_ml),
                    "agreement": None if agreement is None else agreement[label],
                    **spread,
                }
            )
        )
    return Measurements(
        image=image,
        shown=shown,
        unit=unit,
        n_samples=n_samples,
        exact=samples_exact,
        refined=refined,
        samples_refined=samples_refined,
        controls=controls,
        classes=tuple(classes),
    )


def compared(
    result: npt.NDArray[np.uint8],
    shown: npt.NDArray[np.uint8],
    n_classes: int,
    spacing: Sequence[float] | None,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> tuple[Agreement, ...] | None:
    """Compare two labellings class by class: Dice, and how far their surfaces are apart.

    Parameters
    ----------
    result, shown
        ``(*spatial)``.
    n_classes
        Number of classes C.
    spacing
        In mm along each axis; None: not known, and no distance is given.
    is_cancelled
        Asked between classes.

    Returns
    -------
    tuple of Agreement or None
        One for each class; None: it was cancelled. Distances of a class that one of them does not
        have are not known.
    """
    found = []
    for label in range(n_classes):
        if is_cancelled():
            return None
        first, second = result == label, shown == label
        total = int(np.count_nonzero(first)) + int(np.count_nonzero(second))
        dice = 2 * int(np.count_nonzero(first & second)) / total if total else None
        mean = far = None
        # The background's surface is that of everything else together.
        if label and spacing is not None and total:
            apart = surface_distances(first, second, spacing)
            mean, far = _finite(apart.assd()), _finite(apart.hd95())
        found.append(Agreement(dice=dice, surface_mm=mean, hd95_mm=far))
    return tuple(found)


def write_measurements(path: str | Path, measurements: Measurements) -> Path:
    """Write measurements, whole or not at all.

    Parameters
    ----------
    path
        Ends in .csv, a table, or in .json, with the volume in every sample.
    measurements
        What was measured.

    Raises
    ------
    InputError
        If the name ends otherwise, or the system refuses.
    """
    target = Path(path)
    if target.suffix.lower() == ".csv":
        text = measurements.to_csv()
    elif target.suffix.lower() == ".json":
        text = measurements.model_dump_json(indent=2)
    else:
        raise InputError(
            f"A name that ends in .csv or .json was expected, but it is {target.name!r}. Add .csv "
            "for a table, or .json for all that is known."
        )
    write_text(target, text)
    return target


def _text(record: _Record | None, name: str) -> str:
    value: float | None = None if record is None else getattr(record, name)
    return "" if value is None else f"{value:.{_DIGITS}f}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
