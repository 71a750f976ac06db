"""The pictures of a report: slices as PNG within the page, with lines over them as SVG."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow
from skimage.measure import find_contours

from napari_structseg.exports.report.markup import Markup, element, empty
from napari_structseg.exports.report.plane import Plane, Window
from napari_structseg.models import ClassSpec

Mask = npt.NDArray[np.bool_]
Line = tuple[npt.NDArray[np.floating], str, float]
"""A field on a plane, ``(rows, columns)``; the colour of the line where it is 0.5; its width."""

# How much of the colour of a class covers the image.
_OPACITY = 0.45
# Brighter than few voxels, darker than few: the ends of what is shown.
_PERCENT = (0.5, 99.5)
# A picture is some centimetres wide: more pixels are not seen.
_MOST_PIXELS = 640
_LETTER = 0.05


def grey_of(plane: Plane, window: Window | None = None) -> npt.NDArray[np.uint8]:
    """The first channel on a plane, from black to white, ``(rows, columns)``.

    Parameters
    ----------
    plane
        What is shown.
    window
        Intensities that are black and white; None: percentiles of what is shown.
    """
    values = plane.upright(plane.image.data[0][plane.region]).astype(np.float64)
    low, high = np.percentile(values, _PERCENT) if window is None else window
    scaled = (values - low) / max(high - low, np.finfo(np.float64).tiny)
    return (np.clip(scaled, 0, 1) * 255).astype(np.uint8)


def coloured(
    grey: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8], classes: Sequence[ClassSpec]
) -> npt.NDArray[np.uint8]:
    """Labels in the colours of their classes over an image; the background is left as it is.

    Parameters
    ----------
    grey, labels
        As they are shown, ``(rows, columns)``.
    classes
        In label order.

    Returns
    -------
    ndarray
        ``(rows, columns, 3)``.
    """
    palette = np.array(
        [[int(one.color[at : at + 2], 16) for at in (1, 3, 5)] for one in classes], np.float64
    )
    opacity = np.where(labels > 0, _OPACITY, 0.0)[..., None]
    mixed = (1 - opacity) * grey[..., None] + opacity * palette[labels]
    return mixed.round().astype(np.uint8)


def picture(
    plane: Plane,
    pixels: npt.NDArray[np.uint8],
    what: str,
    *,
    lines: Sequence[Line] = (),
    boxes: Sequence[Plane] = (),
) -> Markup:
    """One picture with square pixels, the letters of the patient's sides, and lines.

    Parameters
    ----------
    plane
        What is shown.
    pixels
        Grey or colours, ``(rows, columns)`` or ``(rows, columns, 3)``.
    what
        What it shows, for those who cannot see it.
    lines
        Drawn over it.
    boxes
        Parts of the same slice whose place is marked.
    """
    height, width = (size * length for size, length in zip(plane.shape, plane.pixel, strict=True))
    content = [
        empty(
            "image",
            href=_data_uri(pixels),
            x="0",
            y="0",
            width=_number(width),
            height=_number(height),
            preserveAspectRatio="none",
        ),
        *(_outline(plane, line, max(height, width)) for line in lines),
        *(_box(plane, box, max(height, width)) for box in boxes),
        *_letters(plane, height, width),
    ]
    return element(
        "svg",
        tuple(content),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {_number(width)} {_number(height)}",
        role="img",
        aria_label=what,
    )


def lines_of(
    shares: npt.NDArray[np.floating],
    classes: Sequence[ClassSpec],
    levels: Sequence[tuple[float, float]],
) -> list[Line]:
    """Lines around where at least some share of samples has a class.

    Parameters
    ----------
    shares
        Of samples with each label, as they are shown, ``(C, rows, columns)``.
    classes
        In label order; there is no line around the background.
    levels
        Shares, and the width of the line of each.
    """
    return [
        # The field that crosses 0.5 where the share crosses the level.
        (share - level + 0.5, one.color, width)
        for share, one in list(zip(shares, classes, strict=True))[1:]
        for level, width in levels
        if share.any()
    ]


def marked(labels: npt.NDArray[np.uint8], shares: npt.NDArray[np.floating]) -> Mask:
    """What is foreground in the labels, or in any sample."""
    anywhere: Mask = (labels > 0) | (shares[1:] > 0).any(axis=0)
    return anywhere


def _outline(plane: Plane, line: Line, size: float) -> Markup:
    field, colour, width = line
    # A frame, so that lines around what touches the edge are closed.
    framed = np.pad(field, 1, constant_values=min(float(field.min()), 0.0))
    rows, columns = plane.pixel
    parts = []
    for contour in find_contours(framed, 0.5):
        points = (contour - 0.5) * (rows, columns)
        steps = " ".join(f"{_number(x)} {_number(y)}" for y, x in points[:-1])
        if steps:
            parts.append(f"M{steps}Z")
    return empty(
        "path",
        d="".join(parts),
        fill="none",
        stroke=colour,
        stroke_width=_number(width * size / 400),
        stroke_linejoin="round",
    )


def _box(plane: Plane, box: Plane, size: float) -> Markup:
    inside = np.zeros(plane.shape, bool)
    inside[box.box] = True
    rows, columns = np.nonzero(inside[plane.flips])
    height, width = plane.pixel
    return empty(
        "rect",
        x=_number(columns.min() * width),
        y=_number(rows.min() * height),
        width=_number((columns.max() + 1 - columns.min()) * width),
        height=_number((rows.max() + 1 - rows.min()) * height),
        fill="none",
        stroke="#ffd400",
        stroke_width=_number(size / 200),
    )


def _letters(plane: Plane, height: float, width: float) -> list[Markup]:
    if plane.letters is None:
        return []
    size = _LETTER * max(height, width)
    left, right, top, bottom = plane.letters
    middle_x, middle_y = width / 2, height / 2 + size / 3
    places = (
        (left, size * 0.25, middle_y, "start"),
        (right, width - size * 0.25, middle_y, "end"),
        (top, middle_x, size, "middle"),
        (bottom, middle_x, height - size * 0.25, "middle"),
    )
    return [
        element(
            "text",
            letter,
            x=_number(x),
            y=_number(y),
            font_size=_number(size),
            text_anchor=anchor,
            font_family="sans-serif",
            fill="#ffffff",
            **outline,
        )
        for letter, x, y, anchor in places
        # Black around it first, so that it can be read on bright voxels.
        for outline in ({"stroke": "#000000", "stroke_width": _number(size / 6)}, {})
    ]


def _data_uri(pixels: npt.NDArray[np.uint8]) -> str:
    rows, columns = pixels.shape[:2]
    step = -(-max(rows, columns) // _MOST_PIXELS)
    stream = io.BytesIO()
    Pillow.fromarray(np.ascontiguousarray(pixels[::step, ::step])).save(
        stream, format="PNG", optimize=True
    )
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
