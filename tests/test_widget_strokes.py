"""Strokes: what is painted in the layer is what the state says, and can be taken back."""

from __future__ import annotations

import re

import numpy as np
import pytest
from qtpy.QtCore import QCoreApplication, QEvent, Qt
from qtpy.QtWidgets import QWidget

import napari_structseg as ss
from dock_helpers import brain, correcting, dock, exploring  # noqa: F401 -- fixtures
from napari_structseg.distributions import Strokes
from napari_structseg.errors import InputError


def said(made) -> np.ndarray:
    """The strokes of the state as an array, k + 1 for class k."""
    shape = made.book.strokes.shape
    return np.zeros(shape, np.uint16) if made.strokes is None else made.strokes.to_array()


def test_a_class_button_takes_the_brush_of_its_class(correcting) -> None:
    viewer, strokes = correcting.viewer, correcting.correct.strokes
    assert "Strokes" not in viewer.layers
    strokes.class_buttons[2].click()
    layer = viewer.layers["Strokes"]
    assert viewer.layers.selection.active.name == "Strokes"
    assert (layer.mode, layer.selected_label) == ("paint", 3)
    assert [button.isChecked() for button in strokes.class_buttons] == [False, False, True, False]
    layer.selected_label = 1
    assert strokes.class_buttons[0].isChecked()
    strokes.erase_button.click()
    assert layer.mode == "erase"
    assert not any(button.isChecked() for button in strokes.class_buttons)
    # It lies as the image does, and is no image itself.
    assert tuple(layer.scale) == (2, 1, 1)
    assert correcting.widget.state.source.image == "T1"


def test_every_drag_is_one_entry_that_undo_takes_back(correcting) -> None:
    panel = correcting.correct.strokes
    panel.class_buttons[1].click()
    layer = correcting.viewer.layers["Strokes"]
    correcting.drag(layer, (4, 8, 8), (4, 9, 9))
    first = said(correcting)
    assert np.array_equal(first, layer.data)
    assert first.any()
    panel.class_buttons[3].click()
    panel.ball_box.setChecked(True)
    correcting.drag(layer, (7, 10, 10))
    second = said(correcting)
    assert len(np.unique(np.nonzero(second)[0])) > 1
    panel.erase_button.click()
    panel.ball_box.setChecked(False)
    correcting.drag(layer, (4, 8, 8))
    third = said(correcting)
    assert 0 < np.count_nonzero(third) < np.count_nonzero(second)
    correcting.settle()
    history = correcting.correct.history
    for name, before in (
        ("erase strokes", second),
        ("stroke: White matter", first),
        ("stroke: CSF", np.zeros_like(first)),
    ):
        assert history.undo_button.text() == f"Undo: {name}"
        layer.undo()
        correcting.settle()
        assert np.array_equal(said(correcting), before)
        assert np.array_equal(layer.data, before)
        assert history.redo_button.text() == f"Redo: {name}"
    assert correcting.strokes is None
    assert not history.undo_button.isEnabled()
    for after in (first, second, third):
        layer.redo()
        correcting.settle()
        assert np.array_equal(layer.data, after)
    panel.clear_button.click()
    assert not layer.data.any()
    assert correcting.strokes is None
    correcting.settle()
    history.undo_button.click()
    correcting.settle()
    assert np.array_equal(said(correcting), third)


def test_the_state_follows_while_the_brush_moves(correcting) -> None:
    correcting.correct.strokes.class_buttons[1].click()
    layer = correcting.viewer.layers["Strokes"]
    with layer.block_history():
        layer.paint((4, 8, 8), 2)
        correcting.wait(lambda: np.array_equal(said(correcting), layer.data))
        layer.paint((4, 12, 8), 2)
        correcting.wait(lambda: np.array_equal(said(correcting), layer.data))
        assert correcting.book.correction.past.undo_name is None
    correcting.settle()
    assert len(correcting.book.correction.past.done) == 1


def test_fill_and_arrays_of_scripts_are_read_too(correcting) -> None:
    correcting.correct.strokes.class_buttons[1].click()
    layer = correcting.viewer.layers["Strokes"]
    layer.fill((3, 5, 5), 4)
    assert np.count_nonzero(said(correcting)) == layer.data[3].size
    layer.data_setitem((np.array([5, 6]), np.array([1, 2]), np.array([3, 4])), 2)
    assert np.array_equal(said(correcting), layer.data)
    data = np.zeros_like(layer.data)
    data[2, 3, 4] = 3
    layer.data = data.copy()
    assert np.array_equal(said(correcting), data)
    # Seven is no class.
    layer.data_setitem((np.array([5]), np.array([1]), np.array([3])), 7)
    assert np.array_equal(said(correcting), data)
    assert "No class has the value 7" in correcting.correct.hint.text()


