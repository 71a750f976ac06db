from __future__ import annotations

import numpy as np
import pytest
from napari.settings import get_settings
from napari.utils.shortcuts import default_shortcuts
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QApplication

from dock_helpers import SHAPE, Dock, brain, dock, exploring  # noqa: F401 -- fixtures
from napari_structseg import render_labels
from napari_structseg.controls import MEAN
from napari_structseg.distributions import Noise
from napari_structseg.session.messages import Show
from napari_structseg.widgets.panels.sample_strip import COLUMNS, MAX_SAMPLES
from napari_structseg.widgets.parts.measure import format_ml
from napari_structseg.widgets.parts.thumbnail import overlay
from napari_structseg.widgets.shortcuts import SHORTCUTS
from tiny_models import CLASSES, tiny_model


def pixels(image) -> np.ndarray:
    pointer = image.constBits()
    pointer.setsize(image.sizeInBytes())
    rows = np.frombuffer(pointer, np.uint8).reshape(image.height(), image.bytesPerLine())
    return rows[:, : 3 * image.width()].reshape(image.height(), image.width(), 3)


def test_thumbnails_show_the_samples_of_the_slice(exploring) -> None:
    exploring.viewer.dims.set_current_step(0, 6)
    exploring.settle()
    strip = exploring.widget.strip
    controls = exploring.widget.controls
    layer = exploring.widget.source.image_layer
    low, high = layer.contrast_limits
    grey = (255 * np.clip((layer.data[6] - low) / (high - low), 0, 1)).astype(np.uint8)
    colors = np.array([[int(c.color[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in CLASSES])
    colors = np.column_stack([colors, [0, 1, 1, 1]]).astype(np.float32)
    assert len(strip.thumbnails) == 2 * COLUMNS
    for thumbnail in strip.thumbnails:
        noise = None if thumbnail.sample == MEAN else Noise(controls.seed, thumbnail.sample)
        labels = render_labels(exploring.distribution, noise, controls)[6]
        wanted = overlay(labels, colors, grey)
        assert np.abs(pixels(thumbnail.picture).astype(int) - wanted).max() <= 1


def test_thumbnails_follow_the_contrast(exploring) -> None:
    strip = exploring.widget.strip
    before = pixels(strip.thumbnails[0].picture).copy()
    exploring.widget.source.image_layer.contrast_limits = (0, 400)
    assert pixels(strip.thumbnails[0].picture).mean() < before.mean()


def test_browsing_by_click_keys_and_buttons(exploring, qtbot) -> None:
    strip = exploring.widget.strip
    qtbot.mouseClick(strip.thumbnails[3], Qt.MouseButton.LeftButton)
    assert exploring.widget.state.controls.sample == 3
    qtbot.keyClick(strip.thumbnails[3], Qt.Key.Key_Right)
    assert exploring.widget.state.controls.sample == 4
    qtbot.keyClick(strip.thumbnails[4], Qt.Key.Key_Down)
    assert exploring.widget.state.controls.sample == 4 + COLUMNS
    qtbot.keyClick(strip, Qt.Key.Key_Left)
    assert exploring.widget.state.controls.sample == 3 + COLUMNS
    strip.next.click()
    strip.previous.click()
    strip.previous.click()
    assert exploring.widget.state.controls.sample == 2 + COLUMNS
    strip.select(MEAN)
    strip.previous.click()
    assert exploring.widget.state.controls.sample == MEAN
    assert "mean" in exploring.widget.status.hint.text()


def test_the_strip_grows(exploring) -> None:
    strip = exploring.widget.strip
    strip.select(strip.n_samples)
    strip.next.click()
    assert exploring.widget.state.controls.sample == 2 * COLUMNS
    assert strip.n_samples == 3 * COLUMNS - 1
    exploring.settle()
    assert strip.thumbnails[-1].picture is not None
    while strip.more.isEnabled():
        strip.more.click()
    assert strip.n_samples == MAX_SAMPLES
    exploring.settle()
    assert all(one.picture is not None for one in strip.thumbnails)


def test_a_slider_is_dragged_typed_keyed_and_reset(exploring, qtbot) -> None:
    scale = exploring.widget.spread.rows[1].scale
    scale.slider.setValue(-2)
    assert scale.value == -2
    assert scale.box.value() == -2

    scale.box.setFocus()
    scale.box.selectAll()
    qtbot.keyClicks(scale.box, "0.35")
    qtbot.keyClick(scale.box, Qt.Key.Key_Return)
    assert scale.value == scale.slider.value() == 0.35

    qtbot.keyClick(scale.slider, Qt.Key.Key_Right)
    assert scale.value == pytest.approx(0.4)
    qtbot.keyClick(scale.slider, Qt.Key.Key_PageDown)
    assert scale.value == pytest.approx(-0.1)
    qtbot.keyClick(scale.slider, Qt.Key.Key_End)
    assert scale.value == 3
    # With Shift the arrows browse, as anywhere in the dock.
    qtbot.keyClick(scale.slider, Qt.Key.Key_Right, Qt.KeyboardModifier.ShiftModifier)
    assert scale.value == 3
    assert exploring.widget.state.controls.sample == 2
    scale.set_value(0.2)

    before = scale.value
    wheel = QWheelEvent(
        QPointF(5, 5),
        scale.slider.mapToGlobal(QPointF(5, 5)),
        QPoint(),
        QPoint(0, 120),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    # Without focus it scrolls the dock; with it, see test_widget_parts_fields.py.
    QApplication.sendEvent(scale.slider, wheel)
    assert scale.value == before

    assert scale.reset_button.isEnabled()
    scale.reset_button.click()
    assert scale.value == 1
    assert not scale.reset_button.isEnabled()
    scale.step(0.5)
    qtbot.mouseDClick(scale.slider, Qt.MouseButton.LeftButton)
    assert scale.value == 1
    scale.set_value(99)
    assert scale.value == 3


def test_a_slider_never_jumps_back(exploring) -> None:
    scale = exploring.widget.spread.rows[2].scale
    for value in np.linspace(-3, 3, 61):
        scale.slider.setValue(value)
        # The state has the number as the field shows it, with two decimals.
        assert scale.slider.value() == pytest.approx(value, abs=1e-9)
        QApplication.processEvents()
        assert scale.slider.value() == pytest.approx(value, abs=1e-9)
    exploring.settle()
    assert scale.slider.value() == 3
    controls = exploring.widget.controls
    expected = render_labels(exploring.distribution, controls.noise, controls)
    assert np.array_equal(exploring.labels, expected)


def test_reset_all_is_one_change(exploring) -> None:
    spread = exploring.widget.spread
    spread.temperature_slider.set_value(2)
    spread.rows[1].scale.set_value(2)
    state, received = exploring.widget.state, []
    state.settled.connect(received.append)
    spread.reset_button.click()
    assert received == [{"controls.temperature", "controls.class_scale"}]
    assert state.controls.class_scale == (1, 1, 1, 1)


def test_keys(exploring, qtbot) -> None:
    dock = exploring.widget

    def press(key: str) -> None:
        # What the dock does not take itself goes to the canvas, as if pressed there.
        qtbot.keyClick(dock, getattr(Qt.Key, f"Key_{key}"), Qt.KeyboardModifier.ShiftModifier)

    press("Right")
    press("Right")
    assert dock.state.controls.sample == 2
    press("Left")
    assert dock.state.controls.sample == 1
    press("Up")
    assert dock.state.controls.temperature == pytest.approx(1.1)
    press("Down")
    press("Down")
    assert dock.state.controls.temperature == pytest.approx(0.9)
    press("R")
    assert dock.spread.is_default
    press("N")
    assert dock.state.controls.seed == 8
    press("M")
    assert dock.state.controls.sample == MEAN
    for key, show in zip("BOCEG", Show, strict=True):
        press(key)
        assert dock.state.display.show is show


def test_keys_do_nothing_before_there_is_anything(dock) -> None:
    for act in dock.viewer.keymap.values():
        act(dock.viewer)
    assert dock.widget.state.controls.sample == MEAN


def test_keys_are_free_in_napari() -> None:
    taken = {str(key) for keys in default_shortcuts.values() for key in keys}
    taken |= {str(key) for keys in get_settings().shortcuts.shortcuts.values() for key in keys}
    ours = {shortcut.key.replace("-", "+").replace("Right", "RightArrow") for shortcut in SHORTCUTS}
    # The layers that someone looks at a segmentation with; shapes and points have their own.
    assert ours & taken <= set()


def test_a_key_that_is_taken_is_left_alone(make_napari_viewer, qtbot, tmp_path) -> None:
    viewer = make_napari_viewer()
    pressed = []
    viewer.bind_key("Shift-R", pressed.append)
    dock = Dock(viewer, qtbot, tmp_path)
    dock.widget.shut_down()
    (mine,) = viewer.keymap.values()
    mine(viewer)
    assert pressed == [viewer]


def test_keys_are_listed(exploring) -> None:
    dock = exploring.widget
    assert dock.keys_section.isHidden()
    dock.status.help_button.click()
    assert not dock.keys_section.isHidden()
    texts = {label.text() for label in dock.keys_section.findChildren(type(dock.status.hint))}
    assert {shortcut.says for shortcut in SHORTCUTS} <= texts
    dock.status.help_button.click()
    assert dock.keys_section.isHidden()


def test_sections_fold(exploring) -> None:
    (section, *_) = exploring.widget.sections
    section.header.click()
    assert exploring.widget.strip.isHidden()
    assert exploring.widget.strip.tools.isHidden()
    section.header.click()
    assert not exploring.widget.strip.isHidden()


def test_images_are_listed_as_they_come_and_go(dock) -> None:
    box = dock.widget.source.image_box

    def listed() -> list[str]:
        return [box.itemText(index) for index in range(box.count())]

    assert not dock.widget.source.run_button.isEnabled()
    first = dock.add_image(name="first")
    second = dock.add_image(name="second")
    dock.viewer.add_labels(np.zeros(SHAPE, np.uint8))
    assert listed() == ["first", "second"]
    dock.widget.source.choose_image(second)
    second.name = "renamed"
    assert listed() == ["first", "renamed"]
    assert dock.widget.source.image_layer == second
    dock.viewer.layers.remove(first)
    assert listed() == ["renamed"]
    assert dock.widget.source.image_layer == second
    dock.choose()
    dock.run()
    dock.widget.show_panel.choose(Show.ENTROPY)
    dock.settle()
    assert listed() == ["renamed"]


def test_a_model_from_a_file(dock, qtbot) -> None:
    source = dock.widget.source
    path = dock.choose()
    before = str(tiny_model(dock.folder / "before.safetensors"))
    source.choose_model(before)
    source.model_box.activated.emit(source.model_box.count() - 1)
    dialog = source.model_box.file_dialog
    assert dialog.isVisible()
    assert dock.widget.state.source.model == before
    dialog.fileSelected.emit(str(path))
    dialog.close()
    assert dock.widget.state.source.model == str(path)
    n_models = source.model_box.count()
    source.choose_model(path)
    assert source.model_box.count() == n_models


def test_shipped_models_and_the_device_are_listed(dock) -> None:
    from napari_structseg.io.model_files import shipped_models

    source = dock.widget.source
    listed = [source.model_box.itemData(index) for index in range(source.model_box.count())]
    assert listed[: len(shipped_models())] == list(shipped_models())
    assert dock.widget.state.source.device == "auto"
    assert source.device_box.currentText().startswith("auto: ")


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("size", [(1280, 800), (1600, 1000)])
def test_the_window(make_napari_viewer, qtbot, tmp_path, theme, size) -> None:
    viewer = make_napari_viewer(show=True)
    viewer.theme = theme
    viewer.window.resize(*size)
    dock = Dock(viewer, qtbot, tmp_path)
    dock.add_image(name="T1")
    dock.choose()
    dock.run()
    picture = viewer.screenshot(canvas_only=False, flash=False)
    assert len(np.unique(picture.reshape(-1, picture.shape[-1]), axis=0)) > 500
    # Everything fits: nothing is scrolled, nothing is clipped on the right.
    assert dock.widget.height() >= 600
    bar = dock.widget.scroll_area.verticalScrollBar()
    assert bar.maximum() == 0
    page = dock.widget.scroll_area.widget()
    assert page.minimumSizeHint().width() <= dock.widget.scroll_area.viewport().width()
    engine = dock.widget.engine
    dock.widget.shut_down()
    assert engine.join(60)


@pytest.mark.parametrize(
    ("volume", "text"),
    [(0, "0.00"), (0.4242, "0.42"), (27.19, "27.2"), (655.4, "655"), (1432.1, "1,432")],
)
def test_volumes_are_written_with_three_digits(volume, text) -> None:
    assert format_ml(volume) == text


def test_pictures_without_an_image() -> None:
    colors = np.array([[0, 0, 0, 0], [1, 0, 0, 1]], np.float32)
    picture = overlay(np.array([[0, 1]], np.uint8), colors, None)
    assert picture.shape == (1, 2, 3)
    assert not picture[0, 0].any()
    assert picture[0, 1, 0] > 100


def test_a_dock_of_its_own_window(make_napari_viewer, qtbot, tmp_path) -> None:
    viewer = make_napari_viewer()
    viewer.add_image(brain())
    dock = Dock(viewer, qtbot, tmp_path)
    dock.docked.setFloating(True)
    dock.choose()
    dock.run()
    assert dock.widget.is_exploring()
    engine = dock.widget.engine
    dock.widget.shut_down()
    assert engine.join(60)
