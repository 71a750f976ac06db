"""Contours on a slice: sub-pixel lines where a field crosses a level."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import Tensor

Segments = npt.NDArray[np.float32]

# Marching squares (Lorensen and Cline, SIGGRAPH 1987, in two dimensions). A square's case has a
# bit for each corner above the level: upper left 1, upper right 2, lower left 4, lower right 8.
# The line through it joins two of its edges: 0 top, 1 right, 2 bottom, 3 left.
_EDGES = np.array(
    [
        (0, 0), (3, 0), (0, 1), (3, 1), (3, 2), (0, 2), (0, 1), (1, 2),
        (1, 2), (3, 0), (0, 2), (3, 2), (3, 1), (0, 1), (3, 0), (0, 0),
    ]
)  # fmt: skip
# With opposite corners above the level there are two lines, each around one corner.
_SECOND_EDGES = {6: (3, 2), 9: (1, 2)}


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
        ``(N, 2, 2)``: ends of each segment, in pixels (row, column), float32, in no order. None
        for a single row or column of pixels, which encloses nothing.
    """
    above = (field > level).astype(np.uint8)
    cases = above[:-1, :-1] + 2 * above[:-1, 1:] + 4 * above[1:, :-1] + 8 * above[1:, 1:]
    corners = np.argwhere((cases > 0) & (cases < 15))
    cases = cases[tuple(corners.T)]
    top = _crossing(field, level, corners, (0, 1))
    right = _crossing(field, level, np.add(corners, (0, 1)), (1, 0))
    bottom = _crossing(field, level, np.add(corners, (1, 0)), (0, 1))
    left = _crossing(field, level, corners, (1, 0))
    points = np.stack([top, right, bottom, left], axis=1)
    segments = [np.take_along_axis(points, _EDGES[cases][..., None], axis=1)]
    segments += [points[cases == case][:, edges] for case, edges in _SECOND_EDGES.items()]
    return np.concatenate(segments)


def _crossing(
    field: npt.NDArray[np.floating],
    level: float,
    pixels: npt.NDArray[np.intp],
    step: tuple[int, int],
) -> npt.NDArray[np.float32]:
    """Where between pixels and their neighbours the field has the level, ``(N, 2)``.

    Meaningless where it does not have it.
    """
    here, there = field[tuple(pixels.T)], field[tuple((pixels + step).T)]
    with np.errstate(divide="ignore", invalid="ignore"):
        fraction = (level - here) / (there - here)
        crossings: npt.NDArray[np.float32] = (pixels + fraction[:, None] * step).astype(np.float32)
    return crossings


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
