"""The dock with a 2-D model on a volume."""

from __future__ import annotations

import threading
from typing import ClassVar

import numpy as np
import pytest
from napari.layers import Shapes

from dock_helpers import dock  # noqa: F401 -- fixture
from napari_structseg import render_labels
from napari_structseg.models import HeadSpec
from napari_structseg.models.spec import IntensitySpec
from napari_structseg.prediction.region_of_interest import RegionOfInterest
from napari_structseg.session.messages import Modes, Show
from napari_structseg.widgets.viewer.marking import marked_roi
from tiny_models import CLASSES

SHAPE = (9, 40, 48)
CT = IntensitySpec(kind="window", low=0, high=255, unit="8-bit", hounsfield=(-1000, 1200))
SETTINGS = {
    "dimensions": 2,
    "intensity": CT,
    "head": HeadSpec(kind="latent", latent_size=3),
    "classes": CLASSES[:2],
}


def ct(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1024, 900, SHAPE).astype(np.int16)


@pytest.fixture
def volume(dock):
    """A CT in the viewer, at slice 6, and a 2-D model."""
    dock.add_image(ct(), name="CT", scale=(2.5, 0.7, 0.7), translate=(10, 0, 5))
    dock.viewer.dims.set_current_step(0, 6)
    dock.choose(**SETTINGS)
    return dock


def marked(dock) -> RegionOfInterest:
    """What a run would be applied to."""
    return marked_roi(dock.viewer, dock.widget.source.image_layer, dock.widget.state.source)


def expected(dock) -> np.ndarray:
    controls = dock.widget.controls
    return render_labels(dock.distribution, controls.noise, controls)


def test_rows_are_there_for_2d_models_on_volumes(volume) -> None:
    source = volume.widget.source
    assert source.where.isVisibleTo(source)
    assert source.window_row.isVisibleTo(source)
    source.choose_image(volume.add_image(ct()[0], name="one slice"))
    assert not source.where.isVisibleTo(source)
    assert source.window_row.isVisibleTo(source)
    source.choose_model("brain-tissue")
    assert not source.window_row.isVisibleTo(source)
    assert volume.widget.state.source.intensity_window is None


def test_the_slice_that_is_shown(volume) -> None:
    assert marked(volume) == RegionOfInterest(axis="z", start=6)
    volume.run()
    assert volume.distribution.spatial_shape == (1, *SHAPE[1:])
    assert np.array_equal(volume.labels[6:7], expected(volume))
    assert volume.labels.shape == SHAPE
    assert not np.delete(volume.labels, 6, axis=0).any()
    assert volume.widget.layers.segmentation.translate == pytest.approx((10, 0, 5))


def test_a_slab_in_a_box_and_its_samples(volume) -> None:
    widget, source = volume.widget, volume.widget.source
    source.where.count_box.setValue(3)
    box = source.where.add_box()
    roi = marked(volume)
    assert roi.start == 5
    assert [stop - start for start, stop in roi.box] == [16, 16]
    volume.run()
    region = roi.region(SHAPE)
    widget.strip.select(2)
    volume.settle()
    assert np.array_equal(volume.labels[region], expected(volume))
    for position in (5, 7, 0):
        volume.viewer.dims.set_current_step(0, position)
        volume.settle()
    rest = volume.labels.copy()
    rest[region] = 0
    assert not rest.any()
    for show in (Show.ENTROPY, Show.OUTLINES):
        widget.show_panel.choose(show)
        volume.viewer.dims.set_current_step(0, 6)
        volume.settle()
    lines = widget.layers.lines.data
    starts, ends = lines[:, 0], lines[:, 0] + lines[:, 1]
    for axis, part in enumerate(region):
        for points in (starts[:, axis], ends[:, axis]):
            assert (points >= part.start - 0.5).all()
            assert (points <= part.stop - 0.5).all()
    assert box.name == "Box"
    picture = widget.strip.thumbnails[0].picture
    assert (picture.height(), picture.width()) == (16, 16)


