"""Connected components under a voxel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_structseg.correction.differences import box_of
from napari_structseg.distributions.region import Region
from napari_structseg.errors import InputError

BACKGROUND = 0
# Voxels around a place that are looked at first.
_MARGIN = 8


def component_at(
    labels: npt.NDArray[np.integer[Any]], voxel: Sequence[int], *, diagonal: bool = False
) -> npt.NDArray[np.bool_]:
    """The connected component of one class that a voxel lies in.

    Parameters
    ----------
    labels
        ``(*spatial)``.
    voxel
        Its index along each axis.
    diagonal
        Whether voxels that touch at an edge or a corner only are neighbours, too: 26 of them in
        3-D and 8 in 2-D, instead of 6 and 4.

    Returns
    -------
    component
        True inside, ``(*spatial)``.

    Raises
    ------
    InputError
        If the voxel lies outside.
    """
    place = _checked(labels.shape, voxel)
    seed = np.ones((1,) * labels.ndim, bool)
    return _connected(labels, int(labels[place]), _box_at(place), seed, diagonal=diagonal)


def component_to_accept(
    result: npt.NDArray[np.integer[Any]],
    labelling: npt.NDArray[np.integer[Any]],
    voxel: Sequence[int],
    *,
    diagonal: bool = False,
) -> npt.NDArray[np.bool_] | None:
    """Where a result has to follow a labelling, so that one component is as it is there.

    That is the labelling's component under the voxel, and every component of the same class in
    the result that overlaps it: what is smaller in the labelling becomes smaller. Where the
    labelling has background, it is the result's component under the voxel, which goes.

    Parameters
    ----------
    result, labelling
        ``(*spatial)``.
    voxel
        Its index along each axis.
    diagonal
        As in :func:`component_at`.

    Returns
    -------
    region
        True inside, ``(*spatial)``; None where both have background.

    Raises
    ------
    InputError
        If the voxel lies outside.
    """
    place = _checked(labelling.shape, voxel)
    label = labelling[place]
    if label == BACKGROUND:
        if result[place] == BACKGROUND:
            return None
        return component_at(result, place, diagonal=diagonal)
    region = component_at(labelling, place, diagonal=diagonal)
    box = box_of(region)
    if box is None:
        raise AssertionError("the voxel itself lies in its component")
    return region | _connected(result, int(label), box, region[box], diagonal=diagonal)


def _connected(
    labels: npt.NDArray[np.integer[Any]],
    label: int,
    seed_box: Region,
    seed: npt.NDArray[np.bool_],
    *,
    diagonal: bool,
) -> npt.NDArray[np.bool_]:
    """All components of a class that overlap a seed: a mask of a box.

    It looks into a box around the seed, and into a larger one only where a component goes on: of
    a whole brain, numbering all components takes hundreds of times as long as those of a lesion.
    """
    structure = ndimage.generate_binary_structure(labels.ndim, labels.ndim if diagonal else 1)
    found = np.zeros(labels.shape, bool)
    margin = _MARGIN
    while True:
        box = tuple(
            slice(max(0, part.start - margin), min(size, part.stop + margin))
            for part, size in zip(seed_box, labels.shape, strict=True)
        )
        numbered: npt.NDArray[np.int32] = ndimage.label(labels[box] == label, structure)[0]
        inner = tuple(
            slice(part.start - outer.start, part.stop - outer.start)
            for part, outer in zip(seed_box, box, strict=True)
        )
        is_wanted = np.zeros(int(numbered.max()) + 1, bool)
        is_wanted[numbered[inner][seed]] = True
        is_wanted[0] = False
        inside = is_wanted[numbered]
        if not _goes_on(inside, box, labels.shape):
            found[box] = inside
            return found
        margin *= 4


def _goes_on(inside: npt.NDArray[np.bool_], box: Region, shape: tuple[int, ...]) -> bool:
    """Whether a mask touches a face of its box behind which there is more of the image."""
    for axis, (part, size) in enumerate(zip(box, shape, strict=True)):
        faces = np.moveaxis(inside, axis, 0)
        if (part.start > 0 and faces[0].any()) or (part.stop < size and faces[-1].any()):
            return True
    return False


def _box_at(place: tuple[int, ...]) -> Region:
    return tuple(slice(index, index + 1) for index in place)


def _checked(shape: tuple[int, ...], voxel: Sequence[int]) -> tuple[int, ...]:
    place = tuple(int(index) for index in voxel)
    if len(place) != len(shape) or not all(
        0 <= index < size for index, size in zip(place, shape, strict=True)
    ):
        raise InputError(
            f"A voxel inside the image of shape {shape} was expected, but it is {place}. Click "
            "into the image."
        )
    return place
