"""A box is drawn with the mouse, and is a region like one that is painted."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QWidget

import napari_structseg as ss
from dock_helpers import correcting, dock, exploring  # noqa: F401 -- fixtures


@pytest.fixture
def seen(correcting):
    """Both docks in a window that is on the screen, at slice 5."""
    with correcting.qtbot.waitExposed(correcting.widget.window()):
        correcting.widget.window().show()
    correcting.viewer.dims.set_current_step(0, 5)
    correcting.settle()
    return correcting


def canvas(made) -> QWidget:
    """The widget that shows the picture."""
    found = made.widget.window().findChildren(QWidget)
    return next(one for one in found if type(one).__name__ == "CanvasBackendDesktop")


def point_of(made, row: float, column: float) -> QPoint:
    """Where a voxel of the slice that is shown lies in the canvas."""
    camera, size = made.viewer.scene.camera, canvas(made).size()
    at = (np.array([row, column]) - camera.center[-2:]) * camera.zoom
    return QPoint(round(at[1] + size.width() / 2), round(at[0] + size.height() / 2))


def drag(made, *places: tuple[float, float]) -> None:
    """Press at the first place, move over the others, and release at the last."""
    widget, left = canvas(made), Qt.MouseButton.LeftButton
    points = [point_of(made, *place) for place in places]
    made.qtbot.mousePress(widget, left, pos=points[0])
    for point in points[1:]:
        made.qtbot.mouseMove(widget, point)
    made.qtbot.mouseRelease(widget, left, pos=points[-1])


def test_a_box_marks_slices_around_the_one_shown(seen) -> None:
    panel, viewer = seen.correct.result, seen.viewer
    camera = viewer.scene.camera
    before = tuple(camera.center), camera.zoom
    assert panel.slices_field.value() == 1
    panel.box_button.click()
    region = viewer.layers["Region"]
    assert viewer.layers.selection.active.name == "Region"
    assert panel.box_button.isChecked()
    drag(seen, (12, 9), (3, 2), (4, 3))
    wanted = np.zeros(region.data.shape, bool)
    wanted[5, 4:13, 3:10] = True
    assert np.array_equal(region.data != 0, wanted)
    assert not panel.box_button.isChecked()
    # It adds to what is marked, and is cut where the image ends.
    viewer.dims.set_current_step(0, 11)
    panel.slices_field.setValue(4)
    panel.box_button.click()
    drag(seen, (18, 14), (19, 15), (21, 17))
    wanted[8:12, 18:20, 14:16] = True
    assert np.array_equal(region.data != 0, wanted)
    assert (tuple(camera.center), camera.zoom) == before
    panel.region_button.click()
    seen.settle()
    controls = seen.widget.controls
    mean = ss.render_labels(seen.distribution, controls.noise, controls)
    assert np.array_equal(seen.result, np.where(wanted, mean, 0))


def test_a_box_is_given_up_by_escape_and_by_another_tool(seen) -> None:
    panel, viewer = seen.correct.result, seen.viewer
    widget, left = canvas(seen), Qt.MouseButton.LeftButton
    panel.box_button.click()
    region = viewer.layers["Region"]
    drag(seen, (3, 3), (3, 3))
    assert not region.data.any()
    assert panel.box_button.isChecked()
    seen.qtbot.mousePress(widget, left, pos=point_of(seen, 3, 3))

    def is_seen() -> bool:
        # Of moves that follow each other fast, not all are told.
        seen.qtbot.mouseMove(widget, point_of(seen, 8, 8))
        return bool(region.data.any())

    seen.wait(is_seen)
    seen.qtbot.keyClick(widget, Qt.Key.Key_Escape)
    assert not region.data.any()
    seen.qtbot.mouseRelease(widget, left, pos=point_of(seen, 8, 8))
    assert not region.data.any()
    assert not panel.box_button.isChecked()
    panel.box_button.click()
    seen.correct.strokes.class_buttons[1].click()
    assert not panel.box_button.isChecked()
    drag(seen, (3, 3), (8, 8))
    seen.settle()
    assert not region.data.any()
    assert seen.strokes is not None