def test_other_slices_are_said_to_be_empty(volume) -> None:
    volume.run()
    hint = volume.widget.status.hint
    assert "Segmented in" in hint.text()
    volume.viewer.dims.set_current_step(0, 2)
    assert "not marked" in hint.text()
    volume.viewer.dims.set_current_step(0, 6)
    assert hint.text() == ""
    volume.settle()


def test_latents_and_hypotheses_of_a_slab(volume) -> None:
    widget = volume.widget
    widget.source.where.count_box.setValue(2)
    widget.hypotheses_section.set_open(True)
    volume.run()
    assert widget.latent.n_latents == 3
    assert widget.state.display.modes is Modes.AUTO
    volume.viewer.dims.ndisplay = 3
    volume.settle()
    assert np.array_equal(volume.labels[5:7], expected(volume))


@pytest.mark.parametrize("axis", [1, 2])
def test_slices_along_another_axis(volume, axis: int) -> None:
    volume.viewer.dims.order = (axis, *(one for one in range(3) if one != axis))
    volume.viewer.dims.set_current_step(axis, 11)
    assert marked(volume) == RegionOfInterest(axis="zyx"[axis], start=11)
    volume.run()
    found = np.moveaxis(volume.labels, axis, 0)
    assert np.array_equal(found[11], expected(volume).squeeze(axis))


def test_a_drawn_shape_marks_the_voxels_that_it_covers(volume) -> None:
    layer = volume.viewer.layers["CT"]
    corners = np.array([[6, 3.6, 9.5], [6, 3.6, 40.4], [6, 21.4, 40.4], [6, 21.4, 9.5]])
    world = [layer.data_to_world(corner) for corner in corners]
    shapes = volume.viewer.add_shapes([world], shape_type="polygon", name="mine")
    where = volume.widget.source.where
    where.choose_box(shapes)
    assert marked(volume).box == ((4, 21), (10, 40))


def test_shapes_that_mark_nothing(volume) -> None:
    where, widget = volume.widget.source.where, volume.widget
    empty = volume.viewer.add_shapes(ndim=3, name="empty")
    where.choose_box(empty)
    volume.run()
    assert "has no shape" in widget.banner.message
    outside = np.array([[6, -30, -30], [6, -30, -20], [6, -20, -20], [6, -20, -30]])
    where.choose_box(volume.viewer.add_shapes([outside], name="outside"))
    volume.run()
    assert "covers none" in widget.banner.message
    assert not widget.is_exploring()
    where.choose_box(None)
    volume.run()
    assert widget.is_exploring()


def test_boxes_follow_the_viewers_layers(volume) -> None:
    box = volume.widget.source.where.add_box()
    shapes = volume.widget.source.where.box_box
    assert shapes.currentText() == box.name
    # Chosen still, when another layer comes.
    volume.viewer.add_shapes(ndim=3, name="mine")
    assert shapes.currentText() == box.name
    volume.viewer.layers.remove(box)
    assert shapes.currentIndex() == 0
    assert shapes.currentData() is None
    assert isinstance(box, Shapes)


def test_too_large_a_part_is_said(volume) -> None:
    where = volume.widget.source.where
    # Patches of 16 x 16 are less than half of 40 x 48.
    assert "Trained on 16 × 16" in where.note.text()
    assert not where.note.isHidden()
    where.add_box()
    assert where.note.isHidden()


def test_the_window_fits_the_image_and_can_be_changed(volume) -> None:
    row, layer = volume.widget.source.window_row, volume.viewer.layers["CT"]
    limits = tuple(layer.contrast_limits)
    assert (row.low_box.value(), row.high_box.value()) == (-1000, 1200)
    assert row.unit_label.text() == "HU"
    assert volume.widget.state.source.intensity_window is None
    volume.run()
    before = volume.distribution.mean()
    assert tuple(layer.contrast_limits) == limits
    row.show_button.click()
    assert tuple(layer.contrast_limits) == (-1000, 1200)
    row.low_box.setValue(-160)
    row.high_box.setValue(240)
    assert volume.widget.state.source.intensity_window == (-160, 240)
    volume.run()
    assert not np.allclose(volume.distribution.mean(), before)