def test_what_a_script_says_is_seen_and_can_be_undone(correcting) -> None:
    shape = correcting.book.strokes.shape
    strokes = Strokes(shape, np.array([3, 70, 71]), np.array([1, 0, 3], np.uint8))
    correcting.widget.state.correction.strokes = strokes
    correcting.settle()
    layer = correcting.viewer.layers["Strokes"]
    assert np.array_equal(layer.data, strokes.to_array())
    correcting.widget.state.correction.strokes = None
    correcting.settle()
    assert not layer.data.any()
    layer.undo()
    correcting.settle()
    assert correcting.strokes == strokes


def test_strokes_belong_to_their_image(correcting) -> None:
    first = correcting.viewer.layers["T1"]
    correcting.correct.strokes.class_buttons[1].click()
    layer = correcting.viewer.layers["Strokes"]
    correcting.drag(layer, (4, 8, 8))
    strokes = correcting.strokes
    correcting.widget.source.choose_image(correcting.add_image(brain(seed=3), name="T2"))
    assert not layer.visible
    correcting.run()
    assert correcting.strokes is None
    assert correcting.correct.strokes.caption.text() == ""
    correcting.widget.source.choose_image(first)
    correcting.settle()
    assert layer.visible
    assert correcting.strokes == strokes


def test_a_deleted_layer_of_strokes_says_nothing_until_undo(correcting) -> None:
    correcting.correct.strokes.class_buttons[1].click()
    correcting.drag(correcting.viewer.layers["Strokes"], (4, 8, 8))
    strokes = correcting.strokes
    correcting.viewer.layers.remove("Strokes")
    correcting.settle()
    assert correcting.strokes is None
    correcting.correct.history.undo_button.click()
    correcting.settle()
    assert correcting.strokes == strokes
    assert np.array_equal(correcting.viewer.layers["Strokes"].data, strokes.to_array())


