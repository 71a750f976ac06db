"""The dock with another model's prior, and with class probabilities: chosen, and read back."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from dock_helpers import SHAPE, brain, dock  # noqa: F401 -- a fixture
from napari_structseg import Image, load_model, prior_for, read_image, save_model
from napari_structseg.distributions import PointLogits
from napari_structseg.errors import MemoryLimitError
from napari_structseg.models import ClassSpec
from napari_structseg.prediction.specs import MapSpec
from napari_structseg.priors import PriorSpec, refine
from napari_structseg.session.runner import RunOutcome
from napari_structseg.widgets.exploration import Exploration
from nifti_files import save
from tiny_models import CLASSES, tiny_model

SAID = (MapSpec("maps", 3, CLASSES), Path("maps.nii"), 0.0)
AFFINE = np.diag([-1.0, 2, 3, 1])


@pytest.fixture
def exploring(dock):
    """The dock after a run of a model without a prior, another one with a prior being listed."""
    dock.other = tiny_model(dock.folder / "other.safetensors", prior=PriorSpec(iterations=3))
    dock.widget.source.choose_model(dock.other)
    dock.add_image(name="T1", scale=(2, 1, 1))
    dock.choose()
    dock.run()
    assert dock.widget.is_exploring(), dock.widget.banner.message
    return dock


def listed(dock) -> list[object]:
    box = dock.widget.neighbours.prior_chooser
    return [box.itemData(index) for index in range(box.count())]


def choose(dock, model: Path | str | None) -> None:
    box = dock.widget.neighbours.prior_chooser
    box.activated.emit(listed(dock).index(None if model is None else str(model)))
    dock.settle()


def choose_file(dock, path: Path) -> None:
    """By the last entry and its dialog."""
    box = dock.widget.neighbours.prior_chooser
    box.activated.emit(box.count() - 1)
    assert box.file_dialog.isVisible()
    box.file_dialog.fileSelected.emit(str(path))
    box.file_dialog.close()
    dock.settle()


def model_alone(dock) -> np.ndarray:
    return dock.distribution.mean().argmax(dim=0).numpy()


def refined(dock, path: Path) -> np.ndarray:
    controls = dock.widget.controls
    prior = prior_for(load_model(path)[0], dock.widget._controller.current.image)
    unary = dock.distribution.mean().log_softmax(dim=0)[None]
    with torch.inference_mode():
        dense = refine(prior, unary, controls.iterations, strength=controls.mrf_strength)
    return dense[0].argmax(dim=0).numpy()


def test_a_model_without_a_prior_takes_that_of_another(exploring) -> None:
    panel = exploring.widget.neighbours
    assert str(exploring.other) in listed(exploring)
    assert panel.prior_chooser.choice is None
    assert panel.prior_chooser.currentText() == "No MRF"
    assert panel.prior_chooser.isEnabled()
    assert not panel.iteration_slider.isEnabled()
    assert np.array_equal(exploring.labels, model_alone(exploring))

    choose(exploring, exploring.other)
    assert panel.prior_chooser.choice == str(exploring.other)
    assert exploring.widget.controls.iterations == 3
    assert panel.iteration_slider.isEnabled()
    assert panel.weights_button.isEnabled()
    assert np.array_equal(exploring.labels, refined(exploring, exploring.other))
    assert not np.array_equal(exploring.labels, model_alone(exploring))
    panel.strength_slider.set_value(2)
    panel.iteration_slider.set_value(8)
    exploring.settle()
    assert np.array_equal(exploring.labels, refined(exploring, exploring.other))

    choose(exploring, None)
    assert not panel.iteration_slider.isEnabled()
    assert np.array_equal(exploring.labels, model_alone(exploring))


def test_a_model_with_a_prior_takes_that_of_another(exploring) -> None:
    own = exploring.choose(prior=PriorSpec(kind="energy", iterations=6))
    exploring.run()
    panel = exploring.widget.neighbours
    assert exploring.widget.controls.iterations == 6
    assert panel.prior_chooser.currentText() == "MRF of the model itself"
    assert str(own) not in listed(exploring)
    choose(exploring, exploring.other)
    assert exploring.widget.controls.iterations == 3
    assert np.array_equal(exploring.labels, refined(exploring, exploring.other))
    choose(exploring, None)
    assert exploring.widget.controls.iterations == 6
    assert np.array_equal(exploring.labels, refined(exploring, own))


def test_what_does_not_fit_is_not_listed(exploring) -> None:
    flat = tiny_model(exploring.folder / "flat.safetensors", dimensions=2, prior=PriorSpec())
    source = exploring.widget.source
    source.choose_model(flat)
    exploring.choose(prior=PriorSpec())
    exploring.run()
    assert str(flat) in source.models
    assert str(flat) not in listed(exploring)
    assert str(exploring.other) in listed(exploring)


def test_a_prior_from_a_file(exploring) -> None:
    path = tiny_model(exploring.folder / "elsewhere.safetensors", prior=PriorSpec(iterations=2))
    choose_file(exploring, path)
    chooser = exploring.widget.neighbours.prior_chooser
    assert chooser.choice == str(path)
    assert chooser.currentText() == "MRF of elsewhere"
    assert np.array_equal(exploring.labels, refined(exploring, path))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "has none"),
        ({"prior": PriorSpec(), "classes": CLASSES[:3]}, "is for 3 classes in 3-D"),
        ({"prior": PriorSpec(), "dimensions": 2}, "is for 4 classes in 2-D"),
        (None, "not a safetensors file"),
    ],
    ids=["no prior", "classes", "dimensions", "broken"],
)
def test_a_wrong_one_is_said_and_the_last_good_picture_stays(exploring, fields, says) -> None:
    choose(exploring, exploring.other)
    before = exploring.labels.copy()
    path = exploring.folder / "wrong.safetensors"
    if fields is None:
        path.write_bytes(b"nonsense that is no model")
    else:
        tiny_model(path, **fields)
    choose_file(exploring, path)
    widget = exploring.widget
    assert says in widget.banner.message
    assert widget.neighbours.prior_chooser.choice == str(exploring.other)
    assert np.array_equal(exploring.labels, before)
    widget.neighbours.iteration_slider.set_value(7)
    exploring.settle()
    assert np.array_equal(exploring.labels, refined(exploring, exploring.other))
    choose(exploring, None)
    assert not widget.banner.message


def test_classes_of_other_names_are_said(exploring) -> None:
    named = tuple(ClassSpec(name=f"Klasse {one}", color="#123456") for one in range(4))
    path = tiny_model(exploring.folder / "german.safetensors", prior=PriorSpec(), classes=named)
    choose_file(exploring, path)
    assert "Klasse 0, Klasse 1" in exploring.widget.status.hint.text()
    assert not exploring.widget.banner.message
    assert np.array_equal(exploring.labels, refined(exploring, path))


def test_it_stays_for_the_next_image(exploring) -> None:
    choose(exploring, exploring.other)
    exploring.widget.neighbours.iteration_slider.set_value(5)
    exploring.widget.source.choose_image(exploring.add_image(brain(seed=3), name="T2"))
    exploring.run()
    panel = exploring.widget.neighbours
    assert panel.prior_chooser.choice == str(exploring.other)
    assert exploring.widget.controls.iterations == 5
    assert np.array_equal(exploring.labels, refined(exploring, exploring.other))


def test_it_is_gone_for_the_next_image(exploring) -> None:
    choose(exploring, exploring.other)
    exploring.other.unlink()
    exploring.run()
    panel = exploring.widget.neighbours
    assert "no such file" in exploring.widget.banner.message
    assert panel.prior_chooser.choice is None
    assert not panel.iteration_slider.isEnabled()
    assert np.array_equal(exploring.labels, model_alone(exploring))


# Class probabilities.


@pytest.fixture
def maps(dock) -> Path:
    """On the grid of an image that the dock has opened."""
    dock.other = tiny_model(dock.folder / "other.safetensors", prior=PriorSpec(iterations=3))
    dock.widget.source.choose_model(dock.other)
    path = save(dock.folder / "T1.nii.gz", brain().transpose(), AFFINE)
    dock.viewer.open(path, plugin="napari-structseg")
    logits = np.random.default_rng(1).normal(size=(*SHAPE[::-1], 4))
    exponentials = np.exp(2 * logits)
    voxels = (exponentials / exponentials.sum(axis=-1, keepdims=True)).astype(np.float32)
    return save(dock.folder / "maps.nii.gz", voxels, AFFINE)


def choose_maps(dock, path: Path) -> None:
    box = dock.widget.source.model_box
    box.activated.emit(box.findText("Probability map…"))
    dialog = dock.widget.source.model_box.file_dialog
    assert dialog.isVisible()
    dialog.fileSelected.emit(str(path))
    dialog.close()
    dock.run()


def test_probabilities_take_the_place_of_a_model(dock, maps) -> None:
    choose_maps(dock, maps)
    widget = dock.widget
    assert not widget.banner.message
    assert widget.source.model_box.currentText() == "maps (probabilities)"
    assert np.array_equal(dock.labels, read_image(maps).data.argmax(axis=0))
    assert not widget.neighbours.iteration_slider.isEnabled()
    assert str(maps) not in widget.source.models
    assert str(maps) not in listed(dock)

    choose(dock, dock.other)
    assert not widget.banner.message
    assert np.array_equal(dock.labels, refined(dock, dock.other))
    assert not np.array_equal(dock.labels, model_alone(dock))
    # The prior's model says what the classes are.
    assert widget._controller.current.spec.classes == CLASSES
    widget.neighbours.iteration_slider.set_value(9)
    dock.settle()
    assert np.array_equal(dock.labels, refined(dock, dock.other))
    choose(dock, None)
    assert np.array_equal(dock.labels, model_alone(dock))


def test_probabilities_that_cannot_be_used(dock, maps) -> None:
    choose_maps(dock, maps)
    before = dock.labels.copy()
    percent = save(dock.folder / "percent.nii.gz", 100 * read_image(maps).data.T, AFFINE)
    choose_maps(dock, percent)
    assert "must sum to 1" in dock.widget.banner.message
    assert np.array_equal(dock.labels, before)
    dock.add_image(brain((8, 9, 10)), name="another")
    dock.widget.source.choose_image(dock.viewer.layers["another"])
    dock.widget.source.choose_model(maps)
    dock.run()
    assert "voxel grid of the image 'another'" in dock.widget.banner.message
    dock.widget.source.choose_image(dock.viewer.layers["T1"])
    dock.settle()
    assert np.array_equal(dock.labels, before)


def test_the_same_maps_again_keep_the_prior_and_its_sliders(dock, maps) -> None:
    choose_maps(dock, maps)
    choose(dock, dock.other)
    panel = dock.widget.neighbours
    panel.strength_slider.set_value(2)
    panel.picture.select(1, 2)
    panel.picture.slider.set_value(0.5)
    dock.settle()
    before, nudges = dock.labels.copy(), dock.widget.controls.nudges
    assert len(nudges) == 1
    dock.run()
    assert not dock.widget.banner.message
    assert panel.prior_chooser.choice == str(dock.other)
    assert (
        dock.widget.controls.iterations,
        dock.widget.controls.mrf_strength,
        dock.widget.controls.nudges,
    ) == (3, 2, nudges)
    assert panel.picture.grid.selected == (1, 2)
    assert dock.widget._controller.current.spec.classes == CLASSES
    assert np.array_equal(dock.labels, before)


def test_a_cancelled_run_gives_the_prior_back(exploring) -> None:
    choose(exploring, exploring.other)
    labels = exploring.labels.copy()
    large = brain((96, 192, 192), seed=1)
    exploring.widget.source.choose_image(exploring.add_image(large, name="large"))
    with exploring.held_after_first_slice():
        exploring.widget.source.run_button.click()
        exploring.wait(lambda: exploring.labels.shape == large.shape)
        box = exploring.widget.neighbours.prior_chooser
        box.activated.emit(listed(exploring).index(None))
        assert not exploring.widget.neighbours.iteration_slider.isEnabled()
        exploring.widget.source.run_button.click()
    exploring.settle()
    assert exploring.widget.status.hint.text() == "Cancelled"
    exploring.widget.source.choose_image(exploring.viewer.layers["T1"])
    exploring.settle()
    assert box.choice == str(exploring.other)
    assert exploring.widget.controls.iterations == 3
    assert exploring.widget.neighbours.iteration_slider.isEnabled()
    assert np.array_equal(exploring.labels, labels)


def test_weights_are_those_of_the_prior_in_use(dock) -> None:
    """Two files may say the same of themselves, and a mirrored image mirrors the prior."""
    dock.add_image(name="T1")
    own = dock.choose(prior=PriorSpec(iterations=3))
    dock.run()
    grid = dock.widget.neighbours.picture.grid
    before = grid.average((1, 2))
    network, spec = load_model(own)
    with torch.no_grad():
        for parameter in network.prior.parameters():
            parameter.mul_(-2)
    again = dock.folder / "again.safetensors"
    save_model(again, network, spec)
    dock.widget.source.choose_model(again)
    dock.run()
    assert dock.widget._controller.current.spec == spec
    assert grid.average((1, 2)) != pytest.approx(before, abs=1e-3)
    assert str(own) in listed(dock)
    assert str(again) not in listed(dock)


def test_a_prior_that_needs_too_much_memory_changes_nothing(exploring) -> None:
    widget, shape = exploring.widget, (30000,) * 3
    layers = widget.layers
    huge = Exploration(
        exploring.viewer,
        widget._controller.current.run,
        RunOutcome(
            PointLogits(torch.zeros(4, 1, 1, 1).expand(4, *shape), checked=True), None, *SAID
        ),
        Image.from_array(np.broadcast_to(np.uint8(1), shape)),
        layers.beside,
        layers,
        is_complete=True,
    )
    with pytest.raises(MemoryLimitError, match="Refining"):
        huge.take_prior(huge.open_prior(str(exploring.other)))
    assert huge.prior is None
    assert huge.prior_model is None
    huge.close()


class LoggedThreads(logging.Handler):
    """In which threads the prior of a model was read: its classes have other names."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[str | None] = []
        self._logger = logging.getLogger("napari_structseg.prediction.other_prior")

    def __enter__(self) -> LoggedThreads:
        self._logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.threads.append(record.threadName)


