"""Rows of classes: nothing clipped, an eye, an opacity, and which way the volume goes."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_structseg import Image
from napari_structseg.session.messages import Lines, LineSet, Show
from napari_structseg.session.state import ExplorerState
from napari_structseg.widgets.panels.class_looks import ClassLooks
from napari_structseg.widgets.parts.class_button import ClassButton
from napari_structseg.widgets.parts.class_columns import Columns
from napari_structseg.widgets.parts.class_row import ClassRow
from napari_structseg.widgets.parts.measure import Measure
from napari_structseg.widgets.plots.volume_plot import NARROWEST
from napari_structseg.widgets.viewer.layers import ResultLayers
from tiny_models import CLASSES

# Of a dock of usual width beside its scroll bar.
WIDTH = 366
ML = np.array([480.0, 500, 520, 540, 560])


@pytest.fixture
def rows(qtbot):
    """A row for each class, as wide as in the dock."""
    page = QWidget()
    layout = QVBoxLayout(page)
    columns = Columns()
    made = [
        ClassRow(spec, is_transparent=label == 0, columns=columns)
        for label, spec in enumerate(CLASSES)
    ]
    for row in made:
        layout.addWidget(row)
    page.resize(WIDTH, 300)
    qtbot.addWidget(page)
    page.show()
    yield made
    page.close()


@pytest.mark.parametrize("font_size", [7, 9, 12])
@pytest.mark.parametrize(
    "measure",
    [
        Measure(),
        Measure("px", 1000, "Area", is_count=True),
        Measure("voxels", 1000, is_count=True),
        Measure("mm²", 100, "Area"),
    ],
)
def test_no_number_is_clipped_and_columns_are_aligned(rows, qtbot, measure, font_size) -> None:
    page = rows[0].parentWidget()
    page.setStyleSheet(f"* {{ font-size: {font_size}pt; }}")
    for row in rows:
        row.set_measure(measure)
    for volume in (0.0, 0.004, 3.14, 221.507, 9_999.9, 16_777.216):
        rows[1].show_volume(volume)
        rows[1].show_spread(volume * np.linspace(0.5, 1.5, 9), is_exact=True)
        rows[2].show_volume(1.0)
        qtbot.wait(1)
        for label in (rows[1].volume, rows[1].interval):
            needed = label.fontMetrics().horizontalAdvance(label.text())
            assert needed <= label.contentsRect().width(), label.text()
        for one, other in ((rows[1], rows[2]),):
            assert one.volume.geometry().right() == other.volume.geometry().right()
            assert one.interval.width() == other.interval.width()
        # What does not fit is the name, which is cut off with dots, and the curve; never a number.
        for label in (rows[1].less, rows[1].more):
            needed = label.fontMetrics().horizontalAdvance(label.text())
            assert needed <= label.contentsRect().width(), label.text()
        if font_size <= 9:
            assert page.minimumSizeHint().width() <= WIDTH
        assert rows[1].name.geometry().right() < rows[1].volume.geometry().left()
    assert measure.write(221.507) in ("222 mL", "221,507 px", "221,507 voxels", "22,151 mm²")


def test_names_of_usual_length_are_whole(rows, qtbot) -> None:
    assert rows[0].parentWidget().width() == WIDTH
    for row in rows:
        row.show_volume(563.2)
        row.show_spread(ML)
    qtbot.wait(1)
    for row in rows:
        assert row.name.whole_width() <= row.name.width(), row.name.text()
    # The curve has given way, but it can be read.
    assert rows[3].plot.width() >= NARROWEST


def test_the_background_has_no_volume_and_no_eye(rows) -> None:
    background = rows[0]
    background.show_volume(1500.0)
    background.show_spread(ML, is_exact=True)
    assert background.volume.text() == background.interval.text() == ""
    assert background.eye.isHidden()
    assert background.plot.isHidden()
    assert not background.swatch.isEnabled()
    assert background.name.x() == rows[1].name.x()


def test_an_eye_and_an_opacity_are_in_the_state(rows, qtbot) -> None:
    display = ExplorerState().display
    looks = ClassLooks(rows, display)
    for field in ("hidden_classes", "class_opacity"):
        display.events[field].connect(looks.show)
    qtbot.mouseClick(rows[2].eye, Qt.MouseButton.LeftButton)
    assert display.hidden_classes == {2}
    qtbot.mouseClick(rows[1].swatch, Qt.MouseButton.LeftButton)
    rows[1].swatch.slider.set_value(0.4)
    assert display.class_opacity == (1, 0.4, 1, 1)
    assert display.opacities(4) == (1, 0.4, 0, 1)
    rows[1].swatch.slider.window().close()
    # From elsewhere, for example a script.
    display.hidden_classes = frozenset({1})
    display.class_opacity = (1, 1, 1, 0.7)
    assert [row.eye.isChecked() for row in rows] == [True, False, True, True]
    assert [row.swatch.opacity for row in rows] == [1, 1, 1, 0.7]
    qtbot.mouseClick(rows[1].eye, Qt.MouseButton.LeftButton)
    assert display.hidden_classes == frozenset()


def test_more_spread_makes_a_large_sample_larger(rows) -> None:
    row = rows[1]
    row.show_spread(ML, is_exact=True)
    row.show_volume(555.0)
    # The mean: more spread changes nothing of it.
    assert row.direction == ""
    for volume, scale, direction in (
        (555.0, 1, "larger"),
        (485.0, 1, "smaller"),
        (521.0, 1, ""),
        (555.0, -1, "smaller"),
        (485.0, -2, "larger"),
    ):
        row.scale.set_value(scale)
        row.show_volume(volume, is_sample=True)
        assert row.direction == direction
        assert (direction in row.scale.slider.toolTip()) or not direction
    assert "▲" in row.more.text()
    row.clear()
    assert row.more.text() == "more"


def make_layers(viewer: ViewerModel) -> ResultLayers:
    image = Image.from_array(np.zeros((3, 8, 8), np.float32), spacing=(1, 1, 1))
    beside = viewer.add_image(image.data[0])
    layers = ResultLayers(viewer, beside, CLASSES, image.geometry)
    layers.show(Show.LABELS, restore=True)
    return layers


def test_a_hidden_class_is_drawn_nowhere_and_loses_no_label() -> None:
    layers = make_layers(ViewerModel())
    labels = (np.arange(64).reshape(8, 8) % 4).astype(np.uint8)
    whole = (slice(0, 1), slice(0, 8), slice(0, 8))
    layers.write_slice(whole, labels[np.newaxis])
    segment = np.array([[[0, 1, 1], [0, 2, 3]]], np.float32)
    sets = tuple(LineSet(label, None, 1, segment) for label in (1, 2))
    layers.write_lines(Lines(1, Show.OUTLINES, sets))
    opaque = layers.lines.edge_color[:2, 3].copy()
    layers.set_opacities((1, 0.5, 0, 1))
    drawn = layers.segmentation.colormap.map(labels)
    assert not drawn[labels == 2].any(-1).any() or not drawn[labels == 2][:, 3].any()
    assert np.allclose(drawn[labels == 1][:, 3], 0.5)
    assert np.allclose(drawn[labels == 3][:, 3], 1)
    assert np.allclose(layers.lines.edge_color[:2, 3], opaque * (0.5, 0))
    assert np.array_equal(layers.segmentation.data[0], labels)
    layers.set_opacities((1, 1, 1, 1))
    assert np.allclose(layers.lines.edge_color[:2, 3], opaque)
    assert np.allclose(layers.segmentation.colormap.map(labels)[labels > 0][:, 3], 1)


def test_the_pointer_names_the_class() -> None:
    viewer = ViewerModel()
    layers = make_layers(viewer)
    layers.segmentation.data[1, 2, 3] = 2
    status = layers.segmentation.get_status((1, 2, 3), world=True)
    name = CLASSES[2].name
    assert f"class: {name[:1].upper()}{name[1:]}" in status["value"]
    # Another model's names take the place of the first one's.
    renamed = [spec.model_copy(update={"name": f"organ {n}"}) for n, spec in enumerate(CLASSES)]
    layers.set_classes(renamed)
    layers.segmentation.data[1, 2, 3] = 2
    status = layers.segmentation.get_status((1, 2, 3), world=True)
    assert "class: Organ 2" in status["value"]


def test_the_size_on_a_button_is_whole_where_the_name_is_not(qtbot) -> None:
    button = ClassButton("Left hippocampus (posterior)", QColor("#4477aa"), "A class.")
    qtbot.addWidget(button)
    button.resize(130, 24)
    pictures = []
    for size in ("24.6 mL", "24.7 mL", "24.7 mL"):
        button.set_words("Left hippocampus (posterior)", size)
        assert button.text() == f"Left hippocampus (posterior)  {size}"
        pictures.append(button.grab().toImage())
    assert pictures[0] != pictures[1]
    assert pictures[1] == pictures[2]
