"""Outlines and contours as the vectors of a napari layer, updated in place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from napari.layers import Vectors

from napari_structseg.session.messages import LineSet

# Changing the number of a layer's vectors costs napari several times as much as drawing them:
# there is room for a multiple of this many, and the rest has no length and no colour.
_BLOCK = 4096
_OUTLINE_OPACITY = 0.75
# Of the other samples where one is chosen, which is opaque; all lines of a layer are as wide.
_BEHIND_OPACITY = 0.4
_OUTER_OPACITY = 0.8
# Dashes of the inner contour and dots of the outer one: segments drawn, of how many.
_DASHES = (6, 9)
_DOTS = (2, 4)


def write_lines(
    layer: Vectors,
    sets: Sequence[LineSet],
    colors: npt.NDArray[np.float32],
    opacities: Sequence[float] = (),
) -> None:
    """Replace the lines of a layer.

    Parameters
    ----------
    layer
        Made with the arrays of :func:`line_arrays`, or written to by this function before.
    sets
        The new lines, in voxels.
    colors
        Colour of each label, ``(C, 4)``.
    opacities
        How opaque each label is drawn, ``(C,)``; empty: all in full.
    """
    has_chosen = any(one.is_chosen for one in sets)
    styled = []
    # What comes last is drawn over the others.
    for one in sorted(sets, key=lambda one: one.is_chosen):
        opacity = opacities[one.label] if opacities else 1
        styled.append(_styled(one, colors[one.label], opacity, has_chosen=has_chosen))
    segments = [part for part, _ in styled]
    count = sum(len(part) for part in segments)
    capacity = _capacity(count)
    if capacity != len(layer.data):
        data, colours = line_arrays(layer.ndim, count)
        with layer.events.blocker_all():
            layer.data = data
            layer.edge_color = colours
    data, colours = layer.data, layer.edge_color
    data[count:] = 0
    colours[count:] = 0
    if count:
        starts_ends = np.concatenate(segments)
        data[:count, 0] = starts_ends[:, 0]
        data[:count, 1] = starts_ends[:, 1] - starts_ends[:, 0]
        lengths = [len(part) for part in segments]
        colours[:count] = np.repeat([color for _, color in styled], lengths, axis=0)
        # Unused vectors lie on the slice that is drawn anyway.
        data[count:, 0] = data[0, 0]
    layer.refresh(extent=False, thumbnail=False, highlight=False)


def line_arrays(n_axes: int, count: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Room for lines."""
    capacity = _capacity(count)
    return np.zeros((capacity, 2, n_axes), np.float32), np.zeros((capacity, 4), np.float32)


def _capacity(count: int) -> int:
    return max(1, -(-count // _BLOCK)) * _BLOCK


def _styled(
    lines: LineSet, color: npt.NDArray[np.float32], opacity: float, *, has_chosen: bool
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Segments to draw and their colour.

    The style tells levels of confidence apart, and the chosen sample from the others.
    """
    color = np.array([*color[:3], 1], np.float32)
    segments = lines.segments
    if lines.level is None:
        others = _BEHIND_OPACITY if has_chosen else _OUTLINE_OPACITY
        color[3] = 1 if lines.is_chosen else others
    elif lines.level != 0.5:
        drawn, of = _DASHES if lines.level > 0.5 else _DOTS
        segments = segments[np.arange(len(segments)) % of < drawn]
        color[3] = 1 if lines.level > 0.5 else _OUTER_OPACITY
    color[3] *= opacity
    return segments, color
