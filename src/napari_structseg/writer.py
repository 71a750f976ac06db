"""napari saves labels layers as NIfTI through this module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pint

from napari_structseg.errors import InputError
from napari_structseg.geometry import Geometry
from napari_structseg.image import Image
from napari_structseg.io.nifti import write_volume
from napari_structseg.reader import GEOMETRY_KEY, IMAGE_KEY


def write_labels(
    path: str, data: npt.NDArray[Any] | Sequence[npt.ArrayLike], meta: Mapping[str, Any]
) -> list[str]:
    """Save a labels layer as NIfTI.

    Labels of an image that the plugin knows go on the grid of the image's file. Any other layer
    is saved with the affine that its scale and its translation give.

    Parameters
    ----------
    path
        Ends in .nii or .nii.gz.
    data
        The layer's labels, between 0 and 255; of a multiscale layer, the first level is saved.
    meta
        The layer's attributes, as napari hands them to writers.

    Returns
    -------
    paths
        What was written.

    Raises
    ------
    InputError
        If the labels do not fit into uint8 or the image's grid, or the layer is rotated.
    """
    labels = np.asarray(data[0] if meta.get("multiscale") else data)
    geometry = _known_geometry(meta.get("metadata", {})) or _layer_geometry(labels.shape, meta)
    write_volume(path, labels, geometry, dtype=np.uint8)
    return [path]


def _known_geometry(metadata: Mapping[str, Any]) -> Geometry | None:
    geometry = metadata.get(GEOMETRY_KEY)
    if isinstance(geometry, Geometry):
        return geometry
    image = metadata.get(IMAGE_KEY)
    return image.geometry if isinstance(image, Image) else None


def _layer_geometry(shape: tuple[int, ...], meta: Mapping[str, Any]) -> Geometry:
    ndim = len(shape)
    name = meta.get("name", "labels")
    if ndim not in (2, 3):
        raise InputError(
            f"Layer {name!r} must have 2 or 3 axes to be saved as NIfTI, but its shape is "
            f"{shape}. Save one time point or channel of it at a time."
        )
    rotated = not (
        np.allclose(meta.get("rotate", np.eye(ndim)), np.eye(ndim))
        and np.allclose(meta.get("shear", 0), 0)
        and np.allclose(meta.get("affine", np.eye(ndim + 1)), np.eye(ndim + 1))
    )
    if rotated:
        raise InputError(
            f"Layer {name!r} has a rotation, shear or affine of its own, and no image to say what "
            f"it means in the scanner's space. Remove the transform, then save it again."
        )
    mm = np.array([_mm(unit) for unit in meta.get("units", ("pixel",) * ndim)])
    affine = np.eye(4)
    affine[3 - ndim : 3, 3 - ndim : 3] = np.diag(np.multiply(meta.get("scale", (1,) * ndim), mm))
    affine[3 - ndim : 3, 3] = np.multiply(meta.get("translate", (0,) * ndim), mm)
    # A layer's world is Z, Y, X; NIfTI's is X, Y, Z.
    return Geometry.from_affine(shape, affine[[2, 1, 0, 3]])


def _mm(unit: str | pint.Unit) -> float:
    """Return the length of a layer's unit in mm; a pixel counts as 1 mm."""
    length = pint.Quantity(1.0, unit)
    return float(length.to("mm").magnitude) if length.check("[length]") else 1.0
