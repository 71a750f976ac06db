"""What a script says of an image: classes by name or number, voxels by index or as a mask."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from napari_structseg.distributions import Strokes
from napari_structseg.errors import InputError
from napari_structseg.models import ClassSpec
from napari_structseg.widgets.parts.colors import display_name


def label_of(classes: Sequence[ClassSpec], label: int | str) -> int:
    """The label of a class that is called by its number or its name.

    Raises
    ------
    InputError
        If there is no such class.
    """
    names = [one.name for one in classes]
    written = [display_name(one) for one in classes]
    for known in (names, written):
        if label in known:
            return known.index(str(label))
    if isinstance(label, int) and 0 <= label < len(classes):
        return label
    listed = ", ".join(f"{index}: {name}" for index, name in enumerate(names))
    raise InputError(f"A class was expected, by number or name ({listed}), but {label!r} came.")


def strokes_at(shape: tuple[int, ...], voxels: npt.ArrayLike, label: int) -> Strokes:
    """Strokes of one class.

    Parameters
    ----------
    shape
        Of the image, ``(*spatial)``.
    voxels
        One index, ``(ndim,)``, several, ``(n, ndim)``, or a mask ``(*spatial)``.
    label
        The class.

    Raises
    ------
    InputError
        If they are something else, or lie outside the image.
    """
    given = np.asarray(voxels)
    if given.dtype == bool and given.shape == shape:
        flat = np.flatnonzero(given)
    else:
        indices = np.atleast_2d(given)
        is_index = given.dtype.kind in "iu" and indices.shape[1:] == (len(shape),)
        if not is_index or given.ndim > 2 or (indices < 0).any() or (indices >= shape).any():
            raise InputError(
                f"Voxels of an image of the shape {shape} were expected, as whole numbers (n, "
                f"{len(shape)}) or as a mask of that shape, but an array of the shape "
                f"{given.shape} and the type {given.dtype} came, or one with voxels outside."
            )
        flat = np.unique(np.ravel_multi_index(tuple(indices.T), shape))
    return Strokes(shape, flat.astype(np.int64), np.full(len(flat), label, np.uint8))
