"""The order of the slices of a series, and the grid that they make.

Slices are sorted by where they lie along their common normal (DICOM PS3.3, C.7.6.2.1.1), never by
their number or the names of files. What does not make one regular grid is refused: volumes in mL
and what is overlaid would be wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_structseg.errors import InputError
from napari_structseg.io.dicom.headers import VARIANTS, Frame, Header

Vector = npt.NDArray[np.float64]

# Cosines of slices that count as parallel: headers give six digits, some four.
_SAME_DIRECTION = 1e-3
# How far from the regular grid a slice may lie, as a part of the step: positions are rounded.
_OFF_GRID = 0.1
# Two slices nearer than this, in mm, are at one place.
_SAME_PLACE = 1e-3
_TILT_DEGREES = 0.5
_MAX_LISTED = 5
# LPS, in which DICOM counts, to RAS.
_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, slots=True)
class Place:
    """One slice: its frame, and the file that it is in."""

    header: Header
    frame: Frame


@dataclass(frozen=True, slots=True)
class Stack:
    """Slices in order.

    Attributes
    ----------
    places
        In the order of the third axis of the file order.
    affine
        Shape (4, 4). From (column, row, slice, 1) to right, anterior, superior in mm.
    has_spacing
        Whether the size of a pixel is known.
    notices
        What is unusual, in sentences.
    """

    places: tuple[Place, ...]
    affine: npt.NDArray[np.float64]
    has_spacing: bool
    notices: tuple[str, ...]


def stack_slices(headers: Sequence[Header], what: str) -> Stack:
    """Sort the slices of a series, and find where they lie.

    Parameters
    ----------
    headers
        Of its files.
    what
        What to call the series in messages.

    Raises
    ------
    InputError
        If the slices do not make one regular grid.
    """
    notices: list[str] = []
    places = _without_copies(headers, notices)
    places = _without_localizers(places, notices)
    _check_alike(places, what)
    if len(places) == 1:
        return _single(places[0], notices)
    for place in places:
        if place.frame.position is None or place.frame.orientation is None:
            raise InputError(
                f"{what} has {len(places)} slices, but {place.header.path} does not say where its "
                f"slice lies (no {'Image Position' if place.frame.position is None else ''}"
                f"{'' if place.frame.position is None else 'Image Orientation'}): it may be a film "
                "or a list of pictures. Give one of its files alone, or export a volume."
            )
    rows, columns, normal = _directions(places[0], what)
    _check_parallel(places, what)
    along = [float(np.dot(np.array(place.frame.position), normal)) for place in places]
    order = np.argsort(along, kind="stable")
    places = [places[index] for index in order]
    heights = np.array(along)[order]
    _check_apart(places, heights, what)
    positions = np.array([place.frame.position for place in places])
    step = (positions[-1] - positions[0]) / (len(places) - 1)
    _check_regular(positions, heights, what)
    _note_tilt(step, normal, notices)
    spacing = _spacing(places[0])
    if spacing is None:
        raise InputError(
            f"{what} does not say how large its pixels are (Pixel Spacing). Export it again with "
            "that attribute."
        )
    return Stack(
        tuple(places),
        _affine(rows * spacing[1], columns * spacing[0], step, positions[0]),
        True,
        tuple(notices),
    )


def _affine(
    per_column: Vector, per_row: Vector, per_slice: Vector, first: Vector
) -> npt.NDArray[np.float64]:
    """From (column, row, slice, 1) to RAS mm (PS3.3, C.7.6.2.1-1, with slices as third axis)."""
    affine = np.eye(4)
    affine[:3] = np.column_stack([per_column, per_row, per_slice, first])
    return _TO_RAS @ affine


def _single(place: Place, notices: list[str]) -> Stack:
    """A 2-D image: its plane, and the thickness of the slice."""
    frame, spacing = place.frame, _spacing(place)
    row_mm, column_mm = spacing or (1.0, 1.0)
    thickness = frame.thickness if frame.thickness and frame.thickness > 0 else 1.0
    if frame.orientation is None or frame.position is None:
        # A radiograph: nobody says where it lies. As napari shows it, it is upright.
        affine = np.zeros((4, 4))
        affine[(0, 2, 1, 3), (0, 1, 2, 3)] = (-column_mm, -row_mm, thickness, 1)
        return Stack((place,), affine, spacing is not None, tuple(notices))
    rows, columns, normal = _directions(place, str(place.header.path))
    affine = _affine(
        rows * column_mm, columns * row_mm, normal * thickness, np.array(frame.position)
    )
    return Stack((place,), affine, spacing is not None, tuple(notices))


def _spacing(place: Place) -> tuple[float, ...] | None:
    spacing = place.frame.spacing
    if spacing is None:
        return None
    if not all(np.isfinite(step) and step > 0 for step in spacing):
        raise InputError(
            f"{place.header.path} gives a pixel the size {_listed(spacing)} mm, which is no size. "
            "Export it again."
        )
    return spacing


def _directions(place: Place, what: str) -> tuple[Vector, Vector, Vector]:
    """Unit vectors along a row, along a column, and their normal, in LPS."""
    cosines = np.array(place.frame.orientation, dtype=np.float64)
    rows, columns = cosines[:3], cosines[3:]
    lengths = np.linalg.norm(cosines.reshape(2, 3), axis=1)
    if not (np.abs(lengths - 1) < 0.01).all() or abs(rows @ columns) > 0.01:
        raise InputError(
            f"The rows and columns of {what} must be perpendicular directions of length 1, but "
            f"Image Orientation of {place.header.path} is {_listed(cosines)}. Export it again."
        )
    if not np.isfinite(np.array(place.frame.position)).all():
        raise InputError(f"{place.header.path} gives a place that is not finite. Export it again.")
    normal = np.cross(rows, columns)
    return rows, columns, normal / np.linalg.norm(normal)


def _without_copies(headers: Sequence[Header], notices: list[str]) -> list[Place]:
    """All frames; a file that is there twice counts once."""
    seen: dict[str, Header] = {}
    kept: list[Header] = []
    copies = 0
    for header in headers:
        first = seen.get(header.instance_uid) if header.instance_uid else None
        if first is not None and first.frames == header.frames:
            copies += 1
            continue
        if first is not None:
            raise InputError(
                f"{header.path} and {first.path} have the same SOP Instance UID, but say different "
                "things. One of them was edited: remove it."
            )
        seen[header.instance_uid] = header
        kept.append(header)
    if copies:
        notices.append(f"{copies} files are copies of others and were left out.")
    return [Place(header, frame) for header in kept for frame in header.frames]


def _without_localizers(places: list[Place], notices: list[str]) -> list[Place]:
    kept = [place for place in places if "LOCALIZER" not in place.header.image_type]
    if not kept or len(kept) == len(places):
        return places
    notices.append(f"{len(places) - len(kept)} localizer images of the series were left out.")
    return kept


def _check_alike(places: Sequence[Place], what: str) -> None:
    sizes = Counter((place.header.rows, place.header.columns) for place in places)
    if len(sizes) > 1:
        found = ", ".join(
            f"{count} of {rows} x {columns}" for (rows, columns), count in sizes.most_common()
        )
        raise InputError(
            f"The slices of {what} must have one size, but they have (rows x columns): {found}. "
            "Give the files of one size alone."
        )
    spacings = {
        None if place.frame.spacing is None else tuple(np.round(place.frame.spacing, 4))
        for place in places
    }
    if len(spacings) > 1:
        found = "; ".join(_listed(one) if one else "not stated" for one in list(spacings)[:5])
        raise InputError(
            f"The pixels of {what} must have one size, but they have (mm): {found}. Give the files "
            "of one size alone."
        )
    frames_of_reference = {place.header.frame_of_reference for place in places}
    if len(frames_of_reference) > 1:
        raise InputError(
            f"The slices of {what} lie in {len(frames_of_reference)} coordinate systems (Frame of "
            "Reference UID), so nobody knows where one lies to another. Give the files of one."
        )


def _check_parallel(places: Sequence[Place], what: str) -> None:
    directions: list[tuple[Vector, int]] = []
    for place in places:
        cosines = np.array(place.frame.orientation)
        for index, (known, count) in enumerate(directions):
            if np.abs(known - cosines).max() <= _SAME_DIRECTION:
                directions[index] = (known, count + 1)
                break
        else:
            directions.append((cosines, 1))
    if len(directions) > 1:
        found = "; ".join(f"{count} with {_listed(one)}" for one, count in directions[:_MAX_LISTED])
        raise InputError(
            f"The slices of {what} must be parallel, but they have {len(directions)} orientations "
            f"(Image Orientation): {found}. Give the files of one orientation alone."
        )


def _check_apart(places: Sequence[Place], heights: Vector, what: str) -> None:
    same = np.flatnonzero(np.diff(heights) < _SAME_PLACE)
    if not len(same):
        return
    named = _positions(heights[index] for index in same)
    groups = Counter(place.frame.variant for place in places)
    differ = [
        name for index, name in enumerate(VARIANTS) if len({group[index] for group in groups}) > 1
    ]
    told = (
        f"They differ in {', '.join(differ)}: several time points, echoes or weightings."
        if differ
        else "Their headers do not say in what they differ."
    )
    raise InputError(
        f"{what} has several slices at one place, at {len(same)} places (mm along the normal: "
        f"{named}). {told} Give the files of one of them alone."
    )


def _check_regular(positions: Vector, heights: Vector, what: str) -> None:
    steps = np.diff(heights)
    usual = float(np.median(steps))
    n = len(positions)
    line = positions[0] + np.outer(np.arange(n), (positions[-1] - positions[0]) / (n - 1))
    off = np.linalg.norm(positions - line, axis=1)
    if off.max() <= _OFF_GRID * usual:
        return
    gaps = np.flatnonzero(np.abs(steps - usual) > _OFF_GRID * usual)
    if not len(gaps):
        worst = int(off.argmax())
        raise InputError(
            f"The slices of {what} must lie behind each other on a line, but the one at "
            f"{heights[worst]:.2f} mm along the normal lies {off[worst]:.2f} mm beside it. Give "
            "the files of one run of slices alone."
        )
    told = []
    for index in gaps[:_MAX_LISTED]:
        missing = steps[index] / usual - 1
        count = round(missing)
        is_whole = count >= 1 and abs(missing - count) <= _OFF_GRID
        guess = f" ({count} missing)" if is_whole else ""
        told.append(f"{heights[index]:.2f} to {heights[index + 1]:.2f}{guess}")
    more = f" and {len(gaps) - _MAX_LISTED} more" if len(gaps) > _MAX_LISTED else ""
    raise InputError(
        f"The slices of {what} must be equally far apart, usually {usual:.2f} mm, but they are not "
        f"between these places (mm along the normal): {', '.join(told)}{more}. Fetch the missing "
        "slices, or give the files of an unbroken part alone."
    )


def _note_tilt(step: Vector, normal: Vector, notices: list[str]) -> None:
    cosine = float(np.clip(step @ normal / np.linalg.norm(step), -1, 1))
    degrees = float(np.degrees(np.arccos(cosine)))
    if degrees > _TILT_DEGREES:
        notices.append(
            f"The slices are shifted against each other by {degrees:.1f} degrees (a tilted "
            "gantry). Files and volumes account for it; the picture shows the grid upright."
        )


def _positions(heights: Iterable[float]) -> str:
    values = [f"{height:.2f}" for height in heights]
    more = ", ..." if len(values) > _MAX_LISTED else ""
    return ", ".join(values[:_MAX_LISTED]) + more


def _listed(values: Sequence[float] | Vector) -> str:
    return ", ".join(f"{value:g}" for value in values)
