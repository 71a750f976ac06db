"""The engine where a prior refines the labels."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch

from napari_structseg.controls import ITERATIONS_MAX, Controls, Nudge
from napari_structseg.distributions import LowRankNormal, Noise, PointLogits
from napari_structseg.errors import ConfigError
from napari_structseg.priors import EnergyPrior, MarkovPrior, NetworkPrior, nudged, refine
from napari_structseg.refine.changes import Changes
from napari_structseg.refine.iterations.trajectory import NOTICEABLE
from napari_structseg.refine.mean_field import AHEAD
from napari_structseg.refine.refinement import Refinement
from napari_structseg.session.engine import Engine
from napari_structseg.session.messages import (
    ChangedLabels,
    ClassVolumes,
    MeanFieldProgress,
    Request,
    SlabLabels,
    SliceLabels,
    View,
)

SHAPE = (6, 7, 5)
N_CLASSES = 3
VOXEL_ML = 0.5


@pytest.fixture
def prior() -> MarkovPrior:
    prior = NetworkPrior(3, N_CLASSES)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return prior.requires_grad_(False)


@pytest.fixture
def distribution() -> LowRankNormal:
    generator = torch.Generator().manual_seed(2)
    mean = torch.randn((N_CLASSES, *SHAPE), generator=generator)
    factor = torch.randn((2, N_CLASSES, *SHAPE), generator=generator)
    diagonal = torch.rand((N_CLASSES, *SHAPE), generator=generator)
    return LowRankNormal(mean, factor, diagonal)


def expected(distribution, prior: MarkovPrior, controls: Controls) -> np.ndarray:
    logits = distribution.mean()
    if controls.sample:
        weights = torch.tensor(controls.weights(N_CLASSES)).reshape(-1, 1, 1, 1)
        noise = Noise(controls.seed, controls.sample)
        logits = logits + weights * distribution.offset(noise)
    pairs = [(one.first, one.second, one.amount) for one in controls.nudges]
    refined = refine(
        nudged(prior, pairs),
        torch.log_softmax(logits, dim=0)[None],
        controls.iterations if controls.mrf_strength else 0,
        strength=controls.mrf_strength,
        damping=controls.damping,
        update=controls.update_rule,
    )
    return refined[0].argmax(dim=0).numpy()


class Answers:
    """What an engine without a thread has said, and the labels it would have left on a layer."""

    def __init__(self, engine: Engine) -> None:
        self.said = []
        self.labels = np.full(SHAPE, 255, np.uint8)
        self.errors = []
        engine.result.connect(self._hear)
        engine.failed.connect(self.errors.append)

    def of(self, kind: type) -> list:
        return [one for one in self.said if isinstance(one, kind)]

    def _hear(self, result: object) -> None:
        self.said.append(result)
        if isinstance(result, SliceLabels | SlabLabels):
            self.labels[result.region] = result.labels


STATES = [
    Controls(iterations=4),
    Controls(iterations=1, sample=2, temperature=1.5),
    Controls(iterations=6, sample=1, mrf_strength=0.4, damping=0.5),
    Controls(iterations=3, update="coloured", class_scale=(1, 0.5, -2), sample=1),
    Controls(iterations=5, nudges=(Nudge(first=1, second=2, amount=-2),)),
    Controls(iterations=0),
    Controls(iterations=3, mrf_strength=0),
]


def test_whatever_is_moved_the_labels_are_those_of_the_definition(distribution, prior) -> None:
    engine = Engine(distribution, VOXEL_ML, prior=prior, synchronous=True)
    answers = Answers(engine)
    for axis, controls in enumerate(STATES * 2):
        view = View(axis % 3, 2)
        engine.request(Request(controls, view))
        wanted = expected(distribution, prior, controls)
        assert np.array_equal(answers.labels, wanted), controls
        last = [one for one in answers.of(SliceLabels) if one.is_final][-1]
        assert np.array_equal(last.labels, wanted[view.region(SHAPE)])
        volumes = answers.of(ClassVolumes)[-1].volumes_ml
        np.testing.assert_allclose(volumes, VOXEL_ML * np.bincount(wanted.ravel(), minlength=3))
    assert not answers.errors


def test_iterations_are_shown_one_by_one(distribution, prior) -> None:
    engine = Engine(distribution, VOXEL_ML, prior=prior, synchronous=True)
    answers = Answers(engine)
    view = View(1, 3)
    engine.request(Request(Controls(iterations=5), view))
    slices = answers.of(SliceLabels)
    assert [one.is_final for one in slices] == [False] * 4 + [True]
    for n, one in enumerate(slices, start=1):
        wanted = expected(distribution, prior, Controls(iterations=n))
        assert np.array_equal(one.labels, wanted[view.region(SHAPE)])


def test_a_computed_trajectory_is_only_looked_up(distribution, prior) -> None:
    engine = Engine(distribution, VOXEL_ML, prior=prior, synchronous=True)
    answers = Answers(engine)
    engine.request(Request(Controls(iterations=ITERATIONS_MAX), View(0, 2)))
    progress = answers.of(MeanFieldProgress)[-1]
    assert progress.reached == progress.target == ITERATIONS_MAX
    assert progress.convergence.n_iterations == ITERATIONS_MAX
    for n, axis in ((30, 0), (4, 2), (50, 1), (1, 0)):
        answers.said.clear()
        engine.request(Request(Controls(iterations=n), View(axis, 2)))
        assert len(answers.of(SliceLabels)) == 1
        assert np.array_equal(answers.labels, expected(distribution, prior, Controls(iterations=n)))


def test_only_a_few_iterations_more_than_asked_for_are_computed(distribution, prior) -> None:
    engine = Engine(distribution, VOXEL_ML, prior=prior, synchronous=True)
    answers = Answers(engine)
    for asked, reached in ((3, 3 + AHEAD), (3 + AHEAD, 3 + 2 * AHEAD), (48, 50), (2, 50)):
        answers.said.clear()
        engine.request(Request(Controls(iterations=asked), View(0, 2)))
        progress = answers.of(MeanFieldProgress)[-1]
        assert progress.reached == progress.target == reached
    # One further is there already: the visible slice comes at once.
    answers.said.clear()
    engine.request(Request(Controls(iterations=4), View(0, 2)))
    assert len(answers.of(SliceLabels)) == 1


def converging() -> MarkovPrior:
    """An MRF whose mean field settles within a few iterations."""
    return EnergyPrior(3, N_CLASSES).requires_grad_(False)


def test_it_stops_when_converged_where_that_is_wanted(distribution) -> None:
    prior = converging()
    engine = Engine(distribution, VOXEL_ML, prior=prior, synchronous=True)
    answers = Answers(engine)
    request = Request(Controls(iterations=40), View(0, 2), stop_when_converged=True)
    engine.request(request)
    progress = answers.of(MeanFieldProgress)[-1]
    assert 0 < progress.reached < 40
    assert progress.is_converged
    converged = expected(distribution, prior, Controls(iterations=progress.reached))
    assert np.array_equal(answers.labels, converged)


def test_stopping_has_an_effect_after_everything_was_computed(distribution) -> None:
    engine = Engine(distribution, VOXEL_ML, prior=converging(), synchronous=True)
    answers = Answers(engine)
    engine.request(Request(Controls(iterations=40), View(0, 2)))
    before = answers.of(MeanFieldProgress)[-1]
    assert not before.is_converged
    assert before.reached == before.target == 40 + AHEAD
    engine.request(Request(Controls(iterations=40), View(0, 2), stop_when_converged=True))
    after = answers.of(MeanFieldProgress)[-1]
    assert after.is_converged
    # In so few voxels, not one may change noticeably.
    first = int(np.flatnonzero(before.convergence.residual <= NOTICEABLE)[0]) + 1
    assert after.reached == after.target == after.convergence.n_iterations == first


def test_only_what_changed_is_sent_again(distribution, prior) -> None:
    engine = Engine(distribution, VOXEL_ML, prior=prior, synchronous=True)
    answers = Answers(engine)
    controls = Controls(iterations=3)
    engine.request(Request(controls, View(0, 2)))
    assert answers.of(SlabLabels)[-1].done == answers.of(SlabLabels)[-1].total
    answers.said.clear()
    for view in (View(0, 4), View(1, 1), View(2, 0, volume=True), View(0, 2)):
        engine.request(Request(controls, view))
    assert not answers.of(SlabLabels)
    assert not answers.of(ClassVolumes)
    # Others have written to the layer.
    for other in (Controls(), Controls(iterations=2)):
        engine.request(Request(other, View(0, 2)))
        engine.request(Request(controls, View(0, 2)))
        assert np.array_equal(answers.labels, expected(distribution, prior, controls))
    answers.said.clear()
    engine.invalidate()
    engine.request(Request(controls, View(0, 2)))
    assert answers.of(SlabLabels)


def test_a_slice_that_was_left_out_by_the_listener_is_sent_again(distribution, prior) -> None:
    """As the dock does, which paints one of several slices that come together."""
    engine = Engine(distribution, VOXEL_ML, prior=prior, synchronous=True)
    labels = np.full(SHAPE, 255, np.uint8)

    def hear(result: object) -> None:
        if isinstance(result, SlabLabels):
            labels[result.region] = result.labels

    engine.result.connect(hear)
    for n in (3, 1, 3, 6):
        controls = Controls(iterations=n)
        for axis in range(3):
            engine.request(Request(controls, View(axis, 1)))
            assert np.array_equal(labels, expected(distribution, prior, controls))


@pytest.mark.parametrize("axis", [0, 2])
def test_changes_are_marked(distribution, prior, axis: int) -> None:
    engine = Engine(distribution, VOXEL_ML, prior=prior, synchronous=True)
    answers = Answers(engine)
    before = {n: expected(distribution, prior, Controls(iterations=n)) for n in (0, 2, 3)}
    view = View(axis, 1)
    region = view.region(SHAPE)
    for update in ("parallel", "coloured"):
        controls = Controls(iterations=3, update=update)
        now = expected(distribution, prior, controls)
        engine.request(Request(controls, view, changes=Changes.START))
        shown = answers.of(ChangedLabels)[-1].changed
        assert shown.any()
        assert np.array_equal(shown, (now != before[0])[region])
    engine.request(Request(Controls(iterations=3), view, changes=Changes.PREVIOUS))
    shown = answers.of(ChangedLabels)[-1].changed
    assert np.array_equal(shown, (before[3] != before[2])[region])


def test_a_newer_request_waits_for_one_iteration_at_most(distribution, prior) -> None:
    engine = Engine(distribution, VOXEL_ML, prior=prior, synchronous=True)
    answers = Answers(engine)
    later = Controls(iterations=2, mrf_strength=2)
    asked = []

    def ask_again(result: object) -> None:
        if isinstance(result, SliceLabels) and not asked:
            asked.append(engine.request(Request(later, View(0, 2))))

    engine.result.connect(ask_again)
    first = engine.request(Request(Controls(iterations=8), View(0, 2)))
    answered = [one.generation for one in answers.of(SliceLabels)]
    assert answered.count(first) == 1
    assert np.array_equal(answers.labels, expected(distribution, prior, later))


def test_an_imported_probability_map_can_be_refined(distribution, prior) -> None:
    point = PointLogits(torch.log_softmax(distribution.mean(), dim=0))
    controls = Controls(iterations=3)
    labels = Refinement(point, prior).render_volume(controls)
    assert np.array_equal(labels, expected(point, prior, controls))


def test_a_prior_for_other_classes_is_refused(distribution) -> None:
    with pytest.raises(ConfigError, match="4 classes in 3-D, but the model gives 3"):
        Engine(distribution, VOXEL_ML, prior=NetworkPrior(3, 4), synchronous=True)
    with pytest.raises(ConfigError, match="2-D"):
        Refinement(distribution, NetworkPrior(2, 3))


def test_bad_numbers_end_in_an_error_and_the_engine_goes_on(distribution, prior) -> None:
    engine = Engine(distribution, VOXEL_ML, prior=prior, synchronous=True)
    answers = Answers(engine)
    wrong = Controls(iterations=2, nudges=(Nudge(first=0, second=7, amount=1),))
    engine.request(Request(wrong, View(0, 2)))
    assert "labels from 0 to 2" in str(answers.errors[-1])
    engine.request(Request(Controls(iterations=2), View(0, 2)))
    assert np.array_equal(answers.labels, expected(distribution, prior, Controls(iterations=2)))


def test_what_is_refined_is_let_go_of_at_once(distribution, prior) -> None:
    refinement = Refinement(distribution, prior)
    refinement.render_volume(Controls(iterations=2, sample=1))
    kept = weakref.ref(refinement.trajectory(Controls(iterations=2, sample=1)))
    gc.disable()
    try:
        del refinement
        assert kept() is None
    finally:
        gc.enable()
