"""The result is the user's own: accepted, painted, locked, and taken back, all by name."""

from __future__ import annotations

import numpy as np

import napari_structseg as ss
from dock_helpers import brain, correcting, dock, exploring  # noqa: F401 -- fixtures
from napari_structseg.correction.components import component_to_accept
from napari_structseg.models import HeadSpec
from tiny_models import tiny_model


def dense(made) -> np.ndarray:
    """The labels that are chosen, of the whole image, by definition."""
    controls = made.widget.controls
    return ss.render_labels(made.distribution, controls.noise, controls)


def layer_of(made) -> np.ndarray:
    return made.viewer.layers["Result"].data


def test_accept_all_takes_the_whole_labelling_and_undo_names_it(correcting) -> None:
    history = correcting.correct.history
    correcting.widget.strip.select(3)
    correcting.correct.result.all_button.click()
    correcting.settle()
    third = dense(correcting)
    assert np.array_equal(correcting.result, third)
    assert np.array_equal(layer_of(correcting), third)
    assert history.undo_button.text() == "Undo: accept sample 3"
    assert not history.redo_button.isEnabled()
    correcting.widget.strip.select(0)
    correcting.correct.result.all_button.click()
    correcting.settle()
    assert np.array_equal(layer_of(correcting), dense(correcting))
    assert not np.array_equal(layer_of(correcting), third)
    history.undo_button.click()
    correcting.settle()
    assert np.array_equal(layer_of(correcting), third)
    assert history.redo_button.text() == "Redo: accept mean"
    # What is in the result no longer follows the model.
    correcting.widget.spread.temperature_slider.set_value(3)
    correcting.settle()
    assert np.array_equal(layer_of(correcting), third)


def test_napari_s_own_tools_paint_on_it_and_volumes_follow(correcting) -> None:
    correcting.correct.result.all_button.click()
    correcting.settle()
    layer, before = correcting.viewer.layers["Result"], correcting.result.copy()
    layer.selected_label = 2
    layer.mode = "paint"
    correcting.drag(layer, (6, 10, 10), (6, 11, 10))
    layer.mode = "erase"
    correcting.drag(layer, (6, 12, 3))
    layer.fill((3, 10, 10), 0 if layer.data[3, 10, 10] else 1)
    correcting.settle()
    assert not np.array_equal(correcting.result, before)
    assert np.array_equal(correcting.result, layer.data)
    assert correcting.result[6, 10, 10] == 2
    counts = np.bincount(layer.data.ravel(), minlength=4)
    assert np.array_equal(correcting.book.correction.result.counts, counts)
    # 2 mm³ a voxel.
    written = f"{counts[1] * 2 / 1000:.2f} mL"
    assert written in correcting.correct.result.lock_buttons[1].text()
    names = [entry.name for entry in correcting.book.correction.past.done]
    assert names[:3] == ["accept mean", "paint Grey matter", "paint background"]
    assert len(names) == 4
    for _ in range(3):
        layer.undo()
    correcting.settle()
    assert np.array_equal(layer.data, before)


def test_a_label_that_is_no_class_is_not_painted(correcting) -> None:
    correcting.correct.result.all_button.click()
    correcting.settle()
    layer, before = correcting.viewer.layers["Result"], correcting.result.copy()
    layer.selected_label = 9
    correcting.drag(layer, (6, 10, 10))
    correcting.settle()
    assert np.array_equal(layer.data, before)
    assert "No class has the value 9" in correcting.correct.hint.text()


def test_locked_classes_are_overwritten_by_the_hand_alone(correcting) -> None:
    panel = correcting.correct.result
    panel.all_button.click()
    correcting.settle()
    mean = correcting.result.copy()
    label = int(np.bincount(mean.ravel())[1:].argmax()) + 1
    panel.lock_buttons[label].click()
    correcting.widget.strip.select(3)
    panel.all_button.click()
    correcting.settle()
    sample = dense(correcting)
    assert panel.lock_buttons[label].isChecked()
    assert np.array_equal(correcting.result, np.where(mean == label, mean, sample))
    layer = correcting.viewer.layers["Result"]
    place = tuple(np.argwhere(mean == label)[0])
    other = 1 if label != 1 else 2
    layer.selected_label = other
    correcting.drag(layer, place)
    correcting.settle()
    assert correcting.result[place] == other
    assert "Undo: paint" in correcting.correct.history.undo_button.text()
    layer.undo()
    layer.undo()
    layer.undo()
    correcting.settle()
    assert not panel.lock_buttons[label].isChecked()


