"""Contours on a slice: sub-pixel lines where a field crosses a level."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from skimage.measure import find_contours
from torch import Tensor

Segments = npt.NDArray[np.float32]


def contour_segments(field: npt.NDArray[np.floating], level: float) -> Segments:
    """Line segments along which a 2-D field crosses a level.

    Parameters
    ----------
    field
        ``(Y, X)``.
    level
        The value to follow.

    Returns
    -------
    ndarray
        ``(N, 2, 2)``: start and end of each segment, in pixels (row, column), float32. None
        for a single row or column of pixels, which encloses nothing.
    """
    if min(field.shape) < 2:
        return np.empty((0, 2, 2), np.float32)
    lines = [line for line in find_contours(field, level) if len(line) > 1]
    if not lines:
        return np.empty((0, 2, 2), np.float32)
    segments = np.concatenate([np.stack([line[:-1], line[1:]], axis=1) for line in lines])
    return segments.astype(np.float32)


def class_margin(logits: Tensor, label: int) -> npt.NDArray[np.float32]:
    """How far a class is ahead of every other: positive exactly where it is the label.

    Parameters
    ----------
    logits
        ``(C, Y, X)``.
    label
        Which class.

    Returns
    -------
    ndarray
        ``(Y, X)``. Its zero level is the outline of the class, with sub-pixel precision.
    """
    every = logits.cpu().numpy()
    margin: npt.NDArray[np.float32] = every[label] - np.delete(every, label, axis=0).max(axis=0)
    return margin
