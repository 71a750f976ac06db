"""The parts together in the dock, driven as a user would."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QApplication

from dock_helpers import Dock, brain, dock, exploring  # noqa: F401 -- fixtures
from napari_structseg.priors import PriorSpec
from napari_structseg.session.messages import Show
from tiny_models import CLASSES, tiny_model


def test_an_eye_hides_a_class_in_the_canvas(exploring, qtbot) -> None:
    widget = exploring.widget
    labels = exploring.labels.copy()
    row = widget.spread.rows[2]
    qtbot.mouseClick(row.eye, Qt.MouseButton.LeftButton)
    assert widget.state.display.hidden_classes == {2}
    layers = widget.layers
    assert layers.segmentation.colormap.map(np.array([2]))[0, 3] == 0
    assert layers.segmentation.colormap.map(np.array([1]))[0, 3] == 1
    widget.show_panel.choose(Show.CONTOURS)
    exploring.settle()
    color = layers.segmentation.colormap.map(np.array([1, 3]))[:, :3]
    drawn = layers.lines.edge_color[layers.lines.edge_color[:, 3] > 0][:, :3]
    assert len(drawn)
    assert all(np.isclose(one, color, atol=0.01).all(-1).any() for one in drawn)
    assert np.array_equal(exploring.labels, labels)
    # From a script, and back.
    widget.state.display.class_opacity = (1, 0.25, 1, 1)
    assert np.isclose(layers.segmentation.colormap.map(np.array([1]))[0, 3], 0.25)
    widget.state.display.hidden_classes = frozenset()
    assert row.eye.isChecked()
    assert layers.segmentation.colormap.map(np.array([2]))[0, 3] == 1


def test_what_is_hidden_is_forgotten_with_the_model(exploring) -> None:
    display = exploring.widget.state.display
    display.hidden_classes = frozenset({1})
    display.class_opacity = (1, 1, 0.5, 1)
    exploring.run()
    assert display.hidden_classes == {1}
    path = exploring.folder / "two.safetensors"
    tiny_model(path, classes=CLASSES[:2])
    exploring.widget.source.choose_model(path)
    exploring.run()
    assert display.hidden_classes == frozenset()
    assert display.class_opacity == ()


@pytest.mark.parametrize(("shape", "unit"), [((12, 20, 16), "voxels"), ((20, 16), "px")])
def test_voxels_are_counted_until_their_size_is_typed(dock, qtbot, shape, unit) -> None:
    dock.add_image(brain(shape))
    dock.choose(dimensions=len(shape))
    dock.run()
    widget = dock.widget
    row = widget.spread.rows[1]
    count = int((dock.labels == 1).sum())
    assert row.volume.text() == f"{count:,} {unit}"
    assert "mL" not in row.interval.toolTip()
    assert "mm" not in row.interval.toolTip()
    field = widget.source.spacing_row.field
    assert not widget.source.spacing_row.isHidden()
    qtbot.keyClicks(field, "2")
    qtbot.keyClick(field, Qt.Key.Key_Return)
    size, typed_unit = (count * 8 / 1000, "mL") if len(shape) == 3 else (count * 4, "mm²")
    number, written_unit = row.volume.text().split()
    assert written_unit == typed_unit
    assert float(number.replace(",", "")) == pytest.approx(size, rel=0.01, abs=0.005)
    assert typed_unit in row.interval.toolTip()
    # A run takes it over, and so does what is saved.
    dock.run()
    assert row.volume.text() == f"{number} {typed_unit}"
    assert widget.layers.segmentation.metadata["structseg_geometry"].has_spacing
    # It was typed for that image.
    dock.add_image(brain(shape), name="other")
    widget.source.choose_image(dock.viewer.layers["other"])
    assert widget.state.source.spacing is None
    assert not field.text()


def test_an_image_that_says_its_voxel_size_is_not_asked(exploring) -> None:
    assert exploring.widget.source.spacing_row.isHidden()
    assert exploring.widget.spread.rows[1].volume.text().endswith("mL")


def test_a_note_that_comes_moves_no_slider(make_napari_viewer, qtbot, tmp_path) -> None:
    viewer = make_napari_viewer(show=True)
    made = Dock(viewer, qtbot, tmp_path)
    made.add_image(name="T1")
    made.choose(prior=PriorSpec(kind="energy", iterations=3))
    made.run()
    for section in made.widget.sections:
        section.set_open(True)
    made.settle()
    slider = made.widget.neighbours.iteration_slider
    page = made.widget.scroll_area.widget()

    def place() -> QPoint:
        QApplication.processEvents()
        return slider.mapTo(page, QPoint(0, 0))

    before = place()
    for iterations in (5, 0, 3):
        slider.set_value(iterations)
        made.settle()
        assert place() == before
    engine = made.widget.engine
    made.widget.shut_down()
    assert engine.join(60)
