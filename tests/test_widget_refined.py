"""What the docks say of samples until the MRF has refined them, and once it has."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from dock_helpers import CorrectDock, dock  # noqa: F401 -- a fixture
from napari_structseg.controls import MEAN
from napari_structseg.distributions import Noise
from napari_structseg.priors import PriorSpec
from napari_structseg.refine.refinement import labels_with_prior
from napari_structseg.render.places import Place
from napari_structseg.render.rendering import render_labels
from napari_structseg.session.messages import (
    Disputed,
    HypothesesHere,
    Lines,
    RefinedProgress,
    Result,
    Show,
    SliceLabels,
    Thumbnails,
)

SMALL = (7, 12, 10)


@pytest.fixture
def exploring(dock):
    """The dock after a run of a model with an MRF."""
    generator = np.random.default_rng(3)
    image = generator.normal(100, 30, SMALL).clip(1).astype(np.float32)
    dock.add_image(image, name="T1", scale=(2, 1, 1))
    dock.choose(prior=PriorSpec(kind="network", iterations=3))
    dock.run()
    assert dock.widget.is_exploring(), dock.widget.banner.message
    return dock


@contextmanager
def held_after(dock, is_it: Callable[[Result], bool]) -> Iterator[Callable[[], None]]:
    """The engine goes no further than a result until the end; gives what waits for that."""
    engine, arrived, may_go_on = dock.widget.engine, threading.Event(), threading.Event()

    def hold(result: Result) -> None:
        if is_it(result) and not may_go_on.is_set():
            arrived.set()
            may_go_on.wait(60)

    def wait() -> None:
        dock.wait(arrived.is_set)
        # What was delivered until then is shown by now.
        dock.wait(dock.widget._controller.current._results.is_empty)

    # Whoever shows results was connected before, and has them.
    engine.result.connect(hold)
    try:
        yield wait
    finally:
        may_go_on.set()
        engine.result.disconnect(hold)
    dock.settle()


def refined(dock, sample: int) -> np.ndarray:
    controls = dock.widget.controls.model_copy(update={"sample": sample, "latent": ()})
    prior = dock.widget._controller.current.prior
    return labels_with_prior(dock.distribution, prior, controls)


def is_alone(kind: type) -> Callable[[Result], bool]:
    return lambda result: isinstance(result, kind) and not result.refined


def test_pictures_of_samples(exploring) -> None:
    widget = exploring.widget
    with held_after(exploring, is_alone(Thumbnails)) as arrived:
        widget.state.controls.temperature = 1.5
        arrived()
        assert "model alone" in widget.strip.alone_note.text()
        alone = widget._thumbnails.labels
    assert widget.strip.alone_note.text() == ""
    position = widget._thumbnails.view.position
    controls = widget.controls
    for sample, labels in widget._thumbnails.labels.items():
        assert np.array_equal(labels, refined(exploring, sample)[position])
        noise = Noise(controls.seed, sample) if sample != MEAN else None
        plain = render_labels(exploring.distribution, noise, controls)
        assert np.array_equal(alone[sample], plain[position])
    # Without iterations there is nothing to say.
    widget.state.controls.iterations = 0
    exploring.settle()
    assert widget.strip.alone_note.text() == ""
    assert not widget._thumbnails.refined


def test_contours(exploring) -> None:
    widget = exploring.widget
    with held_after(exploring, is_alone(Lines)) as arrived:
        widget.state.display.show = Show.CONTOURS
        arrived()
        assert "model alone" in widget.show_panel.alone_note.text()
    assert widget.show_panel.alone_note.text() == ""
    # A map of entropy is of the model alone, and goes on saying so.
    widget.state.display.show = Show.ENTROPY
    exploring.settle()
    assert "model alone" in widget.show_panel.alone_note.text()
    widget.state.display.show = Show.LABELS
    exploring.settle()
    assert widget.show_panel.alone_note.text() == ""


def test_hypotheses(exploring) -> None:
    widget, panel = exploring.widget, exploring.widget.hypotheses

    def some(result: Result) -> bool:
        return isinstance(result, RefinedProgress) and result.done == 6

    with held_after(exploring, some) as arrived:
        widget.state.display.fold("hypotheses", is_open=True)
        arrived()
        assert "model alone; with neighbours: 6 of 60" in panel.caption.text()
        assert panel.rows
    assert "60 samples" in panel.caption.text()
    assert "model alone" not in panel.caption.text()
    labels = np.stack([refined(exploring, sample).ravel() for sample in range(1, 61)])
    shown = panel.rows[0].mode
    sizes = [np.bincount(labels[one - 1], minlength=4)[1:] for one in shown.samples]
    assert shown.volumes_ml == pytest.approx(np.array(sizes) * 2 / 1000)
    # Rows of refined samples are pale once the MRF is another.
    assert not any(row.is_stale for row in panel.rows)
    with held_after(exploring, lambda result: isinstance(result, SliceLabels)) as arrived:
        widget.state.controls.mrf_strength = 0.5
        arrived()
        assert all(row.is_stale for row in panel.rows)
    assert not any(row.is_stale for row in panel.rows)


def test_a_place_and_disputed_regions(exploring) -> None:
    correcting = CorrectDock(exploring)
    correct, state = correcting.correct, exploring.widget.state
    try:
        with held_after(exploring, is_alone(HypothesesHere)) as arrived:
            state.display.fold("here", is_open=True)
            state.correction.here = Place.of_region(tuple(slice(1, size - 1) for size in SMALL))
            arrived()
            assert "odel alone" in correct.here.alone_note.text()
            assert correct.here.rows
        assert correct.here.alone_note.text() == ""
        with held_after(exploring, is_alone(Disputed)) as arrived:
            state.display.fold("disputed", is_open=True)
            arrived()
            assert "model alone" in correct.disputed.caption.text()
        assert "model alone" not in correct.disputed.caption.text()
        # Without the MRF there is nothing to say.
        state.controls.iterations = 0
        exploring.settle()
        assert "odel alone" not in correct.here.alone_note.text() + correct.disputed.caption.text()
    finally:
        correct.shut_down()