def test_a_marked_region_is_accepted_or_locked_alone(correcting) -> None:
    panel, viewer = correcting.correct.result, correcting.viewer
    assert not panel.region_button.isEnabled()
    panel.paint_button.click()
    region = viewer.layers["Region"]
    assert viewer.layers.selection.active.name == "Region"
    correcting.drag(region, (6, 10, 8))
    mask = region.data != 0
    assert 0 < mask.sum() < mask.size
    panel.region_button.click()
    correcting.settle()
    mean = dense(correcting)
    assert np.array_equal(correcting.result, np.where(mask, mean, 0))
    panel.lock_button.click()
    correcting.widget.strip.select(3)
    panel.all_button.click()
    correcting.settle()
    assert np.array_equal(correcting.result, np.where(mask, mean, dense(correcting)))
    panel.unlock_button.click()
    panel.all_button.click()
    correcting.settle()
    assert np.array_equal(correcting.result, dense(correcting))
    panel.clear_button.click()
    assert not region.data.any()
    assert not region.visible
    assert not panel.lock_button.isEnabled()
    panel.paint_button.click()
    assert region.visible
    correcting.drag(region, (6, 10, 8))
    assert panel.lock_button.isEnabled()


def test_a_component_is_accepted_alone(correcting) -> None:
    mean = dense(correcting)
    voxel = tuple(int(at) for at in np.argwhere(mean == 1)[0])
    wanted = component_to_accept(np.zeros_like(mean), mean, voxel)
    correcting.correct.correcting.result.accept_component(voxel)
    correcting.settle()
    assert np.array_equal(correcting.result, np.where(wanted, mean, 0))
    assert correcting.correct.history.undo_button.text() == "Undo: accept CSF here from mean"


def test_the_locked_layer_says_why_and_offers_to_keep_it(correcting) -> None:
    panel, viewer = correcting.correct.result, correcting.viewer
    assert panel.locked_note.isHidden()
    viewer.layers.selection.active = viewer.layers["Segmentation"]
    assert not panel.locked_note.isHidden()
    assert "locked" in panel.locked_note.text()
    panel.keep_button.click()
    correcting.settle()
    # The user's selection is left alone.
    assert viewer.layers.selection.active.name == "Segmentation"
    assert np.array_equal(correcting.result, dense(correcting))
    viewer.layers.selection.active = viewer.layers["Result"]
    assert panel.locked_note.isHidden()
    assert viewer.layers["Result"].editable


def test_a_result_belongs_to_its_image_and_classes(correcting) -> None:
    first = correcting.viewer.layers["T1"]
    correcting.correct.result.all_button.click()
    correcting.settle()
    kept = correcting.result.copy()
    layer = correcting.viewer.layers["Result"]
    # Another model of the same classes goes on with it.
    path = tiny_model(correcting.folder / "other.safetensors", head=HeadSpec(kind="point"))
    correcting.widget.source.choose_model(path)
    correcting.run()
    assert np.array_equal(correcting.result, kept)
    assert layer.visible
    correcting.widget.source.choose_image(correcting.add_image(brain(seed=3), name="T2"))
    correcting.run()
    assert not correcting.result.any()
    assert not layer.visible
    assert not correcting.correct.history.undo_button.isEnabled()
    correcting.widget.source.choose_image(first)
    correcting.settle()
    assert np.array_equal(correcting.result, kept)
    assert layer.visible
    assert correcting.correct.history.undo_button.text() == "Undo: accept mean"


def test_a_deleted_layer_comes_back_with_the_next_accept(correcting) -> None:
    correcting.correct.result.all_button.click()
    correcting.settle()
    correcting.viewer.layers.remove("Result")
    correcting.widget.strip.select(2)
    correcting.correct.result.all_button.click()
    correcting.settle()
    assert np.array_equal(layer_of(correcting), dense(correcting))


def test_paint_on_the_result_outlasts_an_undo_that_is_still_computed(correcting) -> None:
    correcting.correct.result.all_button.click()
    correcting.settle()
    layer = correcting.viewer.layers["Result"]
    layer.selected_label = 2
    history = correcting.correct.history
    first = correcting.held_actions()
    first.__enter__()
    history.undo_button.click()
    # The undo is done, and shown, before the paint is.
    with correcting.held_actions():
        correcting.drag(layer, (6, 10, 10), (6, 11, 10))
        first.__exit__(None, None, None)
        correcting.wait(lambda: history.redo_button.text() == "Redo: accept mean")
        assert layer.data[6, 10, 10] == 2
        assert not layer.data[:6].any()
    correcting.settle()
    assert np.array_equal(layer.data, correcting.result)
    assert layer.data[6, 10, 10] == 2
    assert np.count_nonzero(layer.data) == np.count_nonzero(correcting.result)
    assert set(np.unique(layer.data)) == {0, 2}
