from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Labels

from dock_helpers import SHAPE, brain, dock, exploring  # noqa: F401 -- fixtures
from napari_structseg import render_labels
from napari_structseg.models import HeadSpec
from napari_structseg.reader import image_layers
from napari_structseg.render.summaries import noises_of, summarise
from napari_structseg.session.messages import Show, SliceLabels


def expected_labels(dock) -> np.ndarray:
    controls = dock.widget.controls
    return render_labels(dock.distribution, controls.noise, controls)


def test_first_comes_the_mean(exploring) -> None:
    segmentation = exploring.widget.layers.segmentation
    assert exploring.widget.state.controls.sample == 0
    assert segmentation.data.dtype == np.uint8
    assert np.array_equal(exploring.labels, expected_labels(exploring))
    assert len(np.unique(exploring.labels)) > 1
    assert "Segmented in" in exploring.widget.status.hint.text()
    assert "slice" in exploring.widget.status.timing.text()


def test_sliders_change_the_labels_of_the_same_sample(exploring) -> None:
    widget = exploring.widget
    widget.strip.select(2)
    exploring.settle()
    before = exploring.labels.copy()
    assert np.array_equal(before, expected_labels(exploring))

    widget.spread.temperature_slider.slider.setValue(2.0)
    widget.spread.rows[1].scale.slider.setValue(-1.5)
    widget.spread.rows[3].scale.box.setValue(0.5)
    exploring.settle()
    assert widget.controls.temperature == 2
    assert widget.controls.class_scale == (1, -1.5, 1, 0.5)
    assert np.array_equal(exploring.labels, expected_labels(exploring))
    assert not np.array_equal(exploring.labels, before)

    widget.spread.reset_button.click()
    exploring.settle()
    assert widget.spread.is_default
    assert np.array_equal(exploring.labels, before)


def test_the_mean_gives_way_to_a_sample_when_its_spread_is_moved(exploring) -> None:
    widget = exploring.widget
    widget.spread.rows[2].scale.slider.setValue(1.5)
    assert widget.state.controls.sample == 1
    assert "sample 1" in widget.status.hint.text()
    exploring.settle()
    assert np.array_equal(exploring.labels, expected_labels(exploring))


def test_the_mean_stays_where_no_single_sample_is_shown(exploring) -> None:
    exploring.widget.show_panel.choose(Show.ENTROPY)
    exploring.widget.spread.temperature_slider.slider.setValue(2.0)
    assert exploring.widget.state.controls.sample == 0


def test_a_typed_seed_draws_another_series(exploring) -> None:
    widget = exploring.widget
    widget.strip.select(1)
    exploring.settle()
    before = exploring.labels.copy()
    widget.strip.seed_box.setValue(123456)
    exploring.settle()
    assert widget.controls.seed == 123456
    assert np.array_equal(exploring.labels, expected_labels(exploring))
    assert not np.array_equal(exploring.labels, before)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_visible_slice_along_each_axis(exploring, axis) -> None:
    viewer = exploring.viewer
    order = [axis, *(other for other in range(3) if other != axis)]
    viewer.dims.order = order
    viewer.dims.set_current_step(axis, 5)
    exploring.widget.strip.select(1)
    results = []
    exploring.widget.engine.result.connect(results.append)
    exploring.widget.spread.temperature_slider.slider.setValue(1.7)
    exploring.settle()
    region = next(one for one in results if isinstance(one, SliceLabels)).region
    assert [part.stop - part.start for part in region][axis] == 1
    assert region[axis].start == 5
    assert np.array_equal(exploring.labels, expected_labels(exploring))


def test_slices_follow_the_world_not_the_index(dock) -> None:
    dock.add_image(scale=(3, 1, 1), translate=(30, 0, 0))
    dock.choose()
    dock.run()
    dock.viewer.dims.set_point(0, 30 + 3 * 7)
    results = []
    dock.widget.engine.result.connect(results.append)
    dock.widget.strip.select(1)
    dock.settle()
    assert results[0].region[0] == slice(7, 8)


def test_transposed_thumbnails_follow_the_canvas(exploring) -> None:
    strip = exploring.widget.strip
    exploring.viewer.dims.order = (0, 2, 1)
    exploring.settle()
    picture = strip.thumbnails[0].picture
    assert (picture.height(), picture.width()) == (SHAPE[2], SHAPE[1])


