"""The cases of the MRF-UNet experiment: who is trained on, who is tested on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_structseg.data.cases import PreparedCase, prepare, read_case
from napari_structseg.data.dataset import Case, Dataset
from napari_structseg.models import IntensitySpec

IN, OUT = "in distribution", "out of distribution"
CLASSES = {
    "ibsr18": ("other", "CSF", "grey matter", "white matter"),
    "hippocampus": ("background", "anterior", "posterior"),
}
# By subject. The acquisition of 1.0 mm differs in contrast and resolution, and is never trained on.
IBSR_TRAINING = ("IBSR_01", "IBSR_03", "IBSR_04", "IBSR_05")
# In order of name.
HIPPOCAMPUS_TRAINING, HIPPOCAMPUS_TEST = 100, 40


@dataclass(frozen=True)
class Split:
    """What is trained on, and what is tested on, by distribution."""

    training: list[PreparedCase]
    test: dict[str, list[PreparedCase]]


def read_split(name: str, data: Path, spacing: Sequence[float]) -> Split:
    """Read, normalise, resample and crop the cases of a data set."""
    if name == "ibsr18":
        inside = _pairs(data / "ibsr18" / "0.94mm", "{}.nii.gz", "{}_seg.nii.gz")
        outside = _pairs(data / "ibsr18" / "1.0mm", "{}.nii.gz", "{}_seg.nii.gz")
        training = [case for case in inside if case.name in IBSR_TRAINING]
        test = {IN: [case for case in inside if case.name not in IBSR_TRAINING], OUT: outside}
    else:
        cases = _pairs(data / "hippocampus", "images/{}.nii.gz", "labels/{}.nii.gz")
        training = cases[:HIPPOCAMPUS_TRAINING]
        test = {IN: cases[HIPPOCAMPUS_TRAINING : HIPPOCAMPUS_TRAINING + HIPPOCAMPUS_TEST]}
    dataset = Dataset(data, ("T1",), CLASSES[name], ())

    def prepared(cases: list[Case]) -> list[PreparedCase]:
        intensity = IntensitySpec()
        read = (read_case(case, dataset, 3) for case in cases)
        return [_cropped(prepare(case, intensity=intensity, spacing=spacing)) for case in read]

    return Split(prepared(training), {where: prepared(cases) for where, cases in test.items()})


def _pairs(folder: Path, image: str, labels: str) -> list[Case]:
    """Every case of a folder, in order of name; `image` and `labels` say how files are named."""
    before, after = labels.split("{}")
    names = sorted(path.name for path in (folder / before).glob(f"*{after}"))
    cases = [name.removesuffix(after) for name in names]
    return [
        Case(name, (folder / image.format(name),), (folder / labels.format(name),))
        for name in cases
    ]


def _cropped(case: PreparedCase) -> PreparedCase:
    """To the voxels with data, so that a patch of the size of a head shows all of it."""
    found = np.argwhere((case.image != 0).any(axis=0))
    box = tuple(
        slice(int(a), int(b)) for a, b in zip(found.min(axis=0), found.max(axis=0) + 1, strict=True)
    )
    labels = tuple(rater[box] for rater in case.labels)
    return PreparedCase(case.name, case.image[(slice(None), *box)], labels, case.spacing)
