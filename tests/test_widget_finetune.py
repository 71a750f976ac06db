"""The Fine-tune dock, in a real window, with a real process that trains a tiny model."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from dock_helpers import CorrectDock, dock  # noqa: F401 -- fixtures
from finetune_helpers import ball, ball_model, ball_settings, write_dataset
from napari_structseg.finetuning.adoption import adopt_weights, copy_weights
from napari_structseg.finetuning.course import Course
from napari_structseg.finetuning.events import Ended, Paused, Scored, Started, Stepped
from napari_structseg.finetuning.families import versions_of
from napari_structseg.finetuning.folders import runs_root, unfinished_runs
from napari_structseg.finetuning.report import Report, read_report
from napari_structseg.finetuning.run import PARENT_NAME, TUNED_NAME
from napari_structseg.finetuning.settings import read_settings
from napari_structseg.finetuning.snapshot import write_case
from napari_structseg.io.weights import load_weights, save_weights, weights_hash
from napari_structseg.render.rendering import render_labels
from napari_structseg.session.runner import ModelRun
from napari_structseg.training.checkpoint import ValidationScore
from napari_structseg.widgets.finetune_dock import FinetuneWidget
from napari_structseg.widgets.finetuning.preview import Stage
from napari_structseg.widgets.finetuning.tuning import Status
from napari_structseg.widgets.panels.training_panel import clock, in_words
from napari_structseg.widgets.panels.versions_panel import in_words as version_in_words

# So many steps that no run ends before it is told to.
ENDLESS = 100_000
PATIENCE_MS = 300_000


class FinetuneDock(CorrectDock):
    """The Fine-tune dock beside the others, the result painted right."""

    def __init__(self, dock) -> None:
        super().__init__(dock)
        self.finetune = FinetuneWidget(dock.viewer)
        self.docked_finetune = dock.viewer.window.add_dock_widget(
            self.finetune, name="Fine-tune the model"
        )

    def wait(self, condition) -> None:
        # A process has to begin, which takes long where many others run.
        self.qtbot.waitUntil(condition, timeout=PATIENCE_MS)

    @property
    def tuning(self):
        return self.finetune.tuning

    @property
    def choices(self):
        return self.finetune.state.finetuning

    @property
    def course(self) -> Course:
        return self.tuning.course

    def correct_all(self) -> None:
        """The user's own result is right everywhere."""
        self.correct.correcting.result.accept_all()
        self.settle()
        right, layer = ball()[1], self.book.result_layer
        with layer.block_history():
            for label in (0, 1):
                layer.data_setitem(np.nonzero(right == label), label)
        self.settle()
        assert np.array_equal(self.result, right)

    def begin(self, **choices) -> None:
        """Choose, press the button, and wait until it takes steps."""
        self.choices.update({"steps": ENDLESS, "weights_every": ENDLESS, **choices})
        self.finetune.training.start_button.click()
        banner = self.finetune.banner
        self.wait(lambda: bool(banner.message) or bool(self.course.losses))
        assert not banner.message

    def finish(self) -> None:
        self.wait(lambda: not self.finetune.is_busy())

    def give_up(self) -> None:
        """End whatever runs."""
        process = self.tuning.process
        self.finetune.shut_down()
        if process is not None:
            assert process.wait(PATIENCE_MS / 1000) is not None


@contextmanager
def finetune_dock(dock):
    made = FinetuneDock(dock)
    try:
        yield made
    finally:
        made.give_up()
        made.correct.shut_down()


@pytest.fixture
def tuning(dock):
    """All docks after a run of a model that has never seen a ball."""
    dock.add_image(ball()[0], name="T1", scale=(2, 1, 1))
    dock.widget.source.choose_model(ball_model(dock.folder))
    dock.run()
    with finetune_dock(dock) as made:
        yield made


