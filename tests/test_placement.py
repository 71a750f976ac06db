"""Views into a region of an image, and results out of it."""

from __future__ import annotations

import numpy as np
import pytest

from napari_structseg.controls import Controls
from napari_structseg.session.messages import (
    ChangedLabels,
    ClassVolumes,
    Lines,
    LineSet,
    MapRegion,
    Request,
    Show,
    SlabLabels,
    SliceLabels,
    View,
)
from napari_structseg.session.placement import placed, view_inside, view_outside

REGION = (slice(4, 9), slice(10, 30), slice(2, 12))
INNER = (slice(1, 2), slice(0, 20), slice(0, 10))
OUTER = (slice(5, 6), slice(10, 30), slice(2, 12))
LABELS = np.ones((1, 20, 10), np.uint8)


@pytest.mark.parametrize(
    ("axis", "position", "inside"), [(0, 6, 2), (0, 1, 0), (0, 20, 4), (2, 2, 0), (2, 19, 9)]
)
def test_the_nearest_slice_of_the_region_is_seen(axis: int, position: int, inside: int) -> None:
    view = view_inside(View(axis, position), REGION)
    assert view == View(axis, inside)
    back = view_outside(view, REGION)
    assert REGION[axis].start <= back.position < REGION[axis].stop
    assert view_inside(back, REGION) == view


def test_pictures_have_one_view() -> None:
    flat = (slice(0, 5), slice(0, 6))
    assert view_inside(View(0, 7), flat) == view_outside(View(0, 7), flat) == View(0, 7)


@pytest.mark.parametrize(
    "result",
    [
        SliceLabels(1, INNER, LABELS, 0.1),
        SlabLabels(1, INNER, LABELS, 1, 5),
        MapRegion(1, Show.ENTROPY, INNER, LABELS.astype(np.float32), 0, 5),
        ChangedLabels(1, INNER, LABELS.astype(bool)),
    ],
)
def test_results_come_to_their_place(result) -> None:
    moved = placed(result, REGION)
    assert type(moved) is type(result)
    assert moved.region == OUTER


def test_lines_come_to_their_place() -> None:
    segments = np.array([[[1, 0, 0], [1, 2, 3]]], np.float32)
    moved = placed(Lines(1, Show.OUTLINES, (LineSet(1, None, 1, segments),)), REGION)
    assert moved.sets[0].segments.tolist() == [[[5, 10, 2], [5, 12, 5]]]


def test_volumes_have_no_place() -> None:
    result = ClassVolumes(1, np.ones(2), 0.1, Request(Controls(), View()), refined=False)
    assert placed(result, REGION) is result
