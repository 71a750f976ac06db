"""A click on the image, or a call, marks the place that a 2-D model is to look at."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Shapes
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QWidget

from dock_helpers import dock  # noqa: F401 -- fixture
from napari_structseg import explorer
from napari_structseg.errors import InputError
from napari_structseg.models.spec import IntensitySpec
from napari_structseg.prediction.region_of_interest import RegionOfInterest
from napari_structseg.widgets.viewer.marking import marked_roi
from tiny_models import CLASSES

SHAPE = (9, 40, 48)
SPACING = (2.5, 0.7, 0.7)
# Patches of 16 x 16.
SETTINGS = {
    "dimensions": 2,
    "intensity": IntensitySpec(kind="window", low=-1000, high=400, unit="HU"),
    "classes": CLASSES[:2],
}


@pytest.fixture
def volume(dock):
    """A CT and a painted layer in the viewer, at slice 6, and a 2-D model."""
    data = np.random.default_rng(0).integers(-1024, 900, SHAPE).astype(np.int16)
    dock.add_image(data, name="CT", scale=SPACING, translate=(10, 0, 5))
    dock.viewer.dims.set_current_step(0, 6)
    dock.choose(**SETTINGS)
    # The canvas has its size when it is on the screen.
    with dock.qtbot.waitExposed(dock.widget.window()):
        dock.widget.window().show()
    dock.settle()
    return dock


def canvas(dock) -> QWidget:
    """The widget that shows the picture."""
    found = dock.widget.window().findChildren(QWidget)
    return next(one for one in found if type(one).__name__ == "CanvasBackendDesktop")


def point_of(dock, index: tuple[float, ...]) -> QPoint:
    """Where a voxel of the slice that is shown lies in the canvas."""
    world = np.asarray(dock.viewer.layers["CT"].data_to_world(index))[-2:]
    camera, size = dock.viewer.scene.camera, canvas(dock).size()
    at = (world - camera.center[-2:]) * camera.zoom
    return QPoint(round(at[1] + size.width() / 2), round(at[0] + size.height() / 2))


def click(dock, index: tuple[float, ...]) -> None:
    dock.qtbot.mouseClick(canvas(dock), Qt.MouseButton.LeftButton, pos=point_of(dock, index))


def marked(dock) -> RegionOfInterest:
    return marked_roi(dock.viewer, dock.widget.source.image_layer, dock.widget.state.source)


def camera(dock) -> tuple:
    one = dock.viewer.scene.camera
    return tuple(one.center), one.zoom, tuple(one.angles)


def test_a_click_marks_the_place_around_it(volume) -> None:
    where, viewer = volume.widget.source.where, volume.viewer
    where.count_box.setValue(3)
    viewer.layers.selection.active = viewer.layers["CT"]
    before = camera(volume)
    where.pick_button.click()
    assert "Click on the image" in where.note.text()
    click(volume, (6, 20, 30))
    assert marked(volume) == RegionOfInterest(axis="z", start=5, count=3, box=((12, 28), (22, 38)))
    assert not where.pick_button.isChecked()
    assert where.note.isHidden()
    assert where.box_box.currentText() == "Place in CT"
    assert camera(volume) == before
    assert viewer.layers.selection.active.name == "CT"
    volume.run()
    assert volume.distribution.spatial_shape == (3, 16, 16)


def test_the_box_of_the_next_click_takes_the_place_of_the_last(volume) -> None:
    where, layers = volume.widget.source.where, volume.viewer.layers
    for index, box in (((6, 20, 30), ((12, 28), (22, 38))), ((6, 1, 46), ((0, 16), (32, 48)))):
        where.pick_button.click()
        click(volume, index)
        assert marked(volume).box == box
    assert sum(isinstance(layer, Shapes) for layer in layers) == 1
    # A click while nothing is waited for is one on the picture, as always.
    click(volume, (6, 20, 30))
    assert marked(volume).box == ((0, 16), (32, 48))


@pytest.mark.parametrize("in_dock", [True, False])
def test_escape_ends_the_picking(volume, in_dock: bool) -> None:
    where = volume.widget.source.where
    where.pick_button.click()
    place = where.pick_button if in_dock else canvas(volume)
    volume.qtbot.keyClick(place, Qt.Key.Key_Escape)
    assert not where.pick_button.isChecked()
    click(volume, (6, 20, 30))
    assert volume.widget.state.source.box is None


def test_a_drag_moves_the_picture_and_a_click_outside_is_said(volume) -> None:
    where = volume.widget.source.where
    where.pick_button.click()
    widget, start, end = (
        canvas(volume),
        point_of(volume, (6, 10, 10)),
        point_of(volume, (6, 25, 30)),
    )
    volume.qtbot.mousePress(widget, Qt.MouseButton.LeftButton, pos=start)
    volume.qtbot.mouseMove(widget, end)
    volume.qtbot.mouseRelease(widget, Qt.MouseButton.LeftButton, pos=end)
    assert volume.widget.state.source.box is None
    click(volume, (6, -6, 10))
    assert "inside the image" in where.note.text()
    assert where.pick_button.isChecked()
    click(volume, (6, 20, 30))
    assert marked(volume).box is not None


def test_a_layer_that_is_painted_on_is_not_painted_on(volume) -> None:
    labels = volume.viewer.add_labels(
        np.zeros(SHAPE, np.uint8), scale=SPACING, translate=(10, 0, 5)
    )
    labels.mode = "paint"
    where = volume.widget.source.where
    where.pick_button.click()
    click(volume, (6, 20, 30))
    assert marked(volume).box is not None
    assert not labels.data.any()
    assert labels.mode == "paint"
    assert volume.viewer.layers.selection.active.name == labels.name


def test_what_comes_between_ends_the_picking(volume) -> None:
    source = volume.widget.source
    source.where.pick_button.click()
    source.choose_model("brain-tissue")
    assert not source.where.pick_button.isChecked()
    click(volume, (6, 20, 30))
    assert volume.widget.state.source.box is None


def test_look_at_marks_the_same(volume) -> None:
    here = explorer(volume.viewer)
    before = camera(volume)
    selected = volume.viewer.layers.selection.active.name
    here.look_at(2, 20, 30)
    assert marked(volume) == RegionOfInterest(axis="z", start=2, box=((12, 28), (22, 38)))
    assert camera(volume) == before
    assert volume.viewer.layers.selection.active.name == selected
    here.look_at(8, 39, 0)
    assert marked(volume) == RegionOfInterest(axis="z", start=8, box=((24, 40), (0, 16)))
    for index in ((9, 0, 0), (0, -1, 0)):
        with pytest.raises(InputError, match="inside the image"):
            here.look_at(*index)
    volume.widget.source.choose_model("brain-tissue")
    with pytest.raises(InputError, match="2-D model"):
        here.look_at(2, 20, 30)


def test_a_box_in_mm_where_the_model_has_a_pixel_size(volume) -> None:
    volume.choose(**SETTINGS, spacing=(1.4, 0.7))
    volume.widget.source.where.pick_button.click()
    click(volume, (6, 20, 30))
    assert marked(volume).box == ((4, 36), (22, 38))


def test_slices_along_another_axis(volume) -> None:
    volume.viewer.dims.order = (2, 0, 1)
    explorer(volume.viewer).look_at(4, 20, 30)
    # The patch is larger than the volume along z.
    assert marked(volume) == RegionOfInterest(axis="x", start=30, box=((0, 9), (12, 28)))
