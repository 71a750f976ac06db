"""Nothing that was chosen by hand and is not saved goes without a question."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from qtpy.QtCore import QEvent, QObject
from qtpy.QtWidgets import QWidget

import napari_structseg as ss
from dock_helpers import Dock, brain, dock, exploring  # noqa: F401 -- fixtures
from napari_structseg.layer_geometry import GEOMETRY_KEY
from napari_structseg.models import HeadSpec
from napari_structseg.widgets.viewer.kept_layer import MADE_BY_KEY
from tiny_models import tiny_model

# Several pieces of the finest level: the first is shown long before the last is there.
LARGE = (96, 192, 192)


def dense(shown) -> np.ndarray:
    """The labels that are chosen, of the whole image, by definition."""
    controls = shown.widget.controls
    return ss.render_labels(shown.distribution, controls.noise, controls)


def names(shown) -> list[str]:
    return [layer.name for layer in shown.viewer.layers]


def run_another_model(shown) -> None:
    path = tiny_model(shown.folder / "other.safetensors", head=HeadSpec(kind="point"))
    shown.widget.source.choose_model(path)
    shown.run()
    assert not shown.widget.banner.message


def test_a_labelling_chosen_by_hand_outlives_the_run_of_another_model(exploring) -> None:
    exploring.widget.strip.select(3)
    wanted = dense(exploring)
    run_another_model(exploring)
    assert names(exploring) == ["T1", "T1 · tiny · sample 3", "Segmentation"]
    kept = exploring.viewer.layers["T1 · tiny · sample 3"]
    assert np.array_equal(kept.data, wanted)
    assert not np.array_equal(exploring.labels, wanted)
    assert kept.editable
    assert not kept.visible
    assert tuple(kept.scale) == (2, 1, 1)
    assert kept.metadata[MADE_BY_KEY]["controls"]["sample"] == 3
    assert "Kept as a layer" in exploring.widget.status.hint.toolTip()
    # It is saved on the grid of the image.
    path = exploring.folder / "kept.nii.gz"
    assert exploring.widget._session.unsaved() == ["layer T1 · tiny · sample 3"]
    exploring.viewer.layers.selection = {kept}
    assert exploring.viewer.layers.save(str(path), selected=True, plugin="napari-structseg")
    geometry = kept.metadata[GEOMETRY_KEY]
    assert np.array_equal(np.asarray(nib.load(path).dataobj), geometry.to_file(wanted))
    assert exploring.widget._session.unsaved() == []


@pytest.mark.parametrize(
    "what", ["nothing chosen", "saved", "saved by napari", "went back", "same"]
)
def test_what_is_no_unsaved_work_leaves_nothing(exploring, what: str) -> None:
    explorer = ss.explorer(exploring.viewer)
    session = exploring.widget._session
    if what != "nothing chosen":
        explorer.controls.sample = 3
        exploring.settle()
        assert session.unsaved() == ["sample 3 of T1"]
    if what == "saved":
        explorer.save(exploring.folder / "kept.nii.gz")
    elif what == "saved by napari":
        path = str(exploring.folder / "kept.nii.gz")
        exploring.viewer.layers.selection = {exploring.widget.layers.segmentation}
        exploring.viewer.layers.save(path, selected=True, plugin="napari-structseg")
    elif what == "went back":
        explorer.undo()
    if what == "same":
        exploring.run()
        # The same work as before, and still in no file.
        assert session.unsaved() == ["sample 3 of T1"]
    else:
        assert session.unsaved() == []
        run_another_model(exploring)
    assert names(exploring) == ["T1", "Segmentation"]


def test_a_script_is_asked_nothing(exploring) -> None:
    explorer = ss.explorer(exploring.viewer)
    other = tiny_model(exploring.folder / "other.safetensors", head=HeadSpec(kind="point"))
    explorer.controls.sample = 2
    explorer.run("T1", other, replace=True)
    explorer.wait(60)
    assert names(exploring) == ["T1", "Segmentation"]
    own = exploring.distribution
    explorer.run("T1", exploring.folder / "tiny.safetensors")
    explorer.wait(60)
    explorer.controls.sample = 2
    explorer.show_distribution(own, "T1", replace=True)
    explorer.wait(60)
    assert names(exploring) == ["T1", "Segmentation"]
    explorer.controls.class_scale = (1, 1, -2, 1)
    explorer.show_distribution(own, "T1", name="mine")
    explorer.wait(60)
    assert names(exploring) == ["T1", "T1 · distribution · mean", "Segmentation"]


def test_a_result_comes_back_as_it_was_left(exploring) -> None:
    widget, first = exploring.widget, exploring.viewer.layers["T1"]
    widget.strip.select(3)
    exploring.settle()
    labels = exploring.labels.copy()
    widget.source.choose_image(exploring.add_image(brain(seed=3), name="T2"))
    run_another_model(exploring)
    assert widget.controls.sample == 0
    assert widget._session.unsaved() == ["sample 3 of T1"]
    widget.source.choose_image(first)
    exploring.settle()
    assert widget.controls.sample == 3
    assert np.array_equal(exploring.labels, labels)


def test_a_cancelled_run_of_another_model_gives_the_choice_back(dock) -> None:
    dock.add_image(brain(LARGE), name="large")
    dock.choose()
    dock.run()
    dock.widget.strip.select(3)
    dock.settle()
    labels = dock.labels.copy()
    path = tiny_model(dock.folder / "other.safetensors", head=HeadSpec(kind="point"))
    dock.widget.source.choose_model(path)
    with dock.held_after_first_slice():
        dock.widget.source.run_button.click()
        dock.wait(lambda: dock.widget._controller.current.spec.name == "other")
        dock.widget.source.run_button.click()
    dock.settle()
    assert dock.widget.status.hint.text() == "Cancelled"
    assert dock.widget.controls.sample == 3
    assert np.array_equal(dock.labels, labels)
    assert names(dock) == ["large", "Segmentation"]


def test_the_layer_is_whole_after_its_dock_was_closed(exploring) -> None:
    layer = exploring.widget.layers.segmentation
    exploring.widget.strip.select(3)
    exploring.widget.spread.temperature_slider.set_value(3)
    wanted, engine = dense(exploring), exploring.widget.engine
    keeping = exploring.widget._controller.keeping
    exploring.viewer.window.remove_dock_widget(exploring.docked)
    # At once: who saves it waits for it.
    assert np.array_equal(layer.as_layer_data_tuple()[0], wanted)
    exploring.wait(lambda: not keeping.is_busy())
    assert engine.join(60)
    assert np.array_equal(layer.data, wanted)
    assert layer.editable
    assert layer.whole is None
    assert keeping.unsaved_layers == [layer]


class Closed(QObject):
    """Notes that nothing has stopped a window from closing, and leaves it open for the fixture."""

    def __init__(self, window: QWidget) -> None:
        super().__init__(window)
        self.happened = False
        # Before that of the dock, and so asked after it.
        window.installEventFilter(self)

    def eventFilter(self, _watched, event) -> bool:  # noqa: N802 -- Qt's name
        is_closing = event.type() == QEvent.Type.Close and not self.happened
        if is_closing:
            self.happened = True
            event.ignore()
        return is_closing


@pytest.fixture
def shown(make_napari_viewer, qtbot, tmp_path):
    """The dock in a window that is on the screen, after a run; and whether that was closed."""
    viewer = make_napari_viewer(show=True)
    closed = Closed(viewer.window._qt_window)
    made = Dock(viewer, qtbot, tmp_path)
    made.add_image(name="T1")
    made.choose()
    made.run()
    yield made, closed
    made.widget.shut_down()


def test_a_window_with_unsaved_work_asks_before_it_closes(shown) -> None:
    made, closed = shown
    window, guard = made.widget.window(), made.widget._guard
    made.widget.strip.select(3)
    made.settle()
    for answer in ("Cancel", "Save…", "Close without saving"):
        window.close()
        question = guard.question
        assert "sample 3 of T1" in question.text()
        (button,) = (one for one in question.buttons() if one.text().strip("&") == answer)
        button.click()
        assert guard.question is None
        assert (made.widget.save_dialog is not None) == (answer != "Cancel")
        assert closed.happened == (answer == "Close without saving")
    made.widget.save_dialog.close()


def test_a_window_without_unsaved_work_closes(shown) -> None:
    made, closed = shown
    made.widget.window().close()
    assert closed.happened
    assert made.widget._guard.question is None


def test_a_script_closes_a_window_with_unsaved_work(make_napari_viewer, qtbot, tmp_path) -> None:
    made = Dock(make_napari_viewer(show=True), qtbot, tmp_path)
    made.add_image(name="T1")
    made.choose()
    made.run()
    made.widget.strip.select(3)
    made.settle()
    assert made.widget._session.unsaved()
    guard = made.widget._guard
    made.viewer.close()
    assert guard.question is None