def test_a_stroke_of_the_mouse_leaves_view_and_camera_as_they_are(correcting) -> None:
    viewer, window = correcting.viewer, correcting.widget.window()
    with correcting.qtbot.waitExposed(window):
        window.show()
    correcting.correct.strokes.class_buttons[2].click()
    layer, camera = viewer.layers["Strokes"], viewer.scene.camera
    before = tuple(camera.center), camera.zoom, tuple(viewer.dims.current_step)
    found = window.findChildren(QWidget)
    canvas = next(one for one in found if type(one).__name__ == "CanvasBackendDesktop")
    left, centre = Qt.MouseButton.LeftButton, canvas.rect().center()
    correcting.qtbot.mousePress(canvas, left, pos=centre)
    correcting.qtbot.mouseMove(canvas, centre)
    correcting.qtbot.mouseRelease(canvas, left, pos=centre)
    correcting.settle()
    assert correcting.strokes is not None
    assert set(correcting.strokes.labels) == {2}
    assert set(correcting.strokes.positions[:, 0]) == {viewer.dims.current_step[0]}
    # Control and Z are the keys of the layer while it is the one that is painted on.
    correcting.qtbot.keyClick(canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    correcting.wait(lambda: correcting.strokes is None)
    assert not layer.data.any()
    assert (tuple(camera.center), camera.zoom, tuple(viewer.dims.current_step)) == before
    assert ss.explorer(viewer).controls.sample == 0


def test_strokes_change_what_the_model_says_and_undo_brings_it_back(correcting) -> None:
    before = correcting.labels.copy()
    voxel = (6, 10, 8)
    label = (int(before[voxel]) + 1) % 4
    correcting.viewer.dims.set_current_step(0, 6)
    correcting.correct.strokes.class_buttons[label].click()
    layer = correcting.viewer.layers["Strokes"]
    correcting.drag(layer, voxel)
    correcting.settle()
    said = layer.data != 0
    assert np.all(correcting.labels[said] == label)
    assert "model" in correcting.correct.strokes.note.text()
    # One order of undo for sliders and strokes.
    explorer = ss.explorer(correcting.viewer)
    explorer.controls.sample = 2
    correcting.settle()
    assert np.all(correcting.labels[said] == label)
    correcting.widget.undo()
    assert explorer.controls.sample == 0
    assert layer.data.any()
    correcting.widget.undo()
    correcting.settle()
    assert not layer.data.any()
    assert np.array_equal(correcting.labels, before)
    assert "Choose a class" in correcting.correct.strokes.note.text()
    correcting.widget.redo()
    correcting.settle()
    assert np.all(correcting.labels[said] == label)


def test_strokes_painted_while_an_undo_is_computed_are_not_lost(correcting) -> None:
    correcting.correct.strokes.class_buttons[1].click()
    layer = correcting.viewer.layers["Strokes"]
    correcting.drag(layer, (4, 8, 8))
    correcting.drag(layer, (8, 8, 8))
    correcting.settle()
    history = correcting.book.correction
    with correcting.held_actions():
        correcting.correct.history.undo_button.click()
        correcting.correct.strokes.class_buttons[2].click()
        correcting.drag(layer, (6, 14, 10))
        brush = layer.block_history()
        # Of this one the mouse is released after the undo is done.
        brush.__enter__()
        layer.paint((2, 14, 10), 3)
        wanted = layer.data.copy()
        wanted[8] = 0
    correcting.settle()
    assert wanted[6].any()
    assert wanted[2].any()
    assert np.array_equal(layer.data, wanted)
    assert np.array_equal(said(correcting), wanted)
    assert not history.strokes.to_array()[2].any()
    brush.__exit__(None, None, None)
    correcting.settle()
    assert np.array_equal(history.strokes.to_array(), wanted)
    for left in (2, 6):
        correcting.correct.history.undo_button.click()
        correcting.settle()
        wanted[left] = 0
        assert np.array_equal(layer.data, wanted)
        assert np.array_equal(said(correcting), wanted)


def test_undo_of_sliders_and_strokes_keeps_its_order_however_fast(correcting) -> None:
    explorer = ss.explorer(correcting.viewer)
    explorer.controls.sample = 2
    correcting.settle()
    explorer.say("CSF", (4, 8, 8))
    correcting.settle()
    with correcting.held_actions():
        for _ in range(2):
            correcting.widget.undo()
        assert explorer.controls.sample == 2
    correcting.settle()
    assert correcting.strokes is None
    assert explorer.controls.sample == 0
    with correcting.held_actions():
        for _ in range(2):
            correcting.widget.redo()
        correcting.widget.undo()
    correcting.settle()
    assert explorer.controls.sample == 2
    assert correcting.strokes is None


def test_a_script_says_and_takes_back_what_the_hand_would(correcting) -> None:
    explorer = ss.explorer(correcting.viewer)
    assert not len(explorer.strokes)
    explorer.say("White matter", [(4, 8, 8), (4, 8, 9)])
    mask = np.zeros(correcting.book.strokes.shape, bool)
    mask[7, 3:5, 6] = True
    explorer.say(1, mask)
    explorer.controls.sample = 3
    explorer.wait()
    labels = explorer.labels()
    assert labels[4, 8, 8] == labels[4, 8, 9] == 3
    assert np.all(labels[mask] == 1)
    assert np.array_equal(correcting.viewer.layers["Strokes"].data, explorer.strokes.to_array())
    assert correcting.correct.history.undo_button.text() == "Undo: stroke: CSF"
    assert explorer.undo()
    assert (explorer.controls.sample, len(explorer.strokes)) == (0, 4)
    assert explorer.undo()
    assert len(explorer.strokes) == 2
    assert explorer.undo()
    assert not len(explorer.strokes)
    assert not explorer.undo()
    assert [explorer.redo() for _ in range(4)] == [True, True, True, False]
    assert (explorer.controls.sample, len(explorer.strokes)) == (3, 4)
    for label, voxels, words in (
        ("bone", (4, 8, 8), "CSF"),
        (9, (4, 8, 8), "CSF"),
        (1, (4, 8), "(12, 20, 16)"),
        (1, (4, 8, 99), "outside"),
        (1, np.zeros((2, 2, 2), bool), "mask"),
    ):
        with pytest.raises(InputError, match=re.escape(words)):
            explorer.say(label, voxels)


def test_the_first_dab_is_read_before_anything_is_painted(correcting) -> None:
    """With the event of the mouse, not with the timer: dab and corrected slice are one frame."""
    correcting.correct.strokes.class_buttons[1].click()
    layer = correcting.viewer.layers["Strokes"]
    correcting.settle()
    with layer.block_history():
        layer.paint((4, 8, 8), 2)
        layer.paint((4, 8, 9), 2)
        assert correcting.strokes is None
        QCoreApplication.sendPostedEvents(None, QEvent.Type.MetaCall)
        assert np.array_equal(said(correcting), layer.data)
        # What comes right after it waits for the timer, and is not forgotten.
        layer.paint((4, 12, 8), 2)
        correcting.wait(lambda: np.array_equal(said(correcting), layer.data))
