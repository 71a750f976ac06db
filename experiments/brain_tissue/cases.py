"""Scans that brain-tissue never saw, with the tissue of each voxel as others have drawn it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_structseg.image import Image
from napari_structseg.io.nifti import read_image
from napari_structseg.sample_data import load_mni152, load_mni152_tissue_maps

TISSUES = {1: "CSF", 2: "grey matter", 3: "white matter"}
IBSR_GROUPS = ("0.94mm", "1.0mm")
# A tissue map of the template counts as its tissue above this.
_PROBABLE = 0.5


@dataclass(frozen=True, slots=True)
class Scan:
    """A scan and its reference.

    Attributes
    ----------
    group, name
        Of the scan.
    image
        The scan, without its skull.
    reference
        The mask of each tissue that was drawn, ``(*spatial)`` of bool.
    """

    group: str
    name: str
    image: Image
    reference: dict[str, npt.NDArray[np.bool_]]


def scans(data: Path) -> Iterator[Scan]:
    """The MNI152 template, then the scans of IBSR.

    Parameters
    ----------
    data
        Holds ``ibsr18/0.94mm`` and ``ibsr18/1.0mm``, each with ``CASE.nii.gz`` and
        ``CASE_seg.nii.gz``.
    """
    maps = load_mni152_tissue_maps()
    reference = {"grey matter": maps["gm"] > _PROBABLE, "white matter": maps["wm"] > _PROBABLE}
    yield Scan("MNI152", "MNI152", load_mni152(), reference)
    for group in IBSR_GROUPS:
        for path in sorted((data / "ibsr18" / group).glob("*_seg.nii.gz")):
            case = path.name.removesuffix("_seg.nii.gz")
            labels = read_image(path).data[0]
            reference = {name: labels == label for label, name in TISSUES.items()}
            image = read_image(path.with_name(f"{case}.nii.gz"))
            yield Scan(f"IBSR {group}", case, image, reference)