def test_a_run_from_the_dock_learns_what_was_corrected(tuning) -> None:
    tuning.correct_all()
    learn, dataset = tuning.finetune.learn, write_dataset(tuning.folder / "trained-on")
    learn.replay_row.choose_button.click()
    learn.replay_row.dialog.fileSelected.emit(str(dataset))
    learn.replay_row.dialog.close()
    assert learn.replay_row.caption.text() == "trained-on"
    tuning.begin(steps=4, weights_every=2)
    tuning.finish()
    assert tuning.course.ended.reason == "finished", tuning.finetune.banner.message
    assert tuning.course.step == 4
    assert Path(tuning.course.ended.weights).is_file()
    # The image of the test came from no file: one was written for the run.
    settings = read_settings(tuning.tuning.folder)
    assert settings.steps == 4
    assert settings.cases[0].image[0].parent == tuning.tuning.folder / "case"
    assert settings.pull > 0
    assert settings.replay == dataset
    assert read_report(tuning.tuning.folder).replay.after is not None
    learn.replay_row.none_button.click()
    assert tuning.choices.replay == ""
    assert learn.replay_row.caption.text() == "nothing"
    plot = tuning.finetune.training.plot
    assert len(plot.curves["Loss"]) == 4
    assert len(plot.curves["Dice"]) == 2
    assert "was" in plot.readout["Dice"]
    assert "Finished 4 steps" in tuning.finetune.training.caption.text()
    assert tuning.tuning.unfinished == ()


def weights_of(folder: Path) -> Path:
    """What a run leaves that has finished: other weights, and its report."""
    model, run = folder / "low_rank.safetensors", folder / "run"
    network, spec = load_weights(model)
    with torch.no_grad():
        for parameter in network.head.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator()))
    run.mkdir()
    save_weights(run / TUNED_NAME, network, spec)
    shutil.copyfile(model, run / PARENT_NAME)
    Report(
        settings=ball_settings(folder, model=str(model)),
        parent=weights_hash(model),
        model_name=spec.name,
        weights=weights_hash(run / TUNED_NAME),
        steps=6,
    ).write(run)
    return run / TUNED_NAME


def labels_of(weights: Path, tuning) -> np.ndarray:
    """What weights predict, as the sliders are."""
    given = []
    shown, controls = tuning.tuning.shown, tuning.widget.controls
    run = ModelRun(weights, shown.image, device="cpu", synchronous=True)
    run.finished.connect(given.append)
    run.start()
    return render_labels(given[0].distribution, controls.noise, controls)


def test_the_improved_prediction_is_looked_at_adopted_undone_and_gone_back_to(tuning) -> None:
    widget, panel, preview = tuning.widget, tuning.finetune.compare, tuning.finetune.preview
    assert "weights" in panel.note.text()
    widget.state.controls.sample = 2
    widget.state.controls.temperature = 1.3
    tuning.settle()
    old, distribution = tuning.labels.copy(), tuning.distribution
    model = widget.state.source.model
    weights = weights_of(tuning.folder)

    preview.look(weights, 6)
    tuning.finish()
    new = labels_of(weights, tuning)
    assert preview.stage is Stage.SHOWN, tuning.finetune.banner.message
    assert np.array_equal(preview.improved.data, new)
    assert np.array_equal(preview.changes.data, new != old)
    assert preview.n_changed == np.count_nonzero(new != old) > 0
    assert f"{preview.n_changed:,} voxels" in panel.note.text()
    # What is shown of the model is untouched until it is adopted.
    assert np.array_equal(tuning.labels, old)
    segmentation = widget.layers.segmentation
    assert (preview.improved.visible, segmentation.visible) == (True, False)
    panel.flip_button.click()
    assert (preview.improved.visible, segmentation.visible) == (False, True)
    # Side by side: half of each, and the new one again.
    panel.split_button.click()
    assert (preview.improved.visible, segmentation.visible) == (True, False)
    half = new.shape[2] // 2
    assert np.array_equal(preview.improved.data[:, :, :half], old[:, :, :half])
    assert np.array_equal(preview.improved.data[:, :, half:], new[:, :, half:])
    panel.split_button.click()
    assert np.array_equal(preview.improved.data, new)
    # It follows the sliders.
    widget.state.controls.sample = 3
    tuning.finish()
    assert np.array_equal(preview.changes.data, preview.improved.data != tuning.labels)
    widget.state.controls.sample = 2
    tuning.finish()

    panel.reject_button.click()
    assert preview.stage is Stage.NONE
    assert "Improved" not in tuning.viewer.layers
    assert np.array_equal(tuning.labels, old)
    preview.look(weights, 6)
    tuning.finish()
    panel.adopt_button.click()
    tuning.finish()
    assert "Improved" not in tuning.viewer.layers
    assert np.array_equal(tuning.labels, new)
    assert segmentation.visible
    controls = widget.state.controls
    assert (controls.sample, controls.temperature) == (2, 1.3)
    versions = tuning.finetune.versions
    assert [one.record.number for one in versions.versions] == [1, 0]
    assert widget.state.source.model == str(versions.versions[0].weights)
    assert versions.versions[0].weights.read_bytes() == weights.read_bytes()

    session = tuning.finetune._session
    controls.temperature = 2.0
    tuning.finish()
    assert session.history.undo()
    assert session.history.name_of("undo") == "fine-tune swap"
    session.undoing.step("undo")
    tuning.finish()
    assert tuning.distribution is distribution
    assert np.array_equal(tuning.labels, old)
    assert (controls.sample, controls.temperature) == (2, 1.3)
    assert widget.state.source.model == model
    assert "fine-tune swap" in tuning.finetune.hint.text()
    session.undoing.step("redo")
    tuning.finish()
    assert np.array_equal(tuning.labels, new)

    # One click goes back to the model as it was, by running it again.
    versions.list.setCurrentRow(1)
    versions.back_button.click()
    tuning.finish()
    assert np.array_equal(tuning.labels, old)
    assert versions.versions[1].weights.read_bytes() == Path(model).read_bytes()
    assert widget.state.source.model == str(versions.versions[1].weights)
    versions.list.setCurrentRow(0)
    versions.export(str(tuning.folder / "mine.safetensors"))
    tuning.finish()
    assert (tuning.folder / "mine.safetensors").read_bytes() == weights.read_bytes()