def test_three_dimensions(exploring) -> None:
    exploring.viewer.dims.ndisplay = 3
    exploring.settle()
    exploring.widget.strip.select(3)
    exploring.widget.spread.temperature_slider.slider.setValue(1.4)
    exploring.settle()
    assert np.array_equal(exploring.labels, expected_labels(exploring))
    exploring.widget.show_panel.choose(Show.OUTLINES)
    exploring.settle()
    assert "3-D" in exploring.widget.status.hint.text()
    assert exploring.widget.layers.segmentation.visible
    exploring.widget.show_panel.choose(Show.ENTROPY)
    exploring.settle()
    controls = exploring.widget.controls
    summary = summarise(exploring.distribution, noises_of(controls.seed, 20), controls.weights(4))
    data = exploring.widget.layers.uncertainty.data
    np.testing.assert_allclose(data, summary.entropy.numpy(), atol=1e-5)


@pytest.mark.parametrize("show", [Show.ENTROPY, Show.AGREEMENT])
def test_maps(exploring, show) -> None:
    exploring.widget.show_panel.buttons[show].click()
    exploring.settle()
    layers = exploring.widget.layers
    position = exploring.viewer.dims.current_step[0]
    controls = exploring.widget.controls
    summary = summarise(exploring.distribution, noises_of(controls.seed, 20), controls.weights(4))
    wanted = summary.entropy if show is Show.ENTROPY else summary.agreement
    np.testing.assert_allclose(
        layers.uncertainty.data[position], wanted[position].numpy(), atol=1e-5
    )
    assert layers.uncertainty.visible
    assert not layers.segmentation.visible
    assert layers.uncertainty.contrast_limits == pytest.approx(
        (0, np.log(4) if show is Show.ENTROPY else 1)
    )


@pytest.mark.parametrize("show", [Show.OUTLINES, Show.CONTOURS])
def test_lines_lie_on_the_visible_slice(exploring, show) -> None:
    exploring.viewer.dims.set_current_step(0, 4)
    exploring.widget.show_panel.buttons[show].click()
    exploring.settle()
    lines = exploring.widget.layers.lines
    drawn = lines.edge_color[:, 3] > 0
    assert drawn.any()
    assert set(lines.data[drawn][:, 0, 0]) == {4}
    assert lines.visible
    colors = {tuple(np.round(color[:3], 3)) for color in lines.edge_color[drawn]}
    assert len(colors) == 3
    exploring.widget.show_panel.choose(Show.LABELS)
    exploring.settle()
    assert not lines.visible
    assert exploring.widget.layers.segmentation.visible


def test_a_map_comes_back_after_labels(exploring) -> None:
    uncertainty = exploring.widget.layers.uncertainty
    exploring.widget.show_panel.choose(Show.ENTROPY)
    exploring.settle()
    shown = uncertainty.data.copy()
    assert shown.any()
    for show in (Show.LABELS, Show.ENTROPY):
        exploring.widget.show_panel.choose(show)
        exploring.settle()
    assert np.array_equal(uncertainty.data, shown)


def test_nothing_of_the_viewer_is_changed(dock) -> None:
    image = dock.add_image()
    other = dock.viewer.add_points(np.zeros((1, 3)), name="mine")
    dock.viewer.dims.set_current_step(0, 3)
    dock.viewer.scene.camera.zoom = 3.25
    dock.viewer.layers.selection.active = other
    dock.choose()
    state = dock.viewer.scene.camera.model_dump(), dock.viewer.dims.model_dump()
    data = image.data.copy()
    dock.run()
    for show in Show:
        dock.widget.show_panel.choose(show)
        dock.settle()
    assert (dock.viewer.scene.camera.model_dump(), dock.viewer.dims.model_dump()) == state
    assert set(dock.viewer.layers.selection) == {other}
    assert dock.viewer.layers.selection.active == other
    assert np.array_equal(image.data, data)
    names = [layer.name for layer in dock.viewer.layers]
    assert names == ["Image", "Uncertainty", "Segmentation", "Lines", "mine"]


