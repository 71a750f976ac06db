"""What happens to an image before a network sees it, the same in training and in prediction.

Intensities are normalised on the image's own voxel grid; then the image is resampled to the voxel
size of the network. Both keep the field of view.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from napari_structseg.errors import Cancelled, InputError
from napari_structseg.models.spec import IntensitySpec

# What a voxel with data gets where normalisation would give exactly 0, the value of no data.
_SMALLEST = np.float32(1e-6)
# Voxel sizes that differ by less than this fraction count as equal: nothing is resampled.
_SPACING_TOLERANCE = 0.02


def normalise(data: npt.NDArray[Any], intensity: IntensitySpec) -> Tensor:
    """Bring each channel's intensities to the range that a network was trained on.

    A value of exactly 0 means no data (outside the field of view, or a skull that was stripped).
    For ``percentile`` and ``zscore`` such voxels stay 0 and do not count in the statistics. Every
    other voxel becomes different from 0, so that a region of interest "where the image is not 0"
    is the same before and after.

    Parameters
    ----------
    data
        ``(C, *spatial)``, integer or floating, finite.
    intensity
        ``percentile``: the [low, high] percentiles go to [0, 1], and what lies beyond is clipped;
        ``zscore``: mean 0 and variance 1, not clipped; ``window``: [low, high] goes to [0, 1],
        clipped.

    Returns
    -------
    Tensor
        ``(C, *spatial)`` float32, on the CPU. A channel without any data stays 0.

    Raises
    ------
    InputError
        If a channel has data but no contrast, so that its range cannot be scaled.
    """
    result = np.zeros(data.shape, np.float32)
    for index, channel in enumerate(data):
        inside = np.ones(channel.shape, bool) if intensity.kind == "window" else channel != 0
        values = channel[inside].astype(np.float32)
        if not values.size:
            continue
        offset, scale = _range(values, intensity, index)
        values -= offset
        values /= scale
        if intensity.kind != "zscore":
            np.clip(values, 0, 1, out=values)
        values[values == 0] = _SMALLEST
        result[index][inside] = values
    return torch.from_numpy(result)


def _range(
    values: npt.NDArray[np.float32], intensity: IntensitySpec, channel: int
) -> tuple[np.float32, np.float32]:
    if intensity.kind == "window":
        offset, scale = intensity.low, intensity.high - intensity.low
    elif intensity.kind == "zscore":
        # In float64: the squares of ten million CT numbers do not add up in float32.
        offset, scale = float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))
    else:
        low, high = np.percentile(values, (intensity.low, intensity.high))
        offset, scale = float(low), float(high - low)
    if np.float32(scale) <= 0:
        raise InputError(
            f"Channel {channel + 1} of the image has no contrast: its voxels that are not 0 are "
            f"(nearly) all {values[0]:g}, so its intensities cannot be normalised "
            f"({intensity.kind}). Check that it is the right file."
        )
    return np.float32(offset), np.float32(scale)


def size_at_spacing(
    shape: Sequence[int], spacing: Sequence[float], target: Sequence[float] | None
) -> tuple[int, ...]:
    """How many voxels of another size cover the field of view of an image.

    Rounded to whole voxels, at least 1 an axis. An image whose voxels are within 2 % of the target
    keeps its grid.

    Parameters
    ----------
    shape
        Spatial shape of the image.
    spacing
        Voxel size of the image in mm, in array order.
    target
        Voxel size wanted in mm; None: any.
    """
    if target is None:
        return tuple(shape)
    ratios = [ours / theirs for ours, theirs in zip(spacing, target, strict=True)]
    if all(abs(ratio - 1) < _SPACING_TOLERANCE for ratio in ratios):
        return tuple(shape)
    return tuple(max(1, round(size * ratio)) for size, ratio in zip(shape, ratios, strict=True))


def resample(
    array: Tensor,
    size: Sequence[int],
    *,
    nearest: bool = False,
    cancelled: Callable[[], bool] | None = None,
) -> Tensor:
    """Resample to another number of voxels over the same field of view.

    The outer faces of the outer voxels stay where they are; it is not their centres that are
    aligned.

    Parameters
    ----------
    array
        ``(N, *spatial)`` with 2 or 3 spatial axes, on any device. Floating, unless `nearest`.
    size
        The new spatial shape.
    nearest
        For labels: take the voxel in which the centre of the new voxel lies. Otherwise linear
        interpolation, smoothed along axes that lose voxels so that fine detail does not alias.
    cancelled
        Asked before each map that is interpolated.

    Returns
    -------
    Tensor
        ``(N, *size)`` in the dtype of `array`; `array` itself where the size does not change.

    Raises
    ------
    ValueError
        If the number of spatial axes does not fit.
    Cancelled
        When ``cancelled`` said so.
    """
    old, new = tuple(array.shape[1:]), tuple(size)
    if len(old) != len(new) or len(new) not in (2, 3):
        raise ValueError(f"cannot resample spatial axes {old} to {new}")
    if old == new:
        return array
    if nearest:
        for axis, (n_old, n_new) in enumerate(zip(old, new, strict=True), start=1):
            # On the processor: Apple GPUs have no double precision.
            centres = (torch.arange(n_new, dtype=torch.float64) + 0.5) / n_new
            array = array.index_select(axis, (centres * n_old).long().to(array.device))
        return array
    result = array.new_empty((len(array), *new))
    # One map at a time: the temporaries are in float32, whatever the maps are stored in.
    for index, single in enumerate(array):
        if cancelled is not None and cancelled():
            raise Cancelled("The resampling was cancelled.")
        result[index] = _linear(single.float(), new)
    return result


def _linear(values: Tensor, size: tuple[int, ...]) -> Tensor:
    if all(new >= old for old, new in zip(values.shape, size, strict=True)):
        mode = "bilinear" if values.ndim == 2 else "trilinear"
        return functional.interpolate(values[None, None], size=size, mode=mode)[0, 0]
    if values.ndim == 2:
        return _linear_2d(values[None], size)[0]
    # torch smooths only in two dimensions. The interpolation is separable: first the last two
    # axes, then the first, beside all others as one that does not change.
    in_plane = _linear_2d(values, size[1:])
    columns = in_plane.flatten(1)
    return _linear_2d(columns[None], (size[0], columns.shape[1])).reshape(size)


def _linear_2d(images: Tensor, size: tuple[int, ...]) -> Tensor:
    return functional.interpolate(
        images[None], size=size, mode="bilinear", align_corners=False, antialias=True
    )[0]
