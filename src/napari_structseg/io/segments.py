"""Segmentations with names and colours, as other programs write them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_structseg.geometry import Geometry
from napari_structseg.image import Image

_SEGMENT = re.compile(r"Segment(?P<number>\d{1,5})_(?P<field>[A-Za-z]+)")
Color = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Segment:
    """One class.

    Attributes
    ----------
    value
        Its label.
    name
        What it is.
    color
        Red, green and blue from 0 to 1; None: nobody says.
    """

    value: int
    name: str
    color: Color | None = None


@dataclass(frozen=True, eq=False)
class SegmentMap:
    """Segments that do not overlap.

    Attributes
    ----------
    name
        What to call it.
    labels
        Shape ``geometry.spatial_shape``.
    geometry
        Where the voxels lie.
    segments
        In order of their labels.
    """

    name: str
    labels: npt.NDArray[Any]
    geometry: Geometry
    segments: tuple[Segment, ...]


def segments_of_nrrd(values: Mapping[str, str]) -> dict[int, list[Segment]]:
    """Segments by the layer they are in, from the header of a segmentation of 3D Slicer.

    Parameters
    ----------
    values
        Of the header, such as ``Segment0_Name``.

    Returns
    -------
    segments
        Empty where the file is no segmentation.
    """
    found: dict[int, dict[str, str]] = {}
    for key, value in values.items():
        match = _SEGMENT.fullmatch(key)
        if match is not None:
            found.setdefault(int(match["number"]), {})[match["field"]] = value.strip()
    layers: dict[int, list[Segment]] = {}
    for number, fields in sorted(found.items()):
        label = _whole(fields.get("LabelValue", "1"))
        layer = _whole(fields.get("Layer", "0"))
        if label is not None and layer is not None:
            name = fields.get("Name") or fields.get("ID") or f"Segment {number + 1}"
            layers.setdefault(layer, []).append(Segment(label, name, _color(fields.get("Color"))))
    return layers


def maps_of_nrrd(image: Image, layers: Mapping[int, Sequence[Segment]]) -> list[SegmentMap]:
    """The layers of a segmentation: each channel of its image is one."""
    whole = image.data.astype(np.int64) if image.data.dtype.kind == "f" else image.data
    return [
        SegmentMap(
            image.name if image.n_channels == 1 else f"{image.name} {layer + 1}",
            whole[layer],
            image.geometry,
            tuple(segments),
        )
        for layer, segments in sorted(layers.items())
        if layer < image.n_channels
    ]


def _whole(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def _color(text: str | None) -> Color | None:
    try:
        red, green, blue = (float(word) for word in (text or "").split())
    except ValueError:
        return None
    color = (red, green, blue)
    return color if all(math.isfinite(one) and 0 <= one <= 1 for one in color) else None
