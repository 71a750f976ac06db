"""Random changes of training patches: where voxels are taken from, and how bright they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_structseg.training.input.deformation import random_diffeomorphism
from napari_structseg.training.sections import AugmentationConfig

Array = npt.NDArray[np.float32]

# Control points along an axis of the bias field.
_BIAS_GRID = 3
# What lies beside everything marked is mirrored into at most so many pieces.
_SHARE_BESIDE = 4


def moves_voxels(config: AugmentationConfig) -> bool:
    """Whether patches are interpolated rather than cut out."""
    return bool(config.rotation or config.scaling or config.displacement or config.shift)


def sampling_points(
    centre: npt.NDArray[np.float64],
    size: Sequence[int],
    spacing: Sequence[float],
    config: AugmentationConfig,
    rng: np.random.Generator,
) -> Array:
    """Where the voxels of a rotated, scaled and bent patch lie in the image.

    Parameters
    ----------
    centre
        Index of the patch's centre in the image, ``(d,)``.
    size
        Shape of the patch.
    spacing
        Voxel size in mm: a rotation is one in the world, also where voxels are not cubes.
    config
        Ranges.
    rng
        Source of randomness.

    Returns
    -------
    points
        ``(d, *size)``, image indices.
    """
    n_axes = len(size)
    in_mm = np.diag(spacing)
    matrix = np.linalg.inv(in_mm) @ _rotation(n_axes, config.rotation, rng) @ in_mm
    matrix *= 1 + rng.uniform(-config.scaling, config.scaling, n_axes)
    offsets = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in size), indexing="ij")
    points = np.tensordot(matrix, np.stack(offsets), axes=1)
    if config.shift:
        centre = centre + rng.uniform(-config.shift, config.shift, n_axes)
    points += np.reshape(centre, (-1, *[1] * n_axes))
    if config.displacement:
        moved = random_diffeomorphism(size, config.displacement, rng)
        points += np.tensordot(matrix, moved, axes=1)
    result: Array = points.astype(np.float32)
    return result


def _rotation(n_axes: int, largest: float, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    matrix = np.eye(n_axes)
    planes = [(0, 1)] if n_axes == 2 else [(1, 2), (0, 2), (0, 1)]
    for a, b in planes:
        angle = np.deg2rad(rng.uniform(-largest, largest))
        turn = np.eye(n_axes)
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    return matrix


def change_intensities(image: Array, config: AugmentationConfig, rng: np.random.Generator) -> Array:
    """Window, bias field, gamma and noise.

    Voxels of exactly 0 hold no data and stay 0, except under another window.

    Parameters
    ----------
    image
        ``(C, *spatial)``, normalised.
    config
        Ranges.
    rng
        Source of randomness.

    Returns
    -------
    image
        ``(C, *spatial)`` float32.
    """
    if config.window:
        low, high = np.array((0, 1)) + rng.uniform(-config.window, config.window, 2)
        image = np.clip((image - low) / (high - low), 0, 1).astype(np.float32)
    if not (config.bias or config.gamma or config.noise):
        return image
    changed = np.empty_like(image)
    for index, channel in enumerate(image):
        values = channel
        if config.bias:
            strength = rng.uniform(0, config.bias)
            coarse = rng.normal(0, strength, [_BIAS_GRID] * channel.ndim)
            values = values * np.exp(_upsampled(coarse, channel.shape))
        if config.gamma:
            power = np.float32(np.exp(rng.normal(0, config.gamma)))
            # Odd about 0, for intensities with mean 0.
            values = np.sign(values) * np.abs(values) ** power
        if config.noise:
            sigma = np.float32(rng.uniform(0, config.noise))
            values = values + sigma * rng.standard_normal(channel.shape, dtype=np.float32)
        changed[index] = np.where(channel == 0, 0, values)
    return changed


def beside_marked(
    marked: npt.NDArray[np.bool_], size: Sequence[int], rng: np.random.Generator
) -> tuple[slice, ...] | None:
    """A part of an image at one side of all that is marked, from edge to edge.

    Parameters
    ----------
    marked
        What any rater marked, ``(*spatial)``.
    size
        Shape of the patch that the part has to fill.
    rng
        Source of randomness: which side.

    Returns
    -------
    tuple of slice or None
        At least a quarter of the patch wide. None: there is none, or nothing is marked.
    """
    found: list[tuple[slice, ...]] = []
    for axis in range(marked.ndim):
        others = tuple(other for other in range(marked.ndim) if other != axis)
        places = np.flatnonzero(marked.any(axis=others))
        if len(places) == 0:
            return None
        # A voxel is left between: the border is what raters disagree about.
        sides = (slice(0, max(int(places[0]) - 1, 0)), slice(int(places[-1]) + 2, None))
        for side in sides:
            width = len(range(*side.indices(marked.shape[axis])))
            if width * _SHARE_BESIDE >= size[axis]:
                found.append(tuple(side if k == axis else slice(None) for k in range(marked.ndim)))
    return found[int(rng.integers(len(found)))] if found else None


def random_flips(config: AugmentationConfig, rng: np.random.Generator) -> tuple[int, ...]:
    """Which of the axes that may be mirrored are, each with probability one half."""
    return tuple(axis for axis in config.flip_axes if rng.random() < 0.5)


def _upsampled(coarse: npt.NDArray[np.float64], size: Sequence[int]) -> Array:
    """Linear upsampling of control points, the outer ones on the outer voxels."""
    axes = [np.linspace(0, n - 1, wide) for n, wide in zip(coarse.shape, size, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"))
    result: Array = ndimage.map_coordinates(coarse, points, np.float32, order=1)
    return result