def test_layers_take_the_place_of_the_image(dock) -> None:
    dock.add_image(
        scale=(2, 1, 1),
        translate=(5, 6, 7),
        rotate=20,
        units=("mm",) * 3,
        axis_labels=("z", "y", "x"),
    )
    dock.choose()
    dock.run()
    image = dock.widget.source.image_layer
    for layer in dock.widget.layers.all:
        assert np.allclose(layer.data_to_world((1, 2, 3)), image.data_to_world((1, 2, 3)))
        assert layer.units == image.units
        assert layer.axis_labels == image.axis_labels


def test_volumes(exploring) -> None:
    widget = exploring.widget
    widget.strip.select(2)
    exploring.settle()
    voxel_ml = 2 / 1000
    counts = np.bincount(exploring.labels.reshape(-1), minlength=4)
    controls = widget.controls
    # How large the background is depends on how the image was cropped.
    assert not widget.spread.rows[0].volume.text()
    for label, row in list(enumerate(widget.spread.rows))[1:]:
        assert row.plot.mark_ml == pytest.approx(counts[label] * voxel_ml)
        wanted = [
            np.sum(render_labels(exploring.distribution, noise, controls) == label) * voxel_ml
            for noise in noises_of(controls.seed, 20)
        ]
        assert np.allclose(row.plot.volumes_ml, wanted)
        assert "mL" in row.volume.text()
        assert "median" in row.interval.toolTip()


def test_a_deterministic_model(dock) -> None:
    dock.add_image()
    dock.choose(head=HeadSpec(kind="point"))
    dock.run()
    widget = dock.widget
    assert not widget.strip.tools.isEnabled()
    assert "deterministic" in widget.strip.note.text()
    assert not widget.strip.note.isHidden()
    assert not widget.spread.temperature_slider.isEnabled()
    assert not widget.spread.note.isHidden()
    assert not widget.show_panel.buttons[Show.CONTOURS].isEnabled()
    assert np.array_equal(dock.labels, render_labels(dock.distribution, None, widget.controls))
    assert widget.strip.thumbnails[0].picture is not None
    assert widget.strip.thumbnails[1].isHidden()
    widget.show_panel.choose(Show.ENTROPY)
    dock.settle()
    assert widget.layers.uncertainty.data.any()


def test_a_flat_image(dock) -> None:
    dock.add_image(brain((20, 16)))
    dock.choose(dimensions=2)
    dock.run()
    for show in Show:
        dock.widget.show_panel.choose(show)
        dock.widget.spread.temperature_slider.step(0.1)
        dock.settle()
    assert not dock.widget.banner.message
    dock.widget.strip.select(1)
    dock.settle()
    assert np.array_equal(dock.labels, expected_labels(dock))
    assert (dock.widget.layers.lines.edge_color[:, 3] > 0).any()


def test_an_image_among_more_dimensions(dock) -> None:
    dock.viewer.add_image(np.zeros((3, *SHAPE), np.float32), name="movie")
    dock.widget.source.choose_image(dock.add_image(name="T1"))
    dock.choose()
    dock.viewer.dims.set_current_step(1, 4)
    dock.run()
    results = []
    dock.widget.engine.result.connect(results.append)
    dock.widget.strip.select(1)
    dock.settle()
    assert results[0].region[0] == slice(4, 5)
    assert np.array_equal(dock.labels, expected_labels(dock))


def test_a_file_keeps_its_geometry(dock, tmp_path) -> None:
    from napari_structseg import read_image
    from napari_structseg.layer_geometry import GEOMETRY_KEY
    from nifti_files import save

    affine = np.array([[-1.0, 0, 0.2, 10], [0, 1.5, 0, -20], [0.1, 0, 2, 5], [0, 0, 0, 1]])
    image = read_image(save(tmp_path / "T1.nii.gz", brain(), affine))
    ((data, settings, _),) = image_layers(image)
    dock.viewer.add_image(data, **settings)
    dock.choose()
    dock.run()
    assert dock.widget._controller.current.image is image
    assert dock.widget.layers.segmentation.metadata[GEOMETRY_KEY] is image.geometry


def test_from_the_menu(make_napari_viewer, qtbot) -> None:
    viewer = make_napari_viewer()
    _, docked = viewer.window.add_plugin_dock_widget("napari-structseg", "Explore segmentations")
    assert docked.welcome.text().startswith("Open an image")
    viewer.add_image(brain())
    assert docked.welcome.text().startswith("Press Run")
    assert [type(layer) for layer in viewer.layers if isinstance(layer, Labels)] == []
    docked.shut_down()
