"""The whole loop as a user takes it, as docs/walkthrough.md tells it.

In the second site's scans the ball is dark where the first site's is bright. A network that has
learned one says the opposite of the other, and classes are told apart by one threshold: that
tuning on strokes of one scan helps on the next one is so by construction.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dock_helpers import dock  # noqa: F401 -- fixtures
from finetune_helpers import SHAPE, ball_model, ball_settings, write_map
from napari_structseg.evaluation.dice import dice_per_class
from napari_structseg.finetuning.run import TUNED_NAME, finetune
from napari_structseg.finetuning.start import with_stochastic_head
from napari_structseg.io.weights import load_weights, save_weights
from napari_structseg.models import BackboneSpec
from test_widget_finetune import finetune_dock, labels_of

BALL = 1


def scan(site: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A ball of some size, bright at site 1 and dark at site 2, and its labels."""
    rng = np.random.default_rng(seed)
    grid = np.indices(SHAPE) - np.reshape([(n - 1) / 2 for n in SHAPE], (-1, 1, 1, 1))
    labels = (np.sqrt((grid**2).sum(axis=0)) < rng.uniform(5.5, 6.5)).astype(np.uint8)
    contrast = 80.0 if site == 1 else -80.0
    return (rng.normal(200, 10, SHAPE) + contrast * labels).astype(np.float32), labels


def model_of_site_1(folder: Path) -> Path:
    """A small SSN that has learned from two scans of site 1."""
    cases = []
    for seed in (0, 1):
        image, labels = scan(1, seed)
        cases.append(
            {
                "image": [write_map(folder / f"a{seed}.nii.gz", image)],
                "labels": write_map(folder / f"a{seed}-labels.nii.gz", labels),
            }
        )
    # Without normalisation inside, so that an evenly bright patch is still known as bright.
    fresh = ball_model(
        folder, "point", backbone=BackboneSpec(widths=(6,), convolutions=(2,), norm="none")
    )
    fields = {"steps": 40, "learning_rate": 2e-2, "pull": 0, "held_out": 0}
    finetune(
        ball_settings(folder, model=str(fresh), cases=cases, validate_every=40, **fields),
        folder / "site-1",
    )
    path = folder / "site-1.safetensors"
    save_weights(path, *with_stochastic_head(*load_weights(folder / "site-1" / TUNED_NAME), rank=2))
    return path


def dice(labels: np.ndarray, truth: np.ndarray) -> float:
    return float(dice_per_class(labels, truth, 2)[BALL])


@pytest.fixture
def tour(dock):
    """All docks after a run of the model of site 1 on a scan of site 2."""
    dock.add_image(scan(2, 10)[0], name="first")
    dock.widget.source.choose_model(model_of_site_1(dock.folder))
    dock.run()
    with finetune_dock(dock) as made:
        yield made


def stroke(tour, label: int, *places: tuple[int, ...]) -> None:
    """Take the brush of a class, and draw."""
    tour.correct.strokes.class_buttons[label].click()
    tour.correct.strokes.size_field.setValue(3)
    tour.drag(tour.book.strokes_layer, *places)
    tour.settle()


def test_a_model_learns_from_a_few_strokes_and_is_taken_back(tour) -> None:
    widget, finetune_panels = tour.widget, tour.finetune
    first, second = scan(2, 10)[1], scan(2, 11)
    original = Path(widget.state.source.model)
    assert dice(labels_of(original, tour), first) < 0.1

    # Explore samples: the choice is the user's, and undone by the mean.
    mean = tour.labels.copy()
    widget.strip.select(2)
    tour.settle()
    assert widget.state.controls.sample == 2
    widget.strip.select(0)
    tour.settle()
    assert np.array_equal(tour.labels, mean)

    # A few strokes: across the ball and beside it, in two slices.
    for z in (9, 11):
        stroke(tour, 1, *((z, 9, x) for x in range(5, 11)), *((z, y, 8) for y in range(6, 12)))
        stroke(tour, 0, *((z, 1, x) for x in range(2, 14)), *((z, 16, x) for x in range(2, 14)))
    said = tour.strokes.to_array()
    assert np.array_equal(said[said > 0] - 1, first[said > 0])
    tour.correct.result.all_button.click()
    tour.settle()
    assert np.array_equal(tour.result[said > 0], first[said > 0])

    # Fine-tune on the strokes alone, in a process of its own.
    tour.begin(steps=300, weights_every=300, learn_from="strokes", learning_rate=2e-2)
    tour.finish()
    assert tour.course.ended.reason == "finished", finetune_panels.banner.message

    # Look, and adopt.
    finetune_panels.compare.look_button.click()
    tour.finish()
    assert finetune_panels.preview.n_changed > 0
    finetune_panels.compare.adopt_button.click()
    tour.finish()
    tuned = Path(widget.state.source.model)
    assert tuned != original

    # The next case: the adopted version is the model that is chosen, and does better.
    layer = tour.add_image(second[0], name="second")
    widget.source.choose_image(layer)
    tour.run()
    assert widget.state.source.model == str(tuned)
    assert tour.tuning.shown.image.name == "second"
    without = labels_of(original, tour)
    better = tour.labels.copy()
    assert dice(without, second[1]) < 0.1
    assert dice(better, second[1]) > 0.4

    # Back: the same file, and the same labels in every voxel.
    versions = finetune_panels.versions
    tour.finish()
    versions.list.setCurrentRow(1)
    versions.back_button.click()
    tour.finish()
    assert versions.versions[1].weights.read_bytes() == original.read_bytes()
    assert np.array_equal(tour.labels, without)
