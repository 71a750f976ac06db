"""The Explore dock in a real viewer, with a tiny real network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QApplication

from napari_structseg.inference.rendering import render_labels
from napari_structseg.models import HeadSpec
from napari_structseg.session.messages import Show
from napari_structseg.widgets.explore import ExploreWidget
from tiny_models import tiny_model

SHAPE = (20, 24, 28)
TIMEOUT = 60_000


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_model(tmp_path / "tiny.safetensors")


@pytest.fixture
def opened(
    make_napari_viewer: Callable[..., Any], model: Path
) -> Iterator[tuple[Any, ExploreWidget]]:
    viewer = make_napari_viewer()
    data = np.random.default_rng(0).uniform(1, 100, SHAPE).astype(np.float32)
    viewer.add_image(data, name="T1", scale=(2, 1, 1))
    dock = ExploreWidget(viewer)
    viewer.window.add_dock_widget(dock, name="Explore")
    dock.source.choose_model(model)
    yield viewer, dock
    dock.shut_down()
    viewer.close()
    # What Qt would delete when it next has time.
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)


def settle(qtbot: Any, dock: ExploreWidget) -> None:
    qtbot.waitUntil(lambda: not dock.is_busy(), timeout=TIMEOUT)


def run(qtbot: Any, dock: ExploreWidget) -> None:
    dock.run()
    settle(qtbot, dock)


def expected(dock: ExploreWidget) -> np.ndarray:
    return render_labels(dock.engine.distribution, dock.controls.noise, dock.controls)


def shown(viewer: Any) -> np.ndarray:
    return viewer.layers["Segmentation"].data


def test_a_run_shows_the_mean_and_changes_nothing_else(
    qtbot: Any, opened: tuple[Any, ExploreWidget]
) -> None:
    viewer, dock = opened
    image = viewer.layers["T1"]
    before = image.data.copy()
    camera = viewer.scene.camera.model_dump()
    step, selection = viewer.dims.current_step, set(viewer.layers.selection)
    run(qtbot, dock)
    assert dock.banner.message == ""
    assert shown(viewer).dtype == np.uint8
    np.testing.assert_array_equal(shown(viewer), expected(dock))
    assert dock.controls.sample == 0
    np.testing.assert_array_equal(viewer.layers["Segmentation"].scale, image.scale)
    np.testing.assert_array_equal(image.data, before)
    assert viewer.scene.camera.model_dump() == camera
    assert viewer.dims.current_step == step
    assert set(viewer.layers.selection) == selection
    assert len(dock.strip.thumbnails) > 1


def test_layers_follow_every_slider(qtbot: Any, opened: tuple[Any, ExploreWidget]) -> None:
    viewer, dock = opened
    run(qtbot, dock)
    # The mean has no spread: the first move shows the first sample.
    dock.spread.temperature_slider.set_value(2.0)
    settle(qtbot, dock)
    assert dock.controls.sample == 1
    assert dock.controls.temperature == 2.0
    np.testing.assert_array_equal(shown(viewer), expected(dock))
    hot = shown(viewer).copy()
    dock.spread.rows[2].scale.set_value(-3.0)
    settle(qtbot, dock)
    assert dock.controls.class_scale[2] == -3.0
    np.testing.assert_array_equal(shown(viewer), expected(dock))
    assert not np.array_equal(shown(viewer), hot)
    dock.strip.select(3)
    dock.strip.seed_box.setValue(99)
    settle(qtbot, dock)
    assert (dock.controls.sample, dock.controls.seed) == (3, 99)
    np.testing.assert_array_equal(shown(viewer), expected(dock))
    dock.spread.reset()
    settle(qtbot, dock)
    assert dock.spread.is_default
    np.testing.assert_array_equal(shown(viewer), expected(dock))


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 0, 1), (2, 1, 0)])
def test_the_visible_slice_is_right_along_any_axis(
    qtbot: Any, opened: tuple[Any, ExploreWidget], order: tuple[int, ...]
) -> None:
    viewer, dock = opened
    run(qtbot, dock)
    viewer.dims.order = order
    viewer.dims.set_current_step(order[0], 7)
    dock.strip.select(2)
    settle(qtbot, dock)
    np.testing.assert_array_equal(shown(viewer), expected(dock))


def test_in_3d_the_volume_follows(qtbot: Any, opened: tuple[Any, ExploreWidget]) -> None:
    viewer, dock = opened
    run(qtbot, dock)
    viewer.dims.ndisplay = 3
    dock.spread.rows[1].scale.set_value(2.5)
    settle(qtbot, dock)
    np.testing.assert_array_equal(shown(viewer), expected(dock))
    dock.show_panel.choose(Show.ENTROPY)
    settle(qtbot, dock)
    assert viewer.layers["Uncertainty"].visible
    assert viewer.layers["Uncertainty"].data.max() > 0


@pytest.mark.parametrize("show", list(Show))
def test_every_way_to_show_draws_something(
    qtbot: Any, opened: tuple[Any, ExploreWidget], show: Show
) -> None:
    viewer, dock = opened
    run(qtbot, dock)
    dock.strip.select(1)
    dock.show_panel.choose(show)
    settle(qtbot, dock)
    name = {
        Show.LABELS: "Segmentation",
        Show.OUTLINES: "Lines",
        Show.CONTOURS: "Lines",
        Show.ENTROPY: "Uncertainty",
        Show.AGREEMENT: "Uncertainty",
    }[show]
    assert viewer.layers[name].visible
    if name == "Lines":
        assert len(viewer.layers[name].data)


@pytest.mark.parametrize("name", ["Segmentation", "T1"])
def test_deleting_a_layer_breaks_nothing(
    qtbot: Any, opened: tuple[Any, ExploreWidget], name: str
) -> None:
    viewer, dock = opened
    run(qtbot, dock)
    viewer.layers.remove(name)
    dock.strip.select(2)
    dock.spread.temperature_slider.set_value(0.5)
    settle(qtbot, dock)
    dock.show_panel.choose(Show.CONTOURS)
    settle(qtbot, dock)
    dock.show_panel.choose(Show.LABELS)
    settle(qtbot, dock)
    viewer.add_image(np.random.default_rng(1).uniform(1, 9, (18, 18, 18)), name="another")
    dock.source.choose_image(viewer.layers["another"])
    run(qtbot, dock)
    assert dock.banner.message == ""
    assert dock.engine.distribution.spatial_shape == (18, 18, 18)


def test_deleting_the_image_during_a_run(qtbot: Any, opened: tuple[Any, ExploreWidget]) -> None:
    viewer, dock = opened
    dock.run()
    viewer.layers.remove("T1")
    settle(qtbot, dock)
    assert not dock.is_exploring() or dock.engine is not None


def test_cancel_ends_the_run(qtbot: Any, opened: tuple[Any, ExploreWidget]) -> None:
    viewer, dock = opened
    dock.run()
    dock.cancel()
    settle(qtbot, dock)
    assert "T1" in viewer.layers


def test_errors_are_said_in_the_dock_and_the_last_result_stays(
    qtbot: Any, opened: tuple[Any, ExploreWidget], tmp_path: Path
) -> None:
    viewer, dock = opened
    run(qtbot, dock)
    before = shown(viewer).copy()
    broken = tmp_path / "model.pt"
    broken.write_bytes(b"PK\x03\x04 not weights")
    dock.source.choose_model(broken)
    run(qtbot, dock)
    assert "refused" in dock.banner.message
    np.testing.assert_array_equal(shown(viewer), before)
    dock.source.choose_model(tiny_model(tmp_path / "two.safetensors", channels=2))
    run(qtbot, dock)
    assert "expects 2 channels" in dock.banner.message
    dock.source.choose_model(tiny_model(tmp_path / "flat.safetensors", dimensions=2))
    run(qtbot, dock)
    assert "2-D" in dock.banner.message
    assert dock.is_exploring()
    np.testing.assert_array_equal(shown(viewer), before)
    dock.banner.dismiss()
    assert dock.banner.message == ""


def test_a_deterministic_model_has_no_spread(
    qtbot: Any, opened: tuple[Any, ExploreWidget], tmp_path: Path
) -> None:
    viewer, dock = opened
    path = tiny_model(tmp_path / "point.safetensors", head=HeadSpec(kind="point"))
    dock.source.choose_model(path)
    run(qtbot, dock)
    assert not dock.spread.temperature_slider.isEnabled()
    np.testing.assert_array_equal(shown(viewer), expected(dock))


def test_a_2d_model_on_a_2d_image(
    qtbot: Any, opened: tuple[Any, ExploreWidget], tmp_path: Path
) -> None:
    viewer, dock = opened
    viewer.layers.clear()
    viewer.add_image(np.random.default_rng(1).uniform(1, 9, (40, 30)), name="slice")
    dock.source.choose_model(tiny_model(tmp_path / "flat.safetensors", dimensions=2))
    dock.source.choose_image(viewer.layers["slice"])
    run(qtbot, dock)
    dock.strip.select(1)
    for show in Show:
        dock.show_panel.choose(show)
        settle(qtbot, dock)
    assert dock.banner.message == ""
    np.testing.assert_array_equal(shown(viewer), expected(dock))


def test_closing_the_window_while_it_computes(
    opened: tuple[Any, ExploreWidget],
) -> None:
    viewer, dock = opened
    dock.run()
    dock.strip.select(1)
    viewer.close()
    assert not dock.is_busy()
