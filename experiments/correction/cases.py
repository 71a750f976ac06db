"""Cases to correct, with what the user would have them be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_structseg.data.sources import open_source
from napari_structseg.distributions import Region, SampledDistribution, Strokes
from napari_structseg.image import Image
from napari_structseg.io.nifti import read_image
from napari_structseg.prediction.source import Source

# As acdc.py writes them.
SCRIBBLES_NAME = "scribbles.npy"
# Cases that settings are chosen on come before those that figures are of.
_TEST_OF_HIPPOCAMPUS = 50
IBSR_GROUPS = ("0.94mm", "1.0mm")
# The way to condition was worked out on the first ones.
_SEEN_OF_IBSR = 3
REVIEWED_SLICES = 10


@dataclass(frozen=True, slots=True)
class CorrectionCase:
    """One image and its reference.

    Attributes
    ----------
    name
        Of the case.
    image
        The image.
    truth
        What the user would have it be, ``(*spatial)``, uint8.
    n_classes
        Number of classes C.
    scored
        Classes that Dice is taken of.
    counted
        Voxels that Dice is taken of; None: all.
    reviewed
        Voxels that the user looks at; None: all.
    region
        Part of the image that is corrected; None: all of it. ``truth`` and the masks are of it.
    radius
        Of the user's brush, in voxels.
    scribbles
        What the user says, one after the other, whatever is shown; empty: he looks for mistakes.
    """

    name: str
    image: Image
    truth: npt.NDArray[np.uint8]
    n_classes: int
    scored: tuple[int, ...]
    counted: npt.NDArray[np.bool_] | None = None
    reviewed: npt.NDArray[np.bool_] | None = None
    region: Region | None = None
    radius: float = 2.0
    scribbles: tuple[Strokes, ...] = ()

    def distribution(self, source: Source) -> SampledDistribution:
        """What a model gives for the image."""
        found = source.predictor.predict(self.image)
        if not isinstance(found, SampledDistribution):
            raise SystemExit(f"{source.spec.name} gives a distribution that takes no strokes.")
        if self.region is None:
            return found
        part = found.crop(self.region)
        assert isinstance(part, SampledDistribution)
        return part


def hippocampus(data: Path, n_cases: int, is_sweep: bool) -> list[CorrectionCase]:
    """The last cases in order of name; for a sweep, those before the last 50."""
    names = sorted(path.name for path in (data / "images").glob("*.nii.gz"))
    end = len(names) - (_TEST_OF_HIPPOCAMPUS if is_sweep else 0)
    cases = []
    for name in names[end - n_cases : end]:
        truth = read_image(data / "labels" / name).data[0].astype(np.uint8)
        image = read_image(data / "images" / name)
        cases.append(CorrectionCase(name.removesuffix(".nii.gz"), image, truth, 3, (1, 2)))
    return cases


def ibsr(data: Path, n_cases: int, is_sweep: bool) -> list[CorrectionCase]:
    """Scans of both groups in turn, but for the first three; for a sweep, the last ones.

    The raters of IBSR drew no CSF between the sulci: only what they called grey or white matter
    or ventricle counts. The user looks at :data:`REVIEWED_SLICES` slices in the middle, as somebody
    would who has no hour for a scan; Dice is that of the whole brain.
    """
    groups = [sorted((data / group).glob("*_seg.nii.gz")) for group in IBSR_GROUPS]
    longest = max(map(len, groups))
    paths = [group[i] for i in range(longest) for group in groups if i < len(group)]
    cases = []
    shown = paths[_SEEN_OF_IBSR : _SEEN_OF_IBSR + n_cases]
    for path in paths[-n_cases:] if is_sweep else shown:
        name = path.name.removesuffix("_seg.nii.gz")
        truth = read_image(path).data[0].astype(np.uint8)
        image = read_image(path.with_name(f"{name}.nii.gz"))
        (region,) = ndimage.find_objects((truth > 0).astype(np.uint8))
        truth = truth[region]
        reviewed = truth > 0
        middle = len(truth) // 2
        reviewed[: middle - REVIEWED_SLICES // 2] = False
        reviewed[middle + REVIEWED_SLICES // 2 :] = False
        cases.append(CorrectionCase(name, image, truth, 4, (2, 3), truth > 0, reviewed, region))
    return cases


def lidc(data: Path, n_cases: int, is_sweep: bool) -> list[CorrectionCase]:
    """Slices of the split ``test`` (``val`` for a sweep) that raters disagree about.

    The user is the rater who drew the most.
    """
    source = open_source(data)
    split = "val" if is_sweep else "test"
    cases = []
    for entry in source.entries:
        if entry.split != split:
            continue
        read = source.read(entry)
        sizes = [int(one.sum()) for one in read.raters]
        if min(sizes) == max(sizes):
            continue
        truth = read.raters[int(np.argmax(sizes))]
        cases.append(CorrectionCase(entry.name, read.image, truth, 2, (1,), radius=1.0))
        if len(cases) == n_cases:
            break
    return cases


def acdc(data: Path, n_cases: int, is_sweep: bool) -> list[CorrectionCase]:
    """Slices of the patients that were not trained on, with the scribbles of a real person.

    He has drawn a line into every structure, whatever a model says of it: a stroke is all that he
    has said of one class, the background last.
    """
    if is_sweep:
        raise SystemExit("No settings were chosen on acdc: it has no sweep.")
    source, drawn = open_source(data), np.load(data / SCRIBBLES_NAME)
    cases = []
    for entry, scribble in zip(source.entries, drawn, strict=True):
        if entry.split != "test" or len(cases) == n_cases:
            continue
        read = source.read(entry)
        said = [
            Strokes.from_array(np.where(scribble == label, label + 1, 0).astype(np.uint16), 4)
            for label in (1, 2, 3, 0)
        ]
        scribbles = tuple(one for one in said if len(one))
        case = CorrectionCase(
            entry.name, read.image, read.raters[0], 4, (1, 2, 3), scribbles=scribbles
        )
        cases.append(case)
    return cases


READERS: dict[str, Callable[[Path, int, bool], list[CorrectionCase]]] = {
    "acdc": acdc,
    "hippocampus": hippocampus,
    "ibsr": ibsr,
    "lidc": lidc,
}
