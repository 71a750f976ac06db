"""Hypotheses as the engine finds them: the modes of a distribution whose modes are known."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest

from ambiguous import disks, kind_of
from napari_structseg.controls import Controls
from napari_structseg.distributions import LowRankNormal, Noise, PointLogits
from napari_structseg.render.lattice import Lattice, lattice_region
from napari_structseg.render.rendering import Renderer, render_labels
from napari_structseg.session.engine import Engine
from napari_structseg.session.messages import (
    Modes,
    ModeThumbnails,
    Request,
    Result,
    SampleModes,
    SliceLabels,
    View,
    VolumeSpread,
)
from napari_structseg.session.work.hypotheses import HypothesisWork
from napari_structseg.session.work.ledger import Ledger

SHAPE = (48, 40)
N = 60
CONTROLS = Controls(seed=3)
KINDS = [kind_of(3, sample) for sample in range(1, N + 1)]
NAMES = ("Nothing", "Small", "Large")
VOXEL_ML = 0.5


class Recorder:
    """An engine and all it has delivered."""

    def __init__(self, distribution, **options: bool) -> None:
        self.engine = Engine(distribution, VOXEL_ML, **options)
        self.results: list[Result] = []
        self.engine.result.connect(self.results.append)

    def ask(self, controls: Controls = CONTROLS, view: View | None = None, **options) -> None:
        self.results.clear()
        wanted = {"modes": Modes.AUTO, **options}
        self.engine.request(Request(controls, view or View(), **wanted))
        assert self.engine.join(60)

    def of(self, kind: type) -> list[Result]:
        return [result for result in self.results if isinstance(result, kind)]


@pytest.fixture(params=[True, False], ids=["synchronous", "threaded"])
def recorder(request: pytest.FixtureRequest) -> Iterator[Recorder]:
    recorder = Recorder(disks(SHAPE), synchronous=request.param)
    yield recorder
    recorder.engine.close()


def test_the_modes_of_the_samples(recorder: Recorder) -> None:
    recorder.ask()
    (found,) = recorder.of(SampleModes)
    hypotheses = found.hypotheses
    assert hypotheses.exact
    assert found.controls == CONTROLS
    by_name = {mode.name: mode for mode in hypotheses.modes}
    assert set(by_name) == set(NAMES)
    for kind, name in enumerate(NAMES):
        samples = [number for number, one in enumerate(KINDS, start=1) if one == kind]
        assert sorted(by_name[name].samples) == samples
        assert by_name[name].frequency == len(samples) / N
        sample = by_name[name].representative
        controls = CONTROLS.model_copy(update={"sample": sample})
        labels = render_labels(disks(SHAPE), controls.noise, controls)
        assert (by_name[name].volumes_ml == VOXEL_ML * labels.sum()).all()
    frequencies = [mode.frequency for mode in hypotheses.modes]
    assert frequencies == sorted(frequencies, reverse=True)


def test_distances_are_one_minus_iou(recorder: Recorder) -> None:
    recorder.ask()
    (found,) = recorder.of(SampleModes)
    areas = {
        kind: render_labels(disks(SHAPE), controls.noise, controls).sum()
        for kind, controls in (
            (kind, CONTROLS.model_copy(update={"sample": KINDS.index(kind) + 1}))
            for kind in range(3)
        )
    }
    for i, first in enumerate(KINDS):
        for j, second in enumerate(KINDS):
            # The disks lie in each other.
            smaller, larger = sorted((areas[first], areas[second]))
            expected = 1 - smaller / larger if larger else 0
            assert found.hypotheses.distances[i, j] == pytest.approx(expected)


def test_pictures_of_the_representatives(recorder: Recorder) -> None:
    recorder.ask()
    (found,) = recorder.of(SampleModes)
    (pictures,) = recorder.of(ModeThumbnails)
    assert list(pictures.labels) == [mode.representative for mode in found.hypotheses.modes]
    for sample, picture in pictures.labels.items():
        controls = CONTROLS.model_copy(update={"sample": sample})
        expected = render_labels(disks(SHAPE), controls.noise, controls)
        assert np.array_equal(picture, expected)


def test_only_what_has_changed_is_done_again(recorder: Recorder) -> None:
    recorder.ask(modes=Modes.NONE)
    assert not recorder.of(SampleModes) + recorder.of(ModeThumbnails)
    recorder.ask()
    # Another sample is another picture of the same distribution.
    recorder.ask(CONTROLS.model_copy(update={"sample": 4}))
    assert not recorder.of(SampleModes) + recorder.of(ModeThumbnails)
    recorder.ask(modes=Modes.TWO)
    (found,) = recorder.of(SampleModes)
    assert len(found.hypotheses.modes) == 2
    recorder.engine.invalidate()
    recorder.ask(modes=Modes.TWO)
    assert recorder.of(SampleModes)[0].hypotheses is found.hypotheses
    assert recorder.of(ModeThumbnails)


def test_temperature_changes_the_frequencies(recorder: Recorder) -> None:
    for temperature in (1.0, 2.0):
        recorder.ask(CONTROLS.model_copy(update={"temperature": temperature}))
        (found,) = recorder.of(SampleModes)
        kinds = [kind_of(3, sample, temperature) for sample in range(1, N + 1)]
        frequencies = {mode.name: mode.frequency for mode in found.hypotheses.modes}
        expected = {name: kinds.count(kind) / N for kind, name in enumerate(NAMES)}
        assert frequencies == expected


def test_samples_that_are_all_alike_are_one_mode(recorder: Recorder) -> None:
    recorder.ask(CONTROLS.model_copy(update={"temperature": 0.0}))
    (found,) = recorder.of(SampleModes)
    (mode,) = found.hypotheses.modes
    assert (mode.name, mode.frequency) == ("Nothing", 1)


def test_a_new_slice_shows_the_same_modes_there() -> None:
    recorder = Recorder(disks((6, *SHAPE)), synchronous=True)
    recorder.ask(view=View(0, 2))
    recorder.ask(view=View(1, 20))
    assert not recorder.of(SampleModes)
    (pictures,) = recorder.of(ModeThumbnails)
    assert pictures.view == View(1, 20)
    assert {picture.shape for picture in pictures.labels.values()} == {(6, SHAPE[1])}


def test_large_images_are_estimated_on_a_lattice() -> None:
    shape = (40, *SHAPE)
    recorder = Recorder(disks(shape), synchronous=True)
    # So many samples that not every voxel of all can be kept.
    recorder.ask(n_grouped=240)
    (found,) = recorder.of(SampleModes)
    assert not found.hypotheses.exact
    kinds = [kind_of(3, sample) for sample in range(1, 241)]
    frequencies = {mode.name: mode.frequency for mode in found.hypotheses.modes}
    assert frequencies == {name: kinds.count(kind) / 240 for kind, name in enumerate(NAMES)}
    (large,) = [mode for mode in found.hypotheses.modes if mode.name == "Large"]
    controls = CONTROLS.model_copy(update={"sample": large.representative})
    volume = VOXEL_ML * render_labels(disks(shape), controls.noise, controls).sum()
    assert large.volumes_ml == pytest.approx(volume, rel=0.1)


def test_a_point_and_a_growing_distribution_have_no_modes() -> None:
    for distribution, options in (
        (PointLogits(disks(SHAPE).mean()), {}),
        (disks(SHAPE), {"slice_only": True}),
    ):
        recorder = Recorder(distribution, synchronous=True, **options)
        recorder.ask()
        assert recorder.of(SliceLabels)
        assert not recorder.of(SampleModes)


def test_what_is_interrupted_is_continued() -> None:
    distribution: LowRankNormal = disks(SHAPE)

    def n_steps(work: HypothesisWork, request: Request, limit: int | None = None) -> int:
        count = 0
        for result in work.steps(1, request):
            if result is not None:
                break
            count += 1
            if count == limit:
                break
        return count

    request = Request(CONTROLS, View(), modes=Modes.AUTO)
    in_one_go = n_steps(HypothesisWork(Renderer(distribution), VOXEL_ML, Ledger({})), request)
    assert in_one_go > N
    work = HypothesisWork(Renderer(distribution), VOXEL_ML, Ledger({}))
    assert n_steps(work, request, 25) == 25
    # A sample is chosen meanwhile: that changes no samples.
    other = Request(CONTROLS.model_copy(update={"sample": 4}), View(), modes=Modes.THREE)
    # The last step was left before it was counted.
    assert n_steps(work, other) == in_one_go - 25
    assert n_steps(work, request) == 0


def test_a_newer_request_is_answered_first() -> None:
    recorder = Recorder(disks(SHAPE), synchronous=True)
    newer = Request(CONTROLS.model_copy(update={"sample": 2}), View(), modes=Modes.AUTO)

    def on_result(result: Result) -> None:
        if isinstance(result, VolumeSpread) and result.generation == 1:
            recorder.engine.request(newer)

    recorder.engine.result.connect(on_result)
    recorder.ask()
    assert [result.generation for result in recorder.of(SliceLabels)] == [1, 2]
    assert [result.generation for result in recorder.of(SampleModes)] == [2]


@pytest.mark.parametrize(("max_voxels", "n_voxels"), [(9 * 14, 9 * 14), (40, 4 * 7), (1, 1)])
def test_the_lattice_has_as_many_voxels_as_are_allowed(max_voxels: int, n_voxels: int) -> None:
    shape = (9, 14)
    lattice = Lattice(disks(shape), max_voxels)
    assert lattice.exact == (n_voxels == math.prod(shape))
    assert lattice.voxels_per_point * n_voxels == math.prod(shape)
    region = lattice_region(shape, max_voxels)
    expected = render_labels(disks(shape), Noise(3, 1), CONTROLS)[region]
    labels = lattice.labels(Noise(3, 1), (1.0, 1.0))
    assert labels.shape == expected.shape
    assert labels.size <= max_voxels
    assert np.array_equal(labels, expected)
