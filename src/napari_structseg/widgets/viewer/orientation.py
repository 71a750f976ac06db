"""Which side of the patient is at which edge of the view, and the planes named after the body.

Nothing is drawn here; see `letters.py`.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

import numpy as np
from napari.components import ViewerModel
from napari.layers import Layer

from napari_structseg.geometry import Geometry
from napari_structseg.image import Image
from napari_structseg.io.nifti import says_orientation
from napari_structseg.layer_geometry import GEOMETRY_KEY, IMAGE_KEY, TRANSFORM_KEY

# Along right, anterior, superior: the letter of the side that an axis runs to, and that it leaves.
_SIDES = (("R", "L"), ("A", "P"), ("S", "I"))
# A turn out of the view that is rounding, as a sine.
_IN_PLANE = 1e-6


class EdgeLetters(NamedTuple):
    """The side of the patient at each edge of the view: R, L, A, P, S or I."""

    left: str
    right: str
    top: str
    bottom: str


class Plane(Enum):
    """The planes of the body; the value is the array axis that slices are counted along."""

    AXIAL = 0
    CORONAL = 1
    SAGITTAL = 2


def known_geometry(layer: Layer) -> Geometry | None:
    """The geometry that a layer came with; None where nobody said how the patient lies.

    An array without a file has no patient in it, and neither has a file without an affine: a
    letter would be invented.
    """
    image = layer.metadata.get(IMAGE_KEY)
    geometry = image.geometry if isinstance(image, Image) else layer.metadata.get(GEOMETRY_KEY)
    if not isinstance(geometry, Geometry) or geometry.ndim != layer.ndim:
        return None
    return geometry if says_orientation(geometry) else None


def edge_letters(viewer: ViewerModel, layer: Layer) -> EdgeLetters | None:
    """The letters at the edges of the view of a layer; None in 3-D, or where they are not sure.

    Parameters
    ----------
    viewer
        Its axes in any order, its camera mirrored or not.
    layer
        Its axes are the viewer's last ones. A plane that is oblique to the patient gets the
        letters of the nearest axes.
    """
    geometry = known_geometry(layer)
    dims = viewer.dims
    if geometry is None or len(dims.displayed) != 2 or dims.ndim < layer.ndim:
        return None
    _, vertical, horizontal = viewer.scene.camera.orientation
    down, right = (axis - (dims.ndim - layer.ndim) for axis in dims.displayed)
    if min(down, right) < 0 or not _lies_in_view(layer, (down, right)):
        return None
    top, bottom = _sides(layer, geometry, down)
    left, right_side = _sides(layer, geometry, right)
    if vertical != "down":
        top, bottom = bottom, top
    if horizontal != "right":
        left, right_side = right_side, left
    return EdgeLetters(left, right_side, top, bottom)


def plane_of(viewer: ViewerModel) -> Plane | None:
    """Which plane of the body a viewer shows upright; None: another view."""
    order = tuple(viewer.dims.order)
    if len(viewer.dims.displayed) != 2 or len(order) < 3:
        return None
    return next((plane for plane in Plane if order_of(plane, len(order)) == order), None)


def order_of(plane: Plane, n_axes: int) -> tuple[int, ...]:
    """The order of a viewer's axes in which a plane of the body is upright.

    Arrays run towards inferior, posterior and left: row 0 is at the top of the head or at the
    nose where axes stay in their order, and only there.

    Parameters
    ----------
    plane
        Which plane.
    n_axes
        Of the viewer, three or more; the last three are those of the volume.
    """
    first = n_axes - 3
    planes = [axis for axis in range(3) if axis != plane.value]
    return (*range(first), first + plane.value, *(first + axis for axis in planes))


def _lies_in_view(layer: Layer, plane: tuple[int, int]) -> bool:
    """Whether napari draws a layer as it lies: it leaves out a turn that leads out of the view."""
    others = [axis for axis in range(layer.ndim) if axis not in plane]
    origin = np.asarray(layer.data_to_world(np.zeros(layer.ndim)))
    steps = np.array([layer.data_to_world(unit) for unit in np.eye(layer.ndim)]) - origin
    across = np.concatenate([steps[np.ix_(plane, others)], steps[np.ix_(others, plane)].T])
    return bool(np.abs(across).max(initial=0) <= _IN_PLANE * np.abs(steps).max())


def _sides(layer: Layer, geometry: Geometry, axis: int) -> tuple[str, str]:
    """The sides of the patient that an axis of napari's world comes from and runs to.

    The world was laid over the patient when the file was opened. A layer that is turned
    afterwards turns in it, on the screen and in what is saved.
    """
    shown = layer.metadata.get(TRANSFORM_KEY)
    shown = np.diag((*geometry.spacing, 1.0)) if shown is None else np.asarray(shown)
    to_voxels = np.linalg.inv(shown[:-1, :-1])
    kept = [one for one in range(3) if one != geometry.flat_axis]
    towards = geometry.affine[:3, kept] @ to_voxels[:, axis]
    nearest = int(np.argmax(np.abs(towards)))
    positive, negative = _SIDES[nearest]
    return (negative, positive) if towards[nearest] > 0 else (positive, negative)
