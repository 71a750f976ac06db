"""The rendering engine without a window: newest wins, slice first, equal to the definition."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from napari_structseg.controls import Controls
from napari_structseg.distributions import LowRankNormal
from napari_structseg.render.rendering import render_labels
from napari_structseg.session.engine import Engine
from napari_structseg.session.messages import (
    ClassVolumes,
    Lines,
    MapRegion,
    Request,
    Result,
    Show,
    SlabLabels,
    SliceLabels,
    Thumbnails,
    View,
    VolumeSpread,
)

SHAPE = (12, 15, 17)
N_CLASSES = 3


@pytest.fixture
def distribution() -> LowRankNormal:
    generator = torch.Generator().manual_seed(3)
    return LowRankNormal(
        torch.randn((N_CLASSES, *SHAPE), generator=generator),
        torch.randn((2, N_CLASSES, *SHAPE), generator=generator),
        torch.rand((N_CLASSES, *SHAPE), generator=generator),
    )


class Recorder:
    """An engine and all it has delivered."""

    def __init__(self, distribution: LowRankNormal, **options: bool) -> None:
        self.engine = Engine(distribution, 0.5, **options)
        self.results: list[Result] = []
        self.failures: list[Exception] = []
        self.engine.result.connect(self.results.append)
        self.engine.failed.connect(self.failures.append)

    def ask(self, request: Request) -> list[Result]:
        """The results of one request, all of them."""
        self.results.clear()
        self.engine.request(request)
        assert self.engine.join(60)
        return list(self.results)

    def of(self, kind: type) -> list[Result]:
        return [result for result in self.results if isinstance(result, kind)]


@pytest.fixture(params=[True, False], ids=["synchronous", "threaded"])
def recorder(request: pytest.FixtureRequest, distribution: LowRankNormal) -> Iterator[Recorder]:
    recorder = Recorder(distribution, synchronous=request.param)
    yield recorder
    recorder.engine.close()


CONTROLS = Controls(seed=5, sample=2, temperature=1.3, class_scale=(1.0, -0.5, 2.0))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slice_comes_first_and_equals_the_definition(
    recorder: Recorder, distribution: LowRankNormal, axis: int
) -> None:
    view = View(axis, 4)
    results = recorder.ask(Request(CONTROLS, view))
    first = results[0]
    assert isinstance(first, SliceLabels)
    region = view.region(SHAPE)
    assert first.region == region
    expected = render_labels(distribution, CONTROLS.noise, CONTROLS, region)
    np.testing.assert_array_equal(first.labels, expected)


def test_slabs_make_up_the_volume_and_its_class_volumes(
    recorder: Recorder, distribution: LowRankNormal
) -> None:
    recorder.ask(Request(CONTROLS, View(0, 4)))
    volume = np.full(SHAPE, 255, np.uint8)
    for slab in recorder.of(SlabLabels):
        volume[slab.region] = slab.labels
    expected = render_labels(distribution, CONTROLS.noise, CONTROLS)
    np.testing.assert_array_equal(volume, expected)
    (volumes,) = recorder.of(ClassVolumes)
    counts = np.bincount(expected.ravel(), minlength=N_CLASSES)
    np.testing.assert_allclose(volumes.volumes_ml, 0.5 * counts)


def test_volume_spread_of_a_small_image_counts_every_voxel(
    recorder: Recorder, distribution: LowRankNormal
) -> None:
    recorder.ask(Request(CONTROLS, View(0, 4), n_samples=4))
    (spread,) = recorder.of(VolumeSpread)
    assert spread.exact
    for sample in range(1, 5):
        controls = CONTROLS.model_copy(update={"sample": sample})
        labels = render_labels(distribution, controls.noise, controls)
        counts = np.bincount(labels.ravel(), minlength=N_CLASSES)
        np.testing.assert_allclose(spread.volumes_ml[sample - 1], 0.5 * counts)


def test_nothing_is_delivered_twice_when_only_the_slice_changes(recorder: Recorder) -> None:
    recorder.ask(Request(CONTROLS, View(0, 4)))
    results = recorder.ask(Request(CONTROLS, View(0, 5)))
    kinds = {type(result) for result in results}
    assert kinds == {SliceLabels, Thumbnails}
    recorder.engine.invalidate()
    results = recorder.ask(Request(CONTROLS, View(0, 5)))
    assert SlabLabels in {type(result) for result in results}


@pytest.mark.parametrize("show", [Show.ENTROPY, Show.AGREEMENT])
def test_maps_of_the_slice_and_in_3d_of_the_volume(recorder: Recorder, show: Show) -> None:
    (values,) = [
        result
        for result in recorder.ask(Request(CONTROLS, View(1, 3), show))
        if isinstance(result, MapRegion)
    ]
    limit = np.log(N_CLASSES) if show is Show.ENTROPY else 1.0
    assert values.values.shape == (SHAPE[0], 1, SHAPE[2])
    assert 0 <= values.values.min() <= values.values.max() <= limit + 1e-6
    recorder.ask(Request(CONTROLS, View(1, 3, volume=True), show))
    volume = np.full(SHAPE, np.nan, np.float32)
    for part in recorder.of(MapRegion):
        volume[part.region] = part.values
    assert np.isfinite(volume).all()
    np.testing.assert_allclose(volume[:, 3:4], values.values, atol=1e-5)


@pytest.mark.parametrize("show", [Show.OUTLINES, Show.CONTOURS])
def test_lines_lie_on_the_visible_slice(recorder: Recorder, show: Show) -> None:
    (lines,) = [
        result
        for result in recorder.ask(Request(CONTROLS, View(2, 6), show))
        if isinstance(result, Lines)
    ]
    assert {lineset.label for lineset in lines.sets} == {1, 2}
    points = np.concatenate([lineset.segments.reshape(-1, 3) for lineset in lines.sets])
    assert len(points)
    assert (points[:, 2] == 6).all()
    assert (points[:, 0] <= SHAPE[0] - 1).all()
    assert (points[:, 1] <= SHAPE[1] - 1).all()


def test_slice_only_leaves_the_volume_alone(distribution: LowRankNormal) -> None:
    recorder = Recorder(distribution, slice_only=True, synchronous=True)
    kinds = {type(result) for result in recorder.ask(Request(CONTROLS, View(0, 1)))}
    assert kinds == {SliceLabels, Thumbnails}


def test_newest_request_is_answered_last_and_results_never_regress(
    distribution: LowRankNormal,
) -> None:
    recorder = Recorder(distribution)
    for step in range(300):
        controls = CONTROLS.model_copy(update={"temperature": step / 100})
        newest = recorder.engine.request(Request(controls, View(0, step % SHAPE[0])))
    assert recorder.engine.join(60)
    generations = [result.generation for result in recorder.of(SliceLabels)]
    assert generations == sorted(generations)
    assert generations[-1] == newest
    last = recorder.of(SliceLabels)[-1]
    region = View(0, 299 % SHAPE[0]).region(SHAPE)
    expected = render_labels(distribution, controls.noise, controls, region)
    np.testing.assert_array_equal(last.labels, expected)
    recorder.engine.close()


def test_wrong_controls_are_reported_and_the_engine_goes_on(recorder: Recorder) -> None:
    recorder.ask(Request(Controls(class_scale=(1.0,)), View()))
    assert len(recorder.failures) == 1
    assert "3 classes" in str(recorder.failures[0])
    assert recorder.ask(Request(CONTROLS, View()))


def test_a_closed_engine_says_nothing_more(distribution: LowRankNormal) -> None:
    recorder = Recorder(distribution)
    recorder.engine.close()
    recorder.engine.request(Request(CONTROLS, View()))
    assert recorder.engine.join(10)
    assert recorder.results == []
