"""Connected components under a voxel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_structseg.errors import InputError

BACKGROUND = 0


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
    numbered = _numbered(labels == labels[place], diagonal=diagonal)
    component: npt.NDArray[np.bool_] = numbered == numbered[place]
    return component


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
    numbered = _numbered(result == label, diagonal=diagonal)
    is_over = np.zeros(int(numbered.max()) + 1, bool)
    is_over[numbered[region]] = True
    is_over[0] = False
    region |= is_over[numbered]
    return region


def _numbered(mask: npt.NDArray[np.bool_], *, diagonal: bool) -> npt.NDArray[np.int32]:
    structure = ndimage.generate_binary_structure(mask.ndim, mask.ndim if diagonal else 1)
    numbered: npt.NDArray[np.int32] = ndimage.label(mask, structure)[0]
    return numbered


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
