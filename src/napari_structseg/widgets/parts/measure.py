"""How sizes are written: mL or mm² where the voxel size is known, else voxels or pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress

from napari_structseg.image import Image

_MM3_PER_ML = 1000.0
_MILLION = 1e6


@dataclass(frozen=True)
class Measure:
    """How sizes are written.

    Attributes
    ----------
    unit
        Of volume, or of area for an image with two axes.
    per_ml
        What a volume in mL is multiplied with.
    name
        What it is a size of.
    is_count
        Whether it counts voxels or pixels, of which there are whole ones.
    """

    unit: str = "mL"
    per_ml: float = 1.0
    name: str = "Volume"
    is_count: bool = False

    def number(self, volume_ml: float) -> str:
        """A volume without its unit."""
        value = self.per_ml * volume_ml
        if not self.is_count:
            return format_ml(value)
        return f"{value:,.0f}" if value < _MILLION else f"{value / _MILLION:.2f} M"

    def write(self, volume_ml: float) -> str:
        """A volume with its unit."""
        return f"0 {self.unit}" if volume_ml == 0 else f"{self.number(volume_ml)} {self.unit}"


def measure_of(
    image: Image, sizes: Sequence[int], typed: tuple[float, ...] | None = None
) -> Measure:
    """How to write the sizes of what is segmented in an image.

    Parameters
    ----------
    image
        The image.
    sizes
        Voxels along each axis of the part that is segmented; 1 where it is a slice.
    typed
        Voxel size in mm along each axis, as the user has typed it; it counts only where the image
        does not say its own. None: nobody knows it, and voxels are counted.
    """
    is_thick = [size > 1 for size in sizes]
    is_volume = sum(is_thick) == len(sizes) == 3
    known = image.spacing if image.has_spacing else typed
    if known is None or len(known) != len(sizes):
        unit, name = ("voxels", "Volume") if is_volume else ("px", "Area")
        return Measure(unit, 1 / image.voxel_volume_ml, name, is_count=True)
    if is_volume:
        voxel_ml = math.prod(known) / _MM3_PER_ML
        return Measure(per_ml=1.0 if image.has_spacing else voxel_ml / image.voxel_volume_ml)
    return Measure("mm²", math.prod(compress(known, is_thick)) / image.voxel_volume_ml, "Area")


def format_ml(volume_ml: float) -> str:
    """A volume with about three digits: 0.42, 3.14, 27.2, 655, 1,432."""
    if volume_ml >= 100:
        return f"{volume_ml:,.0f}"
    return f"{volume_ml:.1f}" if volume_ml >= 10 else f"{volume_ml:.2f}"
