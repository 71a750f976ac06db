"""Segmentations in DICOM files (DICOM PS3.3, A.51), read with highdicom."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_structseg.errors import InputError
from napari_structseg.geometry import Geometry
from napari_structseg.image import Image
from napari_structseg.io.dicom.headers import is_dicom_file, reading
from napari_structseg.io.dicom.series import group_series
from napari_structseg.io.dicom.slices import stack_slices
from napari_structseg.io.extras import require
from napari_structseg.io.segments import Color, Segment, SegmentMap
from napari_structseg.memory import check_memory
from napari_structseg.source_files import SourceFiles

if TYPE_CHECKING:
    from highdicom.seg import Segmentation
    from pydicom.dataset import Dataset

_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
# How far from a voxel of the image one of the segmentation may lie, as a part of its size.
_OFF_GRID = 0.05
_MAX_SEGMENTS = 1000
# PS3.3, C.10.7.1.1: CIELab as 16 bits.
_FULL = 65535


def read_segments(path: Path) -> list[SegmentMap] | Image:
    """Read a DICOM SEG file: labels of a binary one, an image of probabilities of a fractional one.

    Labels lie on the voxels of the series that was segmented where its files are in the same
    folder; otherwise on the segmentation's own, which often hold fewer slices.

    Returns
    -------
    segments
        Maps of segments that do not overlap, as few as possible; or an image with one channel,
        from 0 to 1, for each segment.

    Raises
    ------
    InputError
        If it is damaged, has no place in space, or highdicom is not installed.
    MemoryLimitError
        If it does not fit into memory.
    """
    require("highdicom", extra="dicom", what="DICOM segmentations")
    from highdicom.seg import SegmentationTypeValues, segread

    with reading(path):
        stored = segread(path)
        name = str(stored.get("SeriesDescription", "") or "").strip() or path.stem
        numbers = [int(number) for number in stored.segment_numbers][:_MAX_SEGMENTS]
        own = _own_grid(stored, path)
        grid = _grid_of_source(stored, path, own) or own
        # One segment as highdicom unpacks it, and all of them as they are returned.
        needed = 10 * math.prod(own.shape) + (4 * len(numbers) + 8) * math.prod(grid.shape)
        check_memory(needed, f"Opening {path}")
        geometry = Geometry.from_file_order(grid.shape, grid.affine, what=f"The place of {path}")
        found = [_segment(stored, number) for number in numbers]
        parts = [
            geometry.from_file(_placed(stored, number, own, grid))[0].copy() for number in numbers
        ]
    if stored.segmentation_type == SegmentationTypeValues.FRACTIONAL:
        names = tuple(one.name for one in found)
        data = np.stack(parts).astype(np.float32)
        return Image(data, geometry, names, name, SourceFiles(((path,),)))
    return _packed(found, parts, geometry, name)


@dataclass(frozen=True, slots=True)
class _Grid:
    """Columns, rows and slices, and where they lie: RAS mm."""

    shape: tuple[int, int, int]
    affine: npt.NDArray[np.float64]


def _own_grid(stored: Segmentation, path: Path) -> _Grid:
    volume = stored.get_volume_geometry()
    if volume is None or stored.get("TotalPixelMatrixRows") is not None:
        raise InputError(
            f"The segments of {path} do not lie on the slices of a volume, so they cannot be shown "
            "as one. Export them as NIfTI or NRRD."
        )
    slices, rows, columns = volume.spatial_shape
    # highdicom counts slices, rows, columns; files the other way.
    return _Grid((columns, rows, slices), _TO_RAS @ volume.affine[:, [2, 1, 0, 3]])


def _grid_of_source(stored: Segmentation, path: Path, own: _Grid) -> _Grid | None:
    """The grid of the series that was segmented, if it is here and holds the segmentation."""
    references = stored.get("ReferencedSeriesSequence") or ()
    uids = {str(one.get("SeriesInstanceUID", "")) for one in references}
    beside = [
        file
        for file in sorted(path.parent.iterdir())
        if file != path and file.is_file() and is_dicom_file(file)
    ]
    for series in group_series(beside):
        if series.uid in uids and series.is_image:
            try:
                stack = stack_slices(series.headers, series.name)
            except InputError:
                # The segmentation can be looked at without its image.
                return None
            first = series.first
            grid = _Grid((first.columns, first.rows, len(stack.places)), stack.affine)
            return grid if _steps(own, grid) is not None else None
    return None


def _steps(own: _Grid, grid: _Grid) -> npt.NDArray[np.int64] | None:
    """From the index of a voxel to that on another grid, if they fall on each other."""
    steps = np.linalg.inv(grid.affine) @ own.affine
    whole = np.rint(steps)
    ends = np.array(np.meshgrid(*[(0, size - 1) for size in own.shape])).reshape(3, -1)
    corners = np.vstack([ends, np.ones(ends.shape[1])])
    there = (steps @ corners)[:3]
    if np.abs(there - (whole @ corners)[:3]).max() > _OFF_GRID:
        return None
    last = np.array(grid.shape)[:, None] - 1
    is_inside = (there > -_OFF_GRID).all() and (there < last + _OFF_GRID).all()
    return whole.astype(np.int64) if is_inside else None


def _placed(stored: Segmentation, number: int, own: _Grid, grid: _Grid) -> npt.NDArray[Any]:
    """One segment in the order of a file, on the grid that is wanted."""
    values: npt.NDArray[Any] = stored.get_volume(segment_numbers=[number]).array[..., 0].T
    steps = None if own is grid else _steps(own, grid)
    if steps is None:
        return values
    placed = np.zeros(grid.shape, values.dtype)
    for index in range(own.shape[2]):
        columns, rows = np.nonzero(values[:, :, index])
        here = np.stack([columns, rows, np.full_like(rows, index), np.ones_like(rows)])
        there = steps @ here
        placed[tuple(there[:3])] = values[columns, rows, index]
    return placed


def _segment(stored: Segmentation, number: int) -> Segment:
    described: Dataset = stored.get_segment_description(number)
    name = str(described.get("SegmentLabel", "") or f"Segment {number}")
    return Segment(number, name, _rgb(described.get("RecommendedDisplayCIELabValue")))


def _rgb(cielab: Any) -> Color | None:  # noqa: ANN401 -- what pydicom gives
    from skimage.color import lab2rgb

    if cielab is None or len(cielab) != 3:
        return None
    lightness, a, b = (float(value) / _FULL for value in cielab)
    red, green, blue = lab2rgb(np.array([100 * lightness, 255 * a - 128, 255 * b - 128]))
    return (float(red), float(green), float(blue))


def _packed(
    segments: Sequence[Segment],
    parts: Sequence[npt.NDArray[Any]],
    geometry: Geometry,
    name: str,
) -> list[SegmentMap]:
    """As few maps as possible: each segment goes to the first where its voxels are free."""
    maps: list[tuple[npt.NDArray[np.uint16], list[Segment]]] = []
    for segment, part in zip(segments, parts, strict=True):
        inside = part > 0
        for labels, held in maps:
            if not labels[inside].any():
                labels[inside] = segment.value
                held.append(segment)
                break
        else:
            labels = np.zeros(inside.shape, np.uint16)
            labels[inside] = segment.value
            maps.append((labels, [segment]))
    return [
        SegmentMap(
            name if len(maps) == 1 else f"{name} {number}", labels, geometry, tuple(segments)
        )
        for number, (labels, segments) in enumerate(maps, start=1)
    ]
