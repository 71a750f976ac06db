"""What a distribution over segmentations of a scan is worth, beside its reference."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from cases import TISSUES, Scan

from napari_structseg.controls import MEAN, Controls
from napari_structseg.evaluation.volumes import covered, relative_width, volume_interval

Labels = npt.NDArray[np.uint8]
Labeller = Callable[[Controls], Labels]

SEED = 7
WORST = 0.05
# Of grey or white matter that a sample calls background, beyond what the mean does: a radiologist
# sees that something is missing.
LOST = 0.05
SOLID = ("grey matter", "white matter")


def measured(labeller: Labeller, scan: Scan, iterations: int, n_samples: int) -> dict[str, object]:
    """Scores of the mean and of samples for one scan.

    Parameters
    ----------
    labeller
        Labels of the whole scan for controls.
    scan
        With its reference.
    iterations
        Of mean field.
    n_samples
        Samples to draw; 0: only the mean.

    Returns
    -------
    dict
        ``dice`` of the mean; with samples, for each tissue ``average`` and ``worst`` Dice, the
        volume's ``interval``, whether it is ``covered``, and its relative ``width``; and
        ``lost``, the share of samples that call 5 % more of the true grey or white matter
        background than the mean does.
    """
    mean = labeller(Controls(seed=SEED, iterations=iterations))
    row: dict[str, object] = {
        "group": scan.group,
        "case": scan.name,
        "dice": {name: _dice(mean == label, truth) for label, name, truth in _drawn(scan)},
    }
    if n_samples:
        row |= _of_samples(labeller, scan, mean, iterations, n_samples)
    return row


def _of_samples(
    labeller: Labeller, scan: Scan, mean: Labels, iterations: int, n_samples: int
) -> dict[str, object]:
    dice: dict[str, list[float]] = {name: [] for _, name, _ in _drawn(scan)}
    voxels: dict[str, list[int]] = {name: [] for name in dice}
    lost = 0
    lost_by_mean = _lost(mean, scan)
    for number in range(MEAN + 1, MEAN + 1 + n_samples):
        sample = labeller(Controls(seed=SEED, sample=number, iterations=iterations))
        for label, name, truth in _drawn(scan):
            found = sample == label
            dice[name].append(_dice(found, truth))
            voxels[name].append(int(found.sum()))
        lost += any(
            now - before > LOST
            for now, before in zip(_lost(sample, scan), lost_by_mean, strict=True)
        )
    n_worst = max(1, math.ceil(WORST * n_samples))
    per_ml = math.prod(scan.image.spacing) / 1000
    volumes = {}
    for name, counts in voxels.items():
        truth = np.array([scan.reference[name].sum()], np.float64)
        ml = np.array(counts, np.float64)
        volumes[name] = {
            "truth": float(truth[0] * per_ml),
            "interval": [float(end * per_ml) for end in volume_interval(ml)],
            "covered": bool(covered(ml, truth)[0]),
            "width": float(relative_width(ml, truth)[0]),
        }
    return {
        "samples": n_samples,
        "average": {name: float(np.mean(scores)) for name, scores in dice.items()},
        "worst": {name: float(np.sort(scores)[:n_worst].mean()) for name, scores in dice.items()},
        "lost": lost / n_samples,
        "volumes": volumes,
    }


def _drawn(scan: Scan) -> list[tuple[int, str, npt.NDArray[np.bool_]]]:
    return [
        (label, name, scan.reference[name])
        for label, name in TISSUES.items()
        if name in scan.reference
    ]


def _lost(labels: Labels, scan: Scan) -> list[float]:
    """Share of the true grey and white matter that is called background."""
    return [float((labels[scan.reference[name]] == 0).mean()) for name in SOLID]


def _dice(found: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_]) -> float:
    return 2 * float((found & truth).sum()) / float(found.sum() + truth.sum())


def summary(rows: Sequence[dict[str, object]]) -> dict[str, dict[str, object]]:
    """Means over the scans of each group: the rows of the table."""
    found: dict[str, dict[str, object]] = {}
    for group in dict.fromkeys(str(row["group"]) for row in rows):
        of_group = [row for row in rows if row["group"] == group]
        found[group] = _of_group(of_group)
    return found


def _of_group(rows: list[dict[str, object]]) -> dict[str, object]:
    names = list(rows[0]["dice"])
    result: dict[str, object] = {
        "n": len(rows),
        "dice": {name: _mean(row["dice"][name] for row in rows) for name in names},
    }
    if "average" in rows[0]:
        for what in ("average", "worst"):
            result[f"{what}_below"] = {
                name: _mean(row["dice"][name] - row[what][name] for row in rows) for name in names
            }
        result["lost"] = _mean(row["lost"] for row in rows)
        result["covered"] = {
            name: _mean(float(row["volumes"][name]["covered"]) for row in rows) for name in names
        }
        result["width"] = {
            name: _mean(row["volumes"][name]["width"] for row in rows) for name in names
        }
    return result


def _mean(values: object) -> float:
    return round(float(np.mean(list(values))), 4)