def test_bytes_and_what_is_neither(volume) -> None:
    source, row = volume.widget.source, volume.widget.source.window_row
    pixels = np.clip(ct() // 8 + 128, 0, 255).astype(np.uint8)
    source.choose_image(volume.add_image(pixels, name="bytes"))
    assert (row.low_box.value(), row.high_box.value()) == (0, 255)
    assert row.unit_label.text() == "8-bit"
    assert row.note.isHidden()
    source.choose_image(volume.add_image(ct() + 1024, name="raw"))
    assert not row.note.isHidden()
    assert "check the window" in row.note.text()
    assert volume.widget.state.source.intensity_window == (-1000, 1200)


class Watched(np.ndarray):
    """Remembers in which threads all of it was reduced."""

    threads: ClassVar[list[str]] = []

    def min(self, *args, **settings):
        if self.size > 2**18:
            self.threads.append(threading.current_thread().name)
        return super().min(*args, **settings)


@pytest.mark.parametrize(("offset", "ends"), [(0, None), (1024, (-1000, 1200))])
def test_the_values_of_a_large_image_are_read_in_the_background(volume, offset, ends) -> None:
    Watched.threads.clear()
    source, row = volume.widget.source, volume.widget.source.window_row
    data = np.tile(ct() + offset, (1, 4, 4)).view(Watched)
    large = volume.add_image(data, name="large", contrast_limits=(-1000, 1000))
    assert large.data is data
    source.choose_image(large)
    assert volume.widget.is_busy()
    assert not source.run_button.isEnabled()
    assert not row.low_box.isEnabled()
    volume.settle()
    assert Watched.threads == ["structseg-background"]
    assert source.run_button.isEnabled()
    assert row.low_box.isEnabled()
    assert (row.low_box.value(), row.high_box.value()) == (-1000, 1200)
    assert volume.widget.state.source.intensity_window == ends
    assert row.note.isHidden() == (ends is None)
    # Chosen again, it is known.
    source.choose_image(volume.viewer.layers["CT"])
    source.choose_image(large)
    assert not volume.widget.is_busy()
    assert (row.low_box.value(), row.high_box.value()) == (-1000, 1200)
    assert volume.widget.state.source.intensity_window == ends
    assert Watched.threads == ["structseg-background"]


@pytest.mark.parametrize(
    ("ends", "shown", "typed"),
    [((0.05, 0.9), (0.05, 0.9), 0.45), ((1 / 3, 2e7), (0, 2e7), 1e8), ((0, 255), (0, 255), 200)],
)
def test_the_window_of_a_model_is_not_rounded(volume, ends, shown, typed) -> None:
    row = volume.widget.source.window_row
    spec = IntensitySpec(kind="window", low=ends[0], high=ends[1])
    row.set_model(spec, volume.viewer.layers["CT"])
    assert (row.low_box.value(), row.high_box.value()) == pytest.approx(shown)
    assert volume.widget.state.source.intensity_window is None
    row.high_box.setValue(typed)
    assert volume.widget.state.source.intensity_window == pytest.approx((shown[0], typed))


def test_another_window_keeps_the_sliders(volume) -> None:
    widget = volume.widget
    volume.run()
    widget.strip.select(2)
    widget.spread.rows[1].scale.set_value(0.5)
    widget.source.window_row.high_box.setValue(500)
    volume.run()
    assert widget.controls.sample == 2
    assert widget.controls.class_scale == (1, 0.5)
    assert np.array_equal(volume.labels[6:7], expected(volume))


def test_areas_of_pictures_without_a_pixel_size(volume) -> None:
    source, spread = volume.widget.source, volume.widget.spread
    for scale, unit in ((1, "px"), (0.7, "mm²")):
        layer = volume.add_image(ct()[0], scale=(scale, scale), name=unit)
        source.choose_image(layer)
        volume.run()
        assert spread.rows[1].volume.text().endswith(f" {unit}")
        number = float(spread.rows[1].volume.text().split()[0].replace(",", ""))
        assert number == pytest.approx((volume.labels == 1).sum() * scale**2, rel=0.01)
