"""Distances between surfaces in mm: HD95, ASSD and the surface Dice (NSD).

The surface of a mask is its voxels that have a face neighbour outside; the outside of the image
is outside. Distances are between voxel centres (as in Maier-Hein et al., *Metrics reloaded*,
Nature Methods 2024, whose definitions these are), not between areas of triangles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_erosion, distance_transform_edt, find_objects

from napari_structseg.evaluation.overlaps import FloatArray

Mask = npt.NDArray[np.bool_]
_FAR_PERCENTILE = 95


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """From each surface voxel of either mask to the other surface, in mm.

    Attributes
    ----------
    to_second
        From the surface of the first, ``(voxels,)``; empty if one of the masks is.
    to_first
        From the surface of the second, ``(voxels,)``; empty if one of the masks is.
    empty
        How many of the two masks are empty.
    """

    to_second: FloatArray
    to_first: FloatArray
    empty: int

    def hd95(self) -> float:
        """Hausdorff distance at the 95th percentile, the larger of both directions.

        NaN if a mask is empty.
        """
        if self.empty:
            return float("nan")
        both = (self.to_second, self.to_first)
        return max(float(np.percentile(distances, _FAR_PERCENTILE)) for distances in both)

    def assd(self) -> float:
        """Average symmetric surface distance, over the voxels of both; NaN if a mask is empty."""
        if self.empty:
            return float("nan")
        return float(np.concatenate([self.to_second, self.to_first]).mean())

    def nsd(self, tolerance: float) -> float:
        """Normalised surface Dice: the share of both surfaces within a tolerance of the other.

        Nikolov et al., 2021. NaN if both masks are empty, 0 if one is.

        Parameters
        ----------
        tolerance
            In mm.
        """
        if self.empty:
            return float("nan") if self.empty == 2 else 0.0
        both = np.concatenate([self.to_second, self.to_first])
        # A tolerance of three voxels includes three voxels, whatever their size rounds to.
        return float((both <= tolerance * (1 + 1e-9)).mean())


def surface_distances(first: Mask, second: Mask, spacing: Sequence[float]) -> SurfaceDistances:
    """Measure how far two surfaces are apart.

    Parameters
    ----------
    first, second
        Masks of one shape.
    spacing
        Distance between voxel centres along each axis, in mm.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if first.shape != second.shape:
        raise ValueError(f"shapes differ: {first.shape} and {second.shape}")
    n_empty = int(not first.any()) + int(not second.any())
    if n_empty:
        return SurfaceDistances(np.zeros(0), np.zeros(0), n_empty)
    (box,) = find_objects((first | second).astype(np.uint8))
    surfaces = [_surface(mask[box]) for mask in (first, second)]
    to_first, to_second = (
        distance_transform_edt(~surface, sampling=tuple(spacing)) for surface in surfaces
    )
    return SurfaceDistances(to_second[surfaces[0]], to_first[surfaces[1]], 0)


def _surface(mask: Mask) -> Mask:
    surface: Mask = mask & ~binary_erosion(mask)
    return surface
