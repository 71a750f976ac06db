"""The engine with strokes: everything that is delivered is of the conditioned distribution."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_structseg.controls import Controls
from napari_structseg.distributions import (
    LowRankNormal,
    PointLogits,
    SampledDistribution,
    Strokes,
)
from napari_structseg.errors import InputError
from napari_structseg.io.model_files import find_model
from napari_structseg.io.weights import load_weights
from napari_structseg.priors import NetworkPrior
from napari_structseg.refine.labels import render_labels as refined_labels
from napari_structseg.render.rendering import render_labels
from napari_structseg.session.engine import Engine
from napari_structseg.session.messages import (
    ClassVolumes,
    MapRegion,
    Modes,
    Request,
    SampleModes,
    Show,
    SlabLabels,
    SliceLabels,
    StrokesExplained,
    Thumbnails,
    View,
    VolumeSpread,
)
from napari_structseg.session.resolve import Part, Scene, difference, resolve
from napari_structseg.session.state import ExplorerState
from test_engine import CONTROLS, N_CLASSES, SHAPE, Recorder

VIEW = View(0, 6)


def strokes_of(*said: tuple[int, int, int, int]) -> Strokes:
    array = np.zeros(SHAPE, np.uint8)
    for z, y, x, label in said:
        array[z, y : y + 3, x : x + 3] = label + 1
    return Strokes.from_array(array, N_CLASSES)


STROKES = strokes_of((6, 4, 4, 2), (3, 9, 11, 1))


def model() -> LowRankNormal:
    generator = torch.Generator().manual_seed(3)
    return LowRankNormal(
        2 * torch.randn((N_CLASSES, *SHAPE), generator=generator),
        torch.randn((2, N_CLASSES, *SHAPE), generator=generator),
        torch.rand((N_CLASSES, *SHAPE), generator=generator),
    )


def given(distribution: SampledDistribution) -> SampledDistribution:
    return distribution.conditioned(STROKES)


def recorder_of(distribution: SampledDistribution, **options: object) -> Recorder:
    recorder = Recorder(distribution, synchronous=True)
    if options:
        recorder.engine = Engine(distribution, 0.5, synchronous=True, **options)
        recorder.engine.result.connect(recorder.results.append)
        recorder.engine.failed.connect(recorder.failures.append)
    return recorder


@pytest.mark.parametrize("controls", [Controls(), CONTROLS], ids=["mean", "sample"])
def test_labels_are_those_of_the_conditioned_distribution(controls: Controls) -> None:
    recorder, distribution = recorder_of(model()), model()
    recorder.ask(Request(controls, VIEW))
    recorder.ask(Request(controls, VIEW, strokes=STROKES))
    expected = render_labels(given(distribution), controls.noise, controls)
    (first,) = recorder.of(SliceLabels)
    np.testing.assert_array_equal(first.labels, expected[first.region])
    written = np.full(SHAPE, 99, np.uint8)
    for slab in recorder.of(SlabLabels):
        written[slab.region] = slab.labels
    np.testing.assert_array_equal(written, expected)
    assert (written[tuple(STROKES.positions.T)] == STROKES.labels).all()
    (volumes,) = recorder.of(ClassVolumes)
    counts = np.bincount(expected.reshape(-1), minlength=N_CLASSES)
    np.testing.assert_array_equal(volumes.volumes_ml, counts * 0.5)


def test_everything_else_follows() -> None:
    asked = Request(
        Controls(sample=1), View(0, 6, volume=True), Show.ENTROPY, n_samples=4, modes=Modes.TWO
    )
    recorder, fresh = recorder_of(model()), recorder_of(given(model()))
    recorder.ask(asked)
    recorder.ask(replace(asked, strokes=STROKES))
    fresh.ask(asked)
    for kind, value in (
        (Thumbnails, lambda one: np.stack(list(one.labels.values()))),
        (VolumeSpread, lambda one: one.volumes_ml),
        (SampleModes, lambda one: np.array(one.hypotheses.modes[0].samples)),
        (MapRegion, lambda one: one.values),
    ):
        ours, theirs = recorder.of(kind), fresh.of(kind)
        assert len(ours) == len(theirs) > 0, kind
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(value(one), value(other))


def test_it_is_told_once_how_well_strokes_are_explained() -> None:
    recorder = recorder_of(model())
    recorder.ask(Request(Controls(), VIEW))
    assert not recorder.of(StrokesExplained)
    asked = Request(Controls(), VIEW, strokes=STROKES)
    recorder.ask(asked)
    (told,) = recorder.of(StrokesExplained)
    assert told.request == asked
    assert told.explanation.n_voxels == len(STROKES)
    recorder.ask(replace(asked, view=View(0, 2)))
    assert not recorder.of(StrokesExplained)


def test_removing_strokes_restores_exactly_what_was_there() -> None:
    recorder, plain = recorder_of(model()), Request(CONTROLS, VIEW)
    before = recorder.ask(plain)
    recorder.ask(replace(plain, strokes=STROKES))
    after = recorder.ask(replace(plain, strokes=Strokes.none(SHAPE)))
    for kind in (SliceLabels, SlabLabels):
        ours = [one for one in before if isinstance(one, kind)]
        theirs = [one for one in after if isinstance(one, kind)]
        assert [one.region for one in ours] == [one.region for one in theirs]
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one.labels, other.labels)
    spreads = [[one for one in part if isinstance(one, VolumeSpread)] for part in (before, after)]
    np.testing.assert_array_equal(spreads[0][-1].volumes_ml, spreads[1][-1].volumes_ml)


@pytest.mark.parametrize("strength", [1.0, 5.0])
def test_strokes_clamp_the_mean_field(strength: float) -> None:
    generator = torch.Generator().manual_seed(0)
    prior = NetworkPrior(3, N_CLASSES)
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    prior.requires_grad_(False)
    controls = Controls(iterations=4, mrf_strength=strength)
    recorder = recorder_of(model(), prior=prior)
    recorder.ask(Request(controls, VIEW))
    recorder.ask(Request(controls, VIEW, strokes=STROKES))
    expected = refined_labels(given(model()), None, controls, prior=prior)
    assert (expected[tuple(STROKES.positions.T)] == STROKES.labels).all()
    first = recorder.of(SliceLabels)[-1]
    np.testing.assert_array_equal(first.labels, expected[first.region])
    # What the MRF makes of the strokes is seen around them, too.
    alone = render_labels(given(model()), None, controls)
    assert (expected != alone).any()
    # And all of it goes with the strokes.
    recorder.ask(Request(controls, VIEW))
    last = recorder.of(SliceLabels)[-1]
    plain = refined_labels(model(), None, controls, prior=prior)
    np.testing.assert_array_equal(last.labels, plain[last.region])


def test_a_whole_labelling_is_of_its_own_strokes() -> None:
    engine = Engine(model(), 0.5, synchronous=True)
    asked = Request(CONTROLS, VIEW, strokes=STROKES)
    labels = engine.whole_labels(asked).result()
    expected = render_labels(given(model()), CONTROLS.noise, CONTROLS)
    np.testing.assert_array_equal(labels, expected)


def test_a_growing_distribution_is_not_conditioned() -> None:
    recorder = recorder_of(model(), slice_only=True)
    recorder.ask(Request(Controls(), VIEW, strokes=STROKES))
    (first,) = recorder.of(SliceLabels)
    expected = render_labels(model(), None, Controls(), first.region)
    np.testing.assert_array_equal(first.labels, expected)


def test_strokes_of_another_image_fail_and_the_engine_goes_on() -> None:
    recorder = recorder_of(model())
    other = Strokes((9,), np.array([1]), np.array([1], np.uint8))
    recorder.ask(Request(Controls(), VIEW, strokes=other))
    (error,) = recorder.failures
    assert isinstance(error, InputError)
    recorder.ask(Request(Controls(), VIEW))
    assert recorder.of(SliceLabels)


def test_strokes_reach_as_far_in_mm_along_every_axis() -> None:
    """Slices four times as thick as their pixels: what is not explained changes its own slice."""
    mean = torch.zeros((2, 9, 9, 9))
    mean[0] = 0.5
    said = np.zeros((9, 9, 9), np.uint8)
    said[4, 4, 4] = 2
    asked = Request(Controls(), View(0, 4), strokes=Strokes.from_array(said, 2))
    changed = []
    for spacing in (None, (1.0, 1.0, 1.0), (4.0, 1.0, 1.0)):
        engine = Engine(PointLogits(mean), 1.0, spacing=spacing, synchronous=True)
        place = np.argwhere(engine.whole_labels(asked).result() == 1) - 4
        changed.append(np.abs(place).max(axis=0).tolist())
    assert changed[0] == changed[1]
    assert changed[1][0] > 0
    assert changed[2] == [0, *changed[1][1:]]


# --- from the state


def test_strokes_of_the_state_are_those_of_the_request() -> None:
    state = ExplorerState()
    scene = Scene(VIEW, n_classes=N_CLASSES, shape=SHAPE)
    before = resolve(state, scene)
    assert before.strokes is None
    state.correction.strokes = STROKES
    after = resolve(state, scene)
    assert after.strokes == STROKES
    assert {Part.SLICE, Part.STROKES, Part.VOLUME, Part.THUMBNAILS, Part.SPREAD} <= difference(
        before, after
    )
    part = (slice(5, 9), slice(2, 12), slice(0, 17))
    inside = resolve(state, replace(scene, region=part)).strokes
    assert inside == STROKES.inside(part)
    assert inside is not None
    assert len(inside) == 9


@pytest.mark.parametrize(
    ("shape", "n_classes"), [((1, *SHAPE[1:]), 3), (SHAPE, 2)], ids=["shape", "classes"]
)
def test_strokes_that_do_not_fit_say_nothing(shape: tuple[int, ...], n_classes: int) -> None:
    state = ExplorerState()
    state.correction.strokes = STROKES
    assert resolve(state, Scene(VIEW, n_classes=n_classes, shape=shape)).strokes is None


@pytest.mark.parametrize("n_iterations", [1, 10])
def test_the_shipped_mrf_keeps_strokes_at_any_strength(n_iterations: int) -> None:
    """The MRF of brain-tissue, five times as strong as it was trained, on a certain model."""
    network, spec = load_weights(find_model("brain-tissue"))
    assert network.prior is not None
    generator = torch.Generator().manual_seed(2)
    shape, n_classes = (8, 12, 12), spec.n_classes
    mean = torch.randn((n_classes, *shape), generator=generator)
    mean[2] += 12
    said = np.zeros(shape, np.uint8)
    for label, place in enumerate([(2, 3, 3), (4, 6, 6), (5, 9, 2), (6, 2, 9)]):
        said[place] = label + 1
    strokes = Strokes.from_array(said, n_classes)
    given = PointLogits(mean).conditioned(strokes)
    controls = Controls(iterations=n_iterations, mrf_strength=5.0)
    labels = refined_labels(given, None, controls, prior=network.prior)
    assert (labels[tuple(strokes.positions.T)] == strokes.labels).all()
    # What is only likely is not kept: the term that makes strokes certain is what holds.
    alone = mean.clone()
    for label, place in zip(strokes.labels, strokes.positions, strict=True):
        alone[(int(label), *place.tolist())] += 14
    weak = refined_labels(PointLogits(alone), None, controls, prior=network.prior)
    assert (weak[tuple(strokes.positions.T)] != strokes.labels).any()
