"""Images that brain-tissue was made for, and images that it was not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
from cases import IBSR_GROUPS, scans

from napari_structseg.image import Image
from napari_structseg.io.nifti import read_image
from napari_structseg.sample_data import load_mni152

# The cases whose statistics the ranges are made of; the last where heads with skulls are served.
WITH_SKULL = "IXI T1, 2 mm, with skull"
FITTED = tuple(f"IBSR {group}" for group in IBSR_GROUPS)


@dataclass(frozen=True, slots=True)
class Shown:
    """An image and what is expected of the check.

    Attributes
    ----------
    group, name
        Of the image.
    serves
        Whether the model is said to serve such images.
    image
        Reads or makes it.
    """

    group: str
    name: str
    serves: bool
    image: Callable[[], Image]


def shown_images(data: Path, limit: int, *, serves_skulls: bool) -> Iterator[Shown]:
    """Scans of IBSR and IXI, the MNI152 template, BraTS, and images made of these.

    Parameters
    ----------
    data
        Holds ``ibsr18``, ``ixi10_2mm_dlmuse`` and ``brats2015``.
    limit
        At most so many of each group.
    serves_skulls
        Whether the model promises heads with their skulls.
    """
    groups: dict[str, int] = {}
    for scan in scans(data):
        groups[scan.group] = groups.get(scan.group, 0) + 1
        if groups[scan.group] <= limit:
            yield Shown(scan.group, scan.name, True, lambda image=scan.image: image)
            if scan.group != "MNI152" and groups[scan.group] == 1:
                yield _inverted(scan.name, scan.image)
    template = load_mni152()
    yield _inverted("MNI152", template)
    yield Shown("half a head", "MNI152", False, lambda: _upper_half(template))
    folder = data / "ixi10_2mm_dlmuse"
    for path in islice(sorted((folder / "nifti").glob("*_ds.nii.gz")), limit):
        name = path.name.split("-")[0]
        regions = folder / "dlmuse" / path.name.replace("_ds.", "_ds_DLMUSE.")
        yield Shown("IXI T1, 2 mm, stripped", name, True, lambda p=path, r=regions: masked(p, r))
        yield Shown(WITH_SKULL, name, serves_skulls, lambda p=path: read_image(p))
    for case in sorted((data / "brats2015").glob("*/brainmask.nii.gz")):
        for sequence in ("Flair", "T1c"):
            path = case.with_name(f"{sequence}_subtrMeanDivStd.nii.gz")
            group = f"BraTS {sequence}, tumour"
            yield Shown(group, case.parent.name, False, lambda p=path, m=case: masked(p, m))


def _inverted(name: str, image: Image) -> Shown:
    """Dark where it was bright, as CSF is in a T2."""
    data = image.data.astype(np.float32)
    top = np.percentile(data[data != 0], 99.5)
    made = np.where(data != 0, np.clip(1.05 * top - data, 1e-3 * top, None), 0)
    return Shown("T1, inverted", name, False, lambda: _with(image, made))


def _upper_half(image: Image) -> Image:
    """The field ends in the middle of the head; what is below was not scanned."""
    n_slices = image.spatial_shape[0] // 2
    part = np.ascontiguousarray(image.data[:, :n_slices])
    return Image.from_array(part[0], spacing=image.spacing, name=f"half of {image.name}")


def masked(path: Path, mask: Path) -> Image:
    """An image without what lies outside of a mask, all of it above 0."""
    image, inside = read_image(path), read_image(mask).data != 0
    data = image.data.astype(np.float32)
    # BraTS gives standard scores: the darkest voxel of the head becomes nearly 0.
    data -= min(0.0, float(data[inside].min()))
    return _with(image, np.where(inside, data + 1e-3 * data[inside].max(), 0))


def _with(image: Image, data: npt.NDArray[np.generic]) -> Image:
    return replace(image, data=data.astype(np.float32))