def test_weights_that_cannot_be_used_change_nothing(tuning) -> None:
    damaged = tuning.folder / "step-1.safetensors"
    damaged.write_bytes(b"no weights")
    old, shown = tuning.labels.copy(), tuning.tuning.shown
    tuning.finetune.preview.look(damaged.with_name("tuned.safetensors"), 1)
    tuning.finish()
    assert tuning.finetune.banner.message
    assert tuning.finetune.preview.stage is Stage.NONE
    assert tuning.tuning.shown is shown
    assert np.array_equal(tuning.labels, old)


def test_it_is_paused_steps_aside_is_cancelled_and_goes_on_later(tuning) -> None:
    tuning.correct_all()
    tuning.finetune.learn.minutes_field.setValue(900)
    tuning.finetune.learn.rate_field.setValue(3e-4)
    tuning.begin(what="head", is_held=False)
    panel = tuning.finetune.training
    assert not panel.start_button.isVisible()
    panel.pause_button.click()
    tuning.wait(lambda: tuning.course.is_paused)
    assert panel.pause_button.text() == "Go on"
    assert "paused" in panel.caption.text()
    step = tuning.course.step
    panel.pause_button.click()
    tuning.wait(lambda: tuning.course.step > step + 1)
    assert panel.pause_button.text() == "Pause"
    # A slider makes it step aside, and it goes on by itself.
    told, say = [], tuning.tuning.process._say
    tuning.tuning.process._say = lambda command: (told.append(command["do"]), say(command))
    tuning.widget.state.controls.temperature = 1.7
    assert told == ["step aside"]
    step = tuning.course.step
    tuning.wait(lambda: tuning.course.step > step)
    settings = read_settings(tuning.tuning.folder)
    assert (settings.what, settings.pull) == ("head", 0)
    assert (settings.minutes, settings.learning_rate) == (900, 3e-4)
    folder = tuning.tuning.folder
    panel.cancel_button.click()
    tuning.finish()
    assert tuning.course.ended.reason == "cancelled"
    assert panel.start_button.isVisibleTo(panel)
    assert [one.folder for one in tuning.tuning.unfinished] == [folder]
    reached = tuning.course.step
    panel.resume_button.click()
    tuning.wait(lambda: tuning.course.ended is None and bool(tuning.course.losses))
    assert tuning.course.losses[0][0] > reached
    panel.cancel_button.click()
    tuning.finish()
    panel.discard_button.click()
    tuning.finish()
    assert not folder.exists()
    assert tuning.tuning.unfinished == ()


