"""Affines and spacings: checked before anything is placed with them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from napari_structseg.errors import InputError

# The sine below which two axes count as parallel. Float32 affines are good to about 1e-7.
_PARALLEL = 1e-6
# 1000 km. Beyond it numbers are damaged, and products of them overflow.
_LARGEST_MM = 1e9


def check_affine(
    affine: npt.ArrayLike, axis_names: Sequence[str], what: str = "The affine"
) -> npt.NDArray[np.float64]:
    """Return `affine` as float64 after checking that it can place voxels in space.

    Parameters
    ----------
    affine
        Shape (4, 4), voxel index to mm.
    axis_names
        What to call its first three columns in a message.
    what
        What to call the affine itself.

    Raises
    ------
    InputError
        If the shape is wrong, an entry is not finite or more than 1000 km, the last row is not
        (0, 0, 0, 1), an axis has no length, or the axes do not span three dimensions.
    """
    matrix = np.array(affine, dtype=np.float64)
    if matrix.shape != (4, 4):
        raise InputError(f"{what} must be a 4x4 matrix, but its shape is {matrix.shape}.")
    advice = "Correct it where the image was made or converted, then open the image again."
    if not np.isfinite(matrix).all():
        raise InputError(f"{what} contains NaN or infinite entries. {advice}")
    if np.abs(matrix).max() > _LARGEST_MM:
        raise InputError(
            f"{what} has an entry of {np.abs(matrix).max():.3g} mm, which is no size or place of a "
            f"voxel. {advice}"
        )
    if not np.array_equal(matrix[3], (0, 0, 0, 1)):
        raise InputError(f"{what} must have the last row 0 0 0 1, but it is {matrix[3]}. {advice}")
    lengths = np.linalg.norm(matrix[:3, :3], axis=0)
    zero = [name for name, length in zip(axis_names, lengths, strict=True) if length == 0]
    if zero:
        raise InputError(
            f"{what} has a zero column for axis {', '.join(zero)}: the voxels have no size there. "
            f"{advice}"
        )
    if abs(np.linalg.det(matrix[:3, :3] / lengths)) < _PARALLEL:
        raise InputError(
            f"{what} is singular: its axes lie in one plane, so voxels cannot be placed. {advice}"
        )
    return matrix


def check_spacing(spacing: Sequence[float], shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Return `spacing` as float64 after checking that it has a positive length for each axis.

    Raises
    ------
    InputError
        If it does not.
    """
    lengths = np.asarray(spacing, dtype=np.float64)
    if lengths.shape != (len(shape),) or not (np.isfinite(lengths) & (lengths > 0)).all():
        raise InputError(
            f"The spacing must be {len(shape)} positive numbers in mm, one for each of the axes "
            f"of shape {shape}, but it is {tuple(spacing)}."
        )
    return lengths


def affine_of_spacing(spacing: Sequence[float], shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """From the index of a voxel to mm, shape (4, 4), for axes along those of the world.

    Raises
    ------
    InputError
        If the spacing does not have a positive length for each axis.
    """
    lengths = check_spacing(spacing, shape)
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    # World order is right, anterior, superior, array order Z, Y, X: the anti-diagonal. A slice
    # that nobody gave a thickness is 1 mm thick.
    thickness = (1.0,) * (3 - len(shape))
    affine[(2, 1, 0), (0, 1, 2)] = (*thickness, *lengths)
    return affine


def array_to_file(
    grid: Sequence[int], axes: Sequence[int], flips: Sequence[bool]
) -> npt.NDArray[np.float64]:
    """From the index of an array's voxel to that of the stored one, shape (4, 4)."""
    matrix = np.zeros((4, 4))
    matrix[3, 3] = 1
    for array_axis, (axis, flip) in enumerate(zip(axes, flips, strict=True)):
        matrix[axis, array_axis] = -1 if flip else 1
        matrix[axis, 3] = grid[axis] - 1 if flip else 0
    return matrix
