"""What a crash has left is offered from the start, and comes back without a run."""

from __future__ import annotations

import json
from pathlib import Path

import napari
import nibabel as nib
import numpy as np
import pytest

from dock_helpers import CorrectDock, Dock, brain
from napari_structseg.correction.actions import Correction
from napari_structseg.correction.autosave import Autosave
from napari_structseg.correction.folders import find_sessions
from napari_structseg.correction.identity import identify
from napari_structseg.distributions import Strokes
from napari_structseg.io.nifti import read_image
from napari_structseg.session.state import ExplorerState
from tiny_models import CLASSES, tiny_model


class Left:
    """The work that a program has left when it crashed: in its session folder, on an image file."""

    def __init__(self, folder: Path, sessions: Path) -> None:
        self.path = folder / "scan.nii.gz"
        nib.save(nib.Nifti1Image(brain().T, np.diag([1, 1, 2, 1])), self.path)
        self.model = folder / "tiny.safetensors"
        tiny_model(self.model)
        image = read_image(self.path)
        shape = image.spatial_shape
        self.labels = np.zeros(shape, np.uint8)
        self.labels[4:7, 5:9, 3:12] = 2
        self.strokes = Strokes(shape, np.array([3, 70, 71]), np.array([1, 0, 3], np.uint8))
        correction = Correction(shape, len(CLASSES))
        autosave = Autosave(correction, identify(image, self.path), CLASSES, root=sessions)
        correction.set_strokes(self.strokes, name="stroke: CSF")
        correction.accept(self.labels, name="accept sample 12")
        correction.lock_class(2, name="lock Grey matter")
        state = ExplorerState()
        state.source.image, state.source.model = "scan", str(self.model)
        state.controls.sample, state.controls.temperature = 12, 1.5
        state.display.hidden_classes = frozenset({3})
        autosave.note(state=state.model_dump_json(), recipe=json.dumps({"model": "tiny"}))
        assert autosave.flush(60)
        autosave.close()


@pytest.fixture
def left(tmp_path, sessions_folder) -> Left:
    return Left(tmp_path, sessions_folder)


@pytest.fixture
def started(left, make_napari_viewer_proxy, qtbot, tmp_path):
    """Both docks in a viewer without an image, after a program has crashed."""
    explore = Dock(make_napari_viewer_proxy(), qtbot, tmp_path)
    made = CorrectDock(explore)
    made.settle()
    yield made
    made.correct.shut_down()
    engine = made.widget.engine
    made.widget.shut_down()
    assert engine is None or engine.join(60)


def row_of(made: CorrectDock):
    (row,) = made.correct.recovery.rows
    return row


def press(made: CorrectDock, name: str) -> None:
    getattr(row_of(made), f"{name}_button").click()
    made.settle()


def is_back(made: CorrectDock, left: Left) -> bool:
    layers = made.viewer.layers
    return (
        np.array_equal(made.result, left.labels)
        and np.array_equal(layers["Result"].data, left.labels)
        and made.strokes == left.strokes
        and np.array_equal(layers["Strokes"].data, left.strokes.to_array())
        and made.book.correction.result.locked_classes == {2}
    )


def test_it_is_offered_before_any_image_is_open(started, sessions_folder) -> None:
    for panel in (started.widget.recovery, started.correct.recovery):
        assert not panel.isHidden()
        (row,) = panel.rows
        assert row.note.text().startswith("scan: 3 actions")
    press(started, "later")
    assert started.widget.recovery.isHidden()
    assert started.correct.recovery.isHidden()
    (found,) = find_sessions(sessions_folder)
    assert found.is_recoverable


def test_recover_opens_the_image_and_brings_everything_back_without_a_run(started, left) -> None:
    press(started, "recover")
    assert not started.correct.banner.message
    assert Path(started.viewer.layers["scan"].source.path) == left.path
    assert is_back(started, left)
    assert started.correct.recovery.isHidden()
    assert started.widget.engine is None
    dock, source = started.correct, started.widget.state.source
    assert (source.image, source.model) == ("scan", str(left.model))
    assert dock.welcome.isHidden()
    assert [not section.isHidden() for section in dock.sections] == [True, True, *[False] * 3]
    assert dock.result.lock_buttons[2].isChecked()
    assert dock.history.undo_button.text() == "Undo: lock Grey matter"
    # Work goes on before any model has run.
    dock.history.undo_button.click()
    dock.strokes.class_buttons[1].click()
    started.drag(started.viewer.layers["Strokes"], (4, 8, 8))
    layer = started.viewer.layers["Result"]
    layer.selected_label, layer.mode = 1, "paint"
    started.drag(layer, (2, 10, 10))
    started.settle()
    assert started.result[2, 10, 10] == 1
    assert len(started.strokes) > len(left.strokes)
    assert not dock.result.lock_buttons[2].isChecked()
    layer.undo()
    layer.undo()
    started.settle()
    assert started.strokes == left.strokes
    assert np.array_equal(layer.data, left.labels)