def test_a_dock_that_is_closed_leaves_a_run_that_can_go_on(tuning) -> None:
    tuning.correct_all()
    tuning.begin()
    process, folder = tuning.tuning.process, tuning.tuning.folder
    tuning.viewer.window.remove_dock_widget(tuning.docked_finetune)
    assert process.wait(PATIENCE_MS / 1000).reason == "orphaned"
    assert [one.folder for one in unfinished_runs(runs_root())] == [folder]
    # What was explored and corrected is untouched.
    assert np.array_equal(tuning.result, ball()[1])
    again = FinetuneWidget(tuning.viewer)
    tuning.viewer.window.add_dock_widget(again, name="again")
    tuning.wait(lambda: bool(again.tuning.unfinished))
    assert again.tuning.unfinished[0].folder == folder
    assert not again.training.resume_note.isHidden()
    again.shut_down()


def test_there_must_be_something_to_learn_from(tuning) -> None:
    finetune = tuning.finetune
    finetune.training.start_button.click()
    tuning.wait(lambda: bool(finetune.banner.message))
    assert "result is empty" in finetune.banner.message
    assert tuning.tuning.status is Status.READY
    assert not list(runs_root().glob("*"))
    tuning.choices.learn_from = "strokes"
    finetune.training.start_button.click()
    tuning.wait(lambda: "no strokes" in finetune.banner.message)
    finetune.learn.shown_box.click()
    finetune.training.start_button.click()
    assert "No corrected image is chosen" in finetune.banner.message


def test_strokes_and_locked_parts_are_marked_for_the_run(tuning, tmp_path: Path) -> None:
    tuning.correct_all()
    correcting = tuning.correct.correcting
    correcting.strokes.begin(1)
    tuning.drag(tuning.book.strokes_layer, (5, 5, 5))
    correcting.result.lock_class(1, is_locked=True)
    tuning.settle()
    image = tuning.tuning.shown.image

    def stored(path: Path) -> np.ndarray:
        return np.asarray(nibabel.load(path).dataobj)

    def marked(learn_from: str) -> np.ndarray:
        files = write_case(
            tmp_path / learn_from, image, tuning.book.correction, learn_from, image_file=None
        )
        assert np.array_equal(stored(files.labels), image.to_file_order(tuning.result))
        return stored(files.reviewed)

    assert np.array_equal(marked("locked"), image.to_file_order(tuning.result == 1))
    assert np.array_equal(marked("strokes"), image.to_file_order(tuning.strokes.to_array()))


def test_the_dock_says_what_to_do_first(dock) -> None:
    with finetune_dock(dock) as made:
        panel = made.finetune.training
        assert not panel.start_button.isEnabled()
        assert "Explore segmentations" in panel.note.text()
        made.finish()


def test_a_course_follows_events_and_says_so() -> None:
    course = Course()
    score = ValidationScore(step=0, loss=float("nan"), dice={"ball": 0.5})
    course.take(Scored(score=score))
    course.take(Started(step=0, steps=2000, n_learning=1, n_weights=2, held_out="a case"))
    for step in range(1, 1001):
        course.take(
            Stepped(step=step, steps=2000, loss=1 / step, elapsed=step / 10, remaining=100.0)
        )
    assert course.before == score
    assert len(course.losses) <= 600
    assert course.losses[-1] == (1000, 1 / 1000)
    assert [step for step, _ in course.losses] == sorted(step for step, _ in course.losses)
    assert in_words(course, Status.RUNNING) == "Step 1,000 of 2,000 · 1:40 · 1:40 left"
    course.take(Paused(is_paused=True))
    assert "paused" in in_words(course, Status.RUNNING)
    course.take(Ended(reason="diverged", message="The loss is not a finite number."))
    assert "diverged" in in_words(course, Status.READY)
    assert clock(3725) == "1:02:05"


def test_weights_of_a_run_that_goes_on_become_a_version(tmp_path: Path) -> None:
    ball_model(tmp_path)
    tuned = weights_of(tmp_path)
    report = read_report(tuned.parent).model_copy(update={"weights": None})
    report.write(tuned.parent)
    going_on = tuned.parent / "model.safetensors"
    tuned.rename(going_on)
    copied = copy_weights(going_on, 3)
    # The run writes others meanwhile.
    shutil.copyfile(tmp_path / "low_rank.safetensors", going_on)
    version = adopt_weights(copied, 3)
    assert version.weights.read_bytes() == copied.read_bytes() != going_on.read_bytes()
    assert (version.record.number, version.record.steps) == (1, 3)
    assert version.record.parent == report.parent
    first, second = versions_of(tmp_path / "low_rank.safetensors").all()
    assert "the model as it was" in version_in_words(first, [first, second])[0]
    assert "from 0" in version_in_words(second, [first, second])[0]
