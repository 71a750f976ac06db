"""Where a napari layer lies, as a geometry: from the transforms of the layer to the scanner's mm.

Two kinds of layer come here. One that the plugin opened has the geometry of its file and is shown
with its voxel size alone; if the user moves, turns or shears it afterwards, it has moved by as
much in the scanner's space. Of any other layer only napari's own world is known: its axes Z, Y, X
are taken as superior, anterior and right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pint

from napari_structseg.errors import InputError
from napari_structseg.geometry import Geometry

# The keys of a layer's metadata under which the plugin finds what the layer shows.
IMAGE_KEY = "structseg_image"
GEOMETRY_KEY = "structseg_geometry"
# The layer's transform, voxel to mm, for which the geometry was made. Without it: the voxel size.
TRANSFORM_KEY = "structseg_transform"
# What to call, with the data, when the writer has saved the layer.
SAVED_KEY = "structseg_saved"

Matrix = npt.NDArray[np.float64]


def to_mm(unit: str | pint.Unit) -> float:
    """The length of a layer's unit in mm; a pixel counts as 1 mm."""
    length = pint.Quantity(1.0, unit)
    return float(length.to("mm").magnitude) if length.check("[length]") else 1.0


def transform_of_settings(meta: Mapping[str, Any], ndim: int) -> Matrix:
    """The transform of a layer from its settings, as napari hands them to writers.

    Parameters
    ----------
    meta
        With scale, translate, rotate, shear, affine and units, each of which may be missing.
    ndim
        Number of axes of the layer.

    Returns
    -------
    transform
        Shape (ndim + 1, ndim + 1), voxel index to napari's world in mm.
    """
    shear = np.asarray(meta.get("shear", np.zeros(ndim * (ndim - 1) // 2)), dtype=np.float64)
    if shear.ndim == 1:
        above = np.eye(ndim)
        above[np.triu_indices(ndim, k=1)] = shear
        shear = above
    own = np.eye(ndim + 1)
    rotate = np.asarray(meta.get("rotate", np.eye(ndim)), dtype=np.float64)
    own[:ndim, :ndim] = rotate @ shear @ np.diag(meta.get("scale", (1.0,) * ndim))
    own[:ndim, ndim] = meta.get("translate", (0.0,) * ndim)
    world = np.asarray(meta.get("affine", np.eye(ndim + 1)), dtype=np.float64) @ own
    return in_mm(world, meta.get("units", ("pixel",) * ndim))


def in_mm(world: Matrix, units: Sequence[str | pint.Unit]) -> Matrix:
    """A transform into napari's world, in mm instead of the units of its axes."""
    return np.diag([*(to_mm(unit) for unit in units), 1.0]) @ world


def says_size(transform: Matrix, units: Sequence[str | pint.Unit]) -> bool:
    """Whether anybody has said how large the voxels of a layer are.

    A unit of length says so, and so does a voxel size other than 1.
    """
    has_unit = any(pint.Quantity(1.0, unit).check("[length]") for unit in units)
    return has_unit or not np.allclose(np.hypot.reduce(transform[:-1, :-1]), 1)


def layer_geometry(
    shape: Sequence[int],
    transform: Matrix,
    *,
    has_spacing: bool = True,
    opened: Geometry | None = None,
    opened_transform: Matrix | None = None,
) -> Geometry:
    """The geometry of what a layer shows.

    Parameters
    ----------
    shape
        Of the layer: (Z, Y, X) or (Y, X).
    transform
        Shape (ndim + 1, ndim + 1), voxel index to napari's world in mm.
    has_spacing
        Whether anybody has said how large the voxels are.
    opened
        The geometry of the file that the layer was opened from, if it was.
    opened_transform
        The layer's transform at the time for which `opened` holds; None: its voxel size.

    Returns
    -------
    geometry
        `opened` itself where the layer has not moved since. Moved by M in napari's world, a
        voxel lies where W M W^-1 takes it, with W the map from napari's world, as the file is
        shown there, to the scanner's.

    Raises
    ------
    InputError
        If the layer has another number of axes than 2 or 3, or a transform that cannot place
        voxels.
    """
    ndim = len(shape)
    if ndim not in (2, 3):
        raise InputError(
            f"A layer must have 2 or 3 spatial axes, but its shape is {tuple(shape)}. Select one "
            "time point or slice of it first."
        )
    if opened is None:
        affine = np.eye(4)
        affine[3 - ndim :, 3 - ndim :] = transform
        # napari's world is Z, Y, X; the scanner's is X, Y, Z.
        return Geometry.from_affine(shape, affine[[2, 1, 0, 3]], has_spacing=has_spacing)
    if opened_transform is None:
        opened_transform = np.diag([*opened.spacing, 1.0])
    is_where_it_was = np.allclose(transform, opened_transform)
    # A layer without any transform says nothing of its own: labels made of an array.
    if is_where_it_was or np.allclose(transform, np.eye(ndim + 1)):
        return opened
    return opened.moved(np.linalg.inv(opened_transform) @ transform, has_spacing=has_spacing)