def test_the_run_that_is_offered_shows_it_as_it_was_left(started, left) -> None:
    press(started, "recover")
    dock = started.correct
    assert not dock.rerun.isHidden()
    assert dock.rerun.run_button.text() == "Run tiny"
    dock.rerun.run_button.click()
    started.settle()
    assert started.widget.is_exploring(), started.widget.banner.message
    assert dock.rerun.isHidden()
    assert is_back(started, left)
    controls = started.widget.controls
    assert (controls.sample, controls.temperature) == (12, 1.5)
    assert started.widget.state.display.hidden_classes == {3}
    # The strokes condition what the model says.
    voxels = np.unravel_index(left.strokes.voxels, left.labels.shape)
    assert np.array_equal(started.labels[voxels], left.strokes.labels)
    dock.result.all_button.click()
    started.settle()
    assert np.array_equal(started.result[left.labels == 2], left.labels[left.labels == 2])
    assert np.array_equal(started.result[left.labels != 2], started.labels[left.labels != 2])


def test_an_image_that_is_open_is_not_opened_again(started, left) -> None:
    started.viewer.add_image(brain(seed=4), name="other")
    (layer,) = started.viewer.open(left.path, plugin="napari-structseg")
    layer.name = "mine"
    press(started, "recover")
    assert [one.name for one in started.viewer.layers] == ["other", "mine", "Result", "Strokes"]
    assert started.widget.state.source.image == "mine"
    assert is_back(started, left)
    # It belongs to that image alone.
    started.widget.source.choose_image(started.viewer.layers["other"])
    started.settle()
    assert started.book is None
    assert not started.viewer.layers["Result"].visible
    started.widget.source.choose_image(layer)
    started.settle()
    assert started.viewer.layers["Result"].visible
    assert is_back(started, left)


def test_what_to_open_is_said_where_the_file_is_gone(started, left) -> None:
    left.path.rename(left.path.with_name("moved.nii.gz"))
    press(started, "recover")
    assert "'scan'" in started.correct.banner.message
    assert str(left.path) in started.correct.banner.message
    assert started.book is None
    started.viewer.open(left.path.with_name("moved.nii.gz"), plugin="napari-structseg")
    press(started, "recover")
    assert is_back(started, left)


def test_another_image_in_the_same_file_is_not_taken_for_it(started, left) -> None:
    nib.save(nib.Nifti1Image(brain(seed=8).T, np.diag([1, 1, 2, 1])), left.path)
    press(started, "recover")
    assert "holds another image" in started.correct.banner.message
    assert started.book is None
    assert not started.correct.recovery.isHidden()


def test_it_is_deleted_by_a_second_press_alone(started, sessions_folder) -> None:
    press(started, "delete")
    assert len(find_sessions(sessions_folder)) == 1
    assert row_of(started).delete_button.text() == "Delete for good"
    press(started, "delete")
    assert find_sessions(sessions_folder) == []
    assert started.correct.recovery.isHidden()
    assert started.widget.recovery.isHidden()


def test_sliders_of_another_version_are_left_out(started, left, sessions_folder) -> None:
    (found,) = find_sessions(sessions_folder)
    autosave, _ = Autosave.reopen(found.folder)
    autosave.note(state='{"sliders": 3}')
    assert autosave.flush(60)
    autosave.close()
    press(started, "recover")
    assert is_back(started, left)
    assert "sliders" in started.correct.hint.text()


def test_a_window_without_crashed_work_offers_nothing(make_napari_viewer_proxy, qtbot) -> None:
    viewer: napari.Viewer = make_napari_viewer_proxy()
    made = Dock(viewer, qtbot, Path())
    made.settle()
    assert made.widget.recovery.isHidden()
    made.widget.shut_down()
