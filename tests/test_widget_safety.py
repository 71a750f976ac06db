"""Corrections outlive a crash, ask before they are lost, and are saved as files."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
from qtpy.QtWidgets import QMessageBox

from dock_helpers import CorrectDock, Dock, brain, correcting, dock, exploring  # noqa: F401
from napari_structseg.correction.actions import Correction
from napari_structseg.correction.autosave import Autosave
from napari_structseg.correction.folders import find_sessions
from napari_structseg.correction.identity import identify
from napari_structseg.image import Image
from tiny_models import CLASSES


@pytest.fixture
def left(sessions_folder) -> np.ndarray:
    """The result that a program has left in a session folder when it crashed."""
    labels = np.zeros(brain().shape, np.uint8)
    labels[4:7, 5:9, 3:12] = 2
    image = Image.from_array(brain())
    correction = Correction(labels.shape, len(CLASSES))
    autosave = Autosave(correction, identify(image), CLASSES, root=sessions_folder)
    correction.accept(labels, name="accept sample 12")
    correction.lock_class(2, name="lock Grey matter")
    assert autosave.flush(60)
    autosave.close()
    return labels


def test_every_action_is_kept_and_closing_says_so(correcting, sessions_folder) -> None:
    session = correcting.correct._session
    assert session.unsaved() == []
    correcting.correct.result.all_button.click()
    correcting.settle()
    # It is written in a thread of its own.
    correcting.wait(lambda: bool(find_sessions(sessions_folder)))
    (found,) = find_sessions(sessions_folder)
    assert found.is_open
    assert "the result of T1" in session.unsaved()
    work = found.header
    assert [one.name for one in work.classes] == [one.name for one in CLASSES]


def test_work_that_was_left_is_offered_and_restored(left, exploring) -> None:
    made = CorrectDock(exploring)
    made.settle()
    panel = made.correct.recovery
    assert not panel.isHidden()
    (row,) = panel.rows
    assert not made.result.any()
    row.recover_button.click()
    made.settle()
    assert panel.isHidden()
    assert np.array_equal(made.result, left)
    assert np.array_equal(made.viewer.layers["Result"].data, left)
    assert made.correct.result.lock_buttons[2].isChecked()
    assert made.correct.history.undo_button.text() == "Undo: lock Grey matter"
    # It goes on where it was.
    made.correct.result.all_button.click()
    made.settle()
    assert np.array_equal(made.result[left == 2], left[left == 2])
    made.correct.history.undo_button.click()
    made.settle()
    assert np.array_equal(made.result, left)
    made.correct.shut_down()


def test_a_result_is_saved_with_what_belongs_to_it(correcting) -> None:
    correcting.correct.strokes.class_buttons[1].click()
    correcting.drag(correcting.viewer.layers["Strokes"], (6, 10, 8))
    correcting.correct.result.all_button.click()
    correcting.settle()
    path = correcting.folder / "mine.nii.gz"
    correcting.correct.result.save_button.click()
    dialog = correcting.correct.result.save_dialog
    assert dialog is not None
    dialog.fileSelected.emit(str(path))
    dialog.close()
    correcting.settle()
    geometry = correcting.correct.correcting.exploration.image.geometry
    assert np.array_equal(np.asarray(nib.load(path).dataobj), geometry.to_file(correcting.result))
    record = json.loads((correcting.folder / "mine.json").read_text())
    assert [step["name"] for step in record["steps"]] == ["stroke: CSF", "accept mean"]
    assert record["source"]["model"] == "tiny"
    assert (correcting.folder / "mine-strokes.nii.gz").is_file()
    assert (correcting.folder / "mine.csv").is_file()
    assert "Saved mine.nii.gz" in correcting.correct.hint.text()
    assert "the result of T1" not in correcting.correct._session.unsaved()


def test_a_folder_that_cannot_be_written_is_said_and_the_work_stays(
    correcting, sessions_folder
) -> None:
    sessions_folder.parent.joinpath("sessions").write_text("a file where the folder should be")
    correcting.correct.result.all_button.click()
    correcting.settle()
    correcting.wait(lambda: bool(correcting.correct.banner.message))
    assert "session" in correcting.correct.banner.message
    assert correcting.result.any()
    assert correcting.correct._session.unsaved()


def test_a_window_with_two_docks_asks_once(make_napari_viewer, qtbot, tmp_path) -> None:
    made = Dock(make_napari_viewer(show=True), qtbot, tmp_path)
    made.add_image(name="T1")
    made.choose()
    made.run()
    both = CorrectDock(made)
    both.correct.result.all_button.click()
    both.settle()
    window = made.widget.window()
    window.close()
    guards = made.widget._guard, both.correct._guard
    (guard,) = (one for one in guards if one.question is not None)
    assert isinstance(guard.question, QMessageBox)
    assert "the result of T1" in guard.question.text()
    (cancel,) = (one for one in guard.question.buttons() if one.text().strip("&") == "Cancel")
    cancel.click()
    assert all(one.question is None for one in guards)
    both.correct.shut_down()
    made.widget.shut_down()


def test_a_saved_result_holds_the_labellings_that_were_accepted_into_it(correcting) -> None:
    session = correcting.correct._session
    correcting.widget.strip.select(3)
    correcting.settle()
    assert session.unsaved() == ["sample 3 of T1"]
    correcting.correct.result.all_button.click()
    correcting.settle()
    # What was painted over it is in the file, too.
    layer = correcting.viewer.layers["Result"]
    layer.selected_label = 2
    correcting.drag(layer, (6, 10, 10))
    correcting.settle()
    correcting.correct.correcting.safety.save(correcting.book, str(correcting.folder / "a.nii.gz"))
    correcting.settle()
    assert session.unsaved() == []
    # One that was taken back again is in no file.
    correcting.widget.strip.select(4)
    correcting.correct.result.all_button.click()
    correcting.settle()
    correcting.correct.history.undo_button.click()
    correcting.settle()
    correcting.correct.correcting.safety.save(correcting.book, str(correcting.folder / "b.nii.gz"))
    correcting.settle()
    assert session.unsaved() == ["sample 4 of T1"]
