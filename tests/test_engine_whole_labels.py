"""The labels of the whole image on demand: what is saved is one labelling, never a mixture."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from napari_structseg.controls import Controls
from napari_structseg.distributions import LowRankNormal, Noise, Region
from napari_structseg.errors import Cancelled, ConfigError, InputError
from napari_structseg.priors import NetworkPrior
from napari_structseg.refine.refinement import labels_with_prior
from napari_structseg.render.rendering import SLAB_VOXELS, render_labels
from napari_structseg.session.engine import Engine
from napari_structseg.session.messages import (
    ClassVolumes,
    Request,
    Result,
    SlabLabels,
    SliceLabels,
    View,
)

# One slice to a slab.
SHAPE = (5, 300, 300)
N_CLASSES = 3
TIMEOUT = 60
FIRST = Controls(seed=5, sample=2, temperature=1.3)
SECOND = Controls(seed=5, sample=3, temperature=1.3)


def make_distribution(shape: tuple[int, ...] = SHAPE) -> LowRankNormal:
    generator = torch.Generator().manual_seed(3)
    return LowRankNormal(
        torch.randn((N_CLASSES, *shape), generator=generator),
        torch.randn((2, N_CLASSES, *shape), generator=generator),
        torch.rand((N_CLASSES, *shape), generator=generator),
    )


def make_prior() -> NetworkPrior:
    prior = NetworkPrior(3, N_CLASSES)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return prior.requires_grad_(False)


@pytest.fixture(scope="module")
def distribution() -> LowRankNormal:
    assert SHAPE[1] * SHAPE[2] <= SLAB_VOXELS < 2 * SHAPE[1] * SHAPE[2]
    return make_distribution()


@pytest.fixture(params=[True, False], ids=["synchronous", "threaded"])
def engine(request: pytest.FixtureRequest, distribution: LowRankNormal) -> Iterator[Engine]:
    engine = Engine(distribution, 0.5, synchronous=request.param)
    yield engine
    engine.close()
    assert engine.join(TIMEOUT)


def ask(controls: Controls, position: int = 0) -> Request:
    return Request(controls, View(0, position), n_thumbnails=0, n_samples=2)


def test_they_are_those_of_the_definition(engine: Engine, distribution: LowRankNormal) -> None:
    for controls in (FIRST, SECOND, Controls()):
        labels = engine.whole_labels(ask(controls)).result(TIMEOUT)
        expected = render_labels(distribution, controls.noise, controls)
        np.testing.assert_array_equal(labels, expected)


def test_progress_rises_to_the_end(engine: Engine) -> None:
    said: list[tuple[int, int]] = []

    def on_result(result: Result) -> None:
        if isinstance(result, SliceLabels) and not wholes:
            wholes.append(engine.whole_labels(ask(FIRST)))
            wholes[0].progressed.connect(lambda *progress: said.append(progress))

    wholes = []
    engine.result.connect(on_result)
    engine.request(ask(FIRST))
    assert engine.join(TIMEOUT)
    wholes[0].result(TIMEOUT)
    assert said == [(n * SHAPE[1] * SHAPE[2], np.prod(SHAPE)) for n in range(1, 6)]


def test_newer_requests_are_answered_first_and_change_nothing(
    engine: Engine, distribution: LowRankNormal
) -> None:
    """Another sample is chosen after each step, and the slices are its own."""
    said: list[str] = []
    engine.result.connect(
        lambda result: said.append("slice") if isinstance(result, SliceLabels) else None
    )

    def go_on(done: int, _total: int) -> None:
        said.append("step")
        if done < np.prod(SHAPE):
            engine.request(ask(SECOND, done % 5))

    def on_slice(_result: Result) -> None:
        if not wholes:
            wholes.append(engine.whole_labels(ask(FIRST)))
            wholes[0].progressed.connect(go_on)

    wholes = []
    engine.result.connect(on_slice)
    engine.request(ask(FIRST))
    assert engine.join(TIMEOUT)
    expected = render_labels(distribution, FIRST.noise, FIRST)
    np.testing.assert_array_equal(wholes[0].result(TIMEOUT), expected)
    assert said == ["slice", *["step", "slice"] * 4, "step", "slice"]


def test_what_waited_is_answered_in_full(engine: Engine, distribution: LowRankNormal) -> None:
    """A pass over the volume makes way for a whole labelling of another sample, and goes on."""
    shown = np.full(SHAPE, 255, np.uint8)
    wholes, volumes = [], []

    def on_result(result: Result) -> None:
        if isinstance(result, SliceLabels | SlabLabels):
            shown[result.region] = result.labels
        if isinstance(result, SlabLabels) and not wholes:
            wholes.append(engine.whole_labels(ask(SECOND)))
        if isinstance(result, ClassVolumes):
            volumes.append((result, wholes[0].done()))

    engine.result.connect(on_result)
    engine.request(ask(FIRST))
    assert engine.join(TIMEOUT)
    expected = render_labels(distribution, FIRST.noise, FIRST)
    np.testing.assert_array_equal(shown, expected)
    ((result, came_after),) = volumes
    assert came_after
    np.testing.assert_allclose(result.volumes_ml, 0.5 * np.bincount(expected.ravel()))
    np.testing.assert_array_equal(
        wholes[0].result(TIMEOUT), render_labels(distribution, SECOND.noise, SECOND)
    )


@pytest.mark.parametrize("synchronous", [True, False])
def test_refined_labels_whatever_is_asked_for_meanwhile(synchronous: bool) -> None:
    shape = (6, 7, 5)
    distribution, prior = make_distribution(shape), make_prior()
    first = FIRST.model_copy(update={"iterations": 4})
    others = [
        FIRST.model_copy(update=update)
        for update in ({"sample": 1, "iterations": 2}, {"damping": 0.5, "iterations": 3}, {})
    ]
    engine = Engine(distribution, 0.5, prior=prior, synchronous=synchronous)
    shown = np.full(shape, 255, np.uint8)
    waiting, wholes = list(others), []

    def on_result(result: Result) -> None:
        if isinstance(result, SliceLabels | SlabLabels):
            shown[result.region] = result.labels
        if not wholes:
            wholes.append(engine.whole_labels(Request(first, View(1, 2))))
            wholes[0].progressed.connect(interfere)

    def interfere(done: int, total: int) -> None:
        if waiting and done > total // 2:
            engine.request(Request(waiting.pop(0), View(len(waiting), 2)))

    engine.result.connect(on_result)
    engine.request(Request(others[0], View(0, 2)))
    assert engine.join(TIMEOUT)
    assert not waiting
    expected = labels_with_prior(distribution, prior, first)
    np.testing.assert_array_equal(wholes[0].result(TIMEOUT), expected)
    last = others[-1]
    np.testing.assert_array_equal(shown, render_labels(distribution, last.noise, last))
    engine.close()


def test_cancelling(engine: Engine) -> None:
    whole = []

    def on_result(_result: Result) -> None:
        if not whole:
            whole.append(engine.whole_labels(ask(SECOND)))
            whole[0].progressed.connect(lambda *_: whole[0].cancel())

    engine.result.connect(on_result)
    engine.request(ask(FIRST))
    assert engine.join(TIMEOUT)
    with pytest.raises(Cancelled):
        whole[0].result(TIMEOUT)
    assert engine.whole_labels(ask(SECOND)).result(TIMEOUT).shape == SHAPE


def test_closing_ends_the_waiting(distribution: LowRankNormal) -> None:
    for synchronous in (True, False):
        engine = Engine(distribution, 0.5, synchronous=synchronous)
        whole = []

        def on_result(_result: Result, engine: Engine = engine, whole: list = whole) -> None:
            if not whole:
                whole.extend(engine.whole_labels(ask(SECOND)) for _ in range(2))
            whole[0].progressed.connect(lambda *_: engine.close())

        engine.result.connect(on_result)
        engine.request(ask(FIRST))
        assert engine.join(TIMEOUT)
        whole.append(engine.whole_labels(ask(FIRST)))
        for one in whole:
            with pytest.raises(Cancelled):
                one.result(TIMEOUT)


def test_errors_reach_who_waits_and_the_engine_goes_on(engine: Engine) -> None:
    with pytest.raises(ConfigError, match="3 classes"):
        engine.whole_labels(ask(Controls(class_scale=(1.0,)))).result(TIMEOUT)
    assert engine.whole_labels(ask(FIRST)).result(TIMEOUT).shape == SHAPE


class Odd(LowRankNormal):
    """A distribution with a mistake in it."""

    def offset(self, noise: Noise, region: Region | None = None) -> torch.Tensor:
        raise KeyError("weights")


def test_errors_of_any_type_reach_who_waits() -> None:
    parts = make_distribution((2, 3, 4))
    engine = Engine(Odd(parts.mean(), torch.zeros(1, 3, 2, 3, 4), torch.ones(3, 2, 3, 4)), 0.5)
    with pytest.raises(KeyError, match="weights"):
        engine.whole_labels(ask(FIRST)).result(TIMEOUT)
    assert engine.whole_labels(ask(Controls())).result(TIMEOUT).shape == (2, 3, 4)
    engine.close()


def test_a_model_that_still_runs_has_no_whole_labels(distribution: LowRankNormal) -> None:
    engine = Engine(distribution, 0.5, slice_only=True, synchronous=True)
    with pytest.raises(InputError, match="still running"):
        engine.whole_labels(ask(FIRST)).result(TIMEOUT)


def test_callbacks_come_in_the_worker(distribution: LowRankNormal) -> None:
    engine = Engine(distribution, 0.5)
    received, done = [], threading.Event()

    def on_done(labels: object) -> None:
        received.extend([labels, threading.current_thread()])
        done.set()

    whole = engine.whole_labels(ask(FIRST))
    whole.add_done_callback(on_done)
    assert done.wait(TIMEOUT)
    assert received[0] is whole
    engine.close()
