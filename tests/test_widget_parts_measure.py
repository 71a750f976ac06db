"""Units: mL or mm² where the voxel size is known or typed, and else voxels are counted."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_structseg import Image
from napari_structseg.widgets.panels.spacing_row import SpacingRow, parse_spacing
from napari_structseg.widgets.parts.measure import format_ml, measure_of

VOLUME, SLICE = (4, 6, 8), (6, 8)


def image(shape: tuple[int, ...], spacing: tuple[float, ...] | None = None) -> Image:
    return Image.from_array(np.zeros(shape, np.float32), spacing=spacing)


@pytest.mark.parametrize(
    ("shape", "spacing", "sizes", "typed", "text"),
    [
        (VOLUME, (2, 1, 1), VOLUME, None, "0.20 mL"),
        (VOLUME, None, VOLUME, None, "100 voxels"),
        (VOLUME, None, VOLUME, (2, 1, 1), "0.20 mL"),
        # What the image says counts, whatever was typed for another one.
        (VOLUME, (2, 1, 1), VOLUME, (9, 9, 9), "0.20 mL"),
        (VOLUME, None, VOLUME, (2, 1), "100 voxels"),
        (VOLUME, (5, 2, 2), (1, 6, 8), None, "400 mm²"),
        (VOLUME, None, (1, 6, 8), None, "100 px"),
        (VOLUME, None, (1, 6, 8), (5, 2, 2), "400 mm²"),
        (SLICE, (0.5, 0.5), SLICE, None, "25.0 mm²"),
        (SLICE, None, SLICE, None, "100 px"),
        (SLICE, None, SLICE, (0.5, 0.5), "25.0 mm²"),
    ],
)
def test_a_hundred_voxels(shape, spacing, sizes, typed, text) -> None:
    grid = image(shape, spacing)
    assert measure_of(grid, sizes, typed).write(100 * grid.voxel_volume_ml) == text


def test_there_are_whole_voxels_only() -> None:
    grid = image(VOLUME)
    measure = measure_of(grid, VOLUME)
    assert measure.write(3 * grid.voxel_volume_ml) == "3 voxels"
    assert measure.write(221_507 * grid.voxel_volume_ml) == "221,507 voxels"
    assert measure.write(16_777_216 * grid.voxel_volume_ml) == "16.78 M voxels"
    assert measure.write(0) == "0 voxels"
    assert format_ml(3) == "3.00"


@pytest.mark.parametrize(
    ("text", "spacing"),
    [
        ("1", (1, 1, 1)),
        ("0,5", (0.5, 0.5, 0.5)),
        ("3 1 1", (3, 1, 1)),
        ("3 × 0.5 × 0.5", (3, 0.5, 0.5)),
        ("3x1x1", (3, 1, 1)),
        ("3, 1, 1", (3, 1, 1)),
        ("3,1,1", (3, 1, 1)),
        ("3;0,5;0,5", (3, 0.5, 0.5)),
        ("0", None),
        ("-1", None),
        ("nan", None),
        ("1e400", None),
        ("1 2", None),
        ("one", None),
        ("× ×", None),
    ],
)
def test_voxel_sizes_as_people_write_them(text, spacing) -> None:
    assert parse_spacing(text, 3) == spacing


def test_a_voxel_size_is_typed(qtbot) -> None:
    row = SpacingRow()
    qtbot.addWidget(row)
    row.set_axes(3)
    told: list[object] = []
    row.spacing_typed.connect(told.append)
    for text in ("3 1 1", "wrong", ""):
        row.field.clear()
        qtbot.keyClicks(row.field, text)
        qtbot.keyClick(row.field, Qt.Key.Key_Return)
        assert row.note.isHidden() == (text != "wrong")
    assert told == [(3, 1, 1), None]
    row.show_spacing((3, 0.5, 0.5))
    assert parse_spacing(row.field.text(), 3) == (3, 0.5, 0.5)
    row.show_spacing(None)
    assert not row.field.text()