def german(dock) -> Path:
    """A model with a prior, whose classes have other names."""
    named = tuple(ClassSpec(name=f"Klasse {one}", color="#123456") for one in range(4))
    return tiny_model(dock.folder / "german.safetensors", prior=PriorSpec(), classes=named)


def test_weights_of_a_prior_are_read_away_from_the_window(exploring) -> None:
    """The main thread goes on at once: what is chosen takes effect when events are handled."""
    path = german(exploring)
    with LoggedThreads() as logged:
        exploring.widget.state.source.prior = str(path)
        assert exploring.widget.is_busy()
        assert exploring.widget._controller.current.prior is None
        exploring.settle()
    assert logged.threads == ["structseg-background"]
    assert np.array_equal(exploring.labels, refined(exploring, path))


def test_the_next_run_reads_the_prior_itself(exploring) -> None:
    path = german(exploring)
    choose_file(exploring, path)
    with LoggedThreads() as logged:
        exploring.run()
    assert logged.threads == ["structseg-run"]
    assert exploring.widget.neighbours.prior_chooser.choice == str(path)
    assert np.array_equal(exploring.labels, refined(exploring, path))


def test_a_prior_chosen_during_the_run_is_taken_when_it_has_finished(exploring) -> None:
    path = german(exploring)
    exploring.widget.source.run_button.click()
    with LoggedThreads() as logged:
        exploring.widget.state.source.prior = str(path)
        exploring.settle()
    assert set(logged.threads) == {"structseg-background"}
    assert exploring.widget._controller.current.is_complete
    assert exploring.widget.neighbours.prior_chooser.choice == str(path)
    assert np.array_equal(exploring.labels, refined(exploring, path))
