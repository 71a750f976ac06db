"""The rendering engine when requests, failures and closing come in the middle of work.

A listener runs in the worker's thread, between two steps: what it does there comes exactly then.
"""

from __future__ import annotations

import gc
import math
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_structseg.controls import Controls
from napari_structseg.distributions import LowRankNormal, Noise, PointLogits, Region
from napari_structseg.render.rendering import SLAB_VOXELS, render_labels
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

N_CLASSES = 2
# One slice to a slab.
SHAPE = (6, 300, 300)
CONTROLS = Controls(seed=5, sample=2)
OTHER = Controls(seed=5, sample=2, temperature=2.0)
TIMEOUT = 60


def parameters() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return (
        torch.randn((N_CLASSES, *SHAPE), generator=generator),
        torch.randn((1, N_CLASSES, *SHAPE), generator=generator),
        torch.rand((N_CLASSES, *SHAPE), generator=generator),
    )


class FailingOnce(LowRankNormal):
    """A distribution on a device that fails at the n-th use, and then works."""

    def __init__(self, n_uses: int) -> None:
        super().__init__(*parameters())
        self.n_left = n_uses

    def offsets(self, noises: list[Noise], region: Region | None = None) -> Tensor:
        self._use()
        return super().offsets(noises, region)

    def crop(self, region: Region) -> LowRankNormal:
        self._use()
        return super().crop(region)

    def _use(self) -> None:
        self.n_left -= 1
        if self.n_left == 0:
            raise RuntimeError("the device failed")


@pytest.fixture(scope="module")
def distribution() -> LowRankNormal:
    assert SHAPE[1] * SHAPE[2] <= SLAB_VOXELS < 2 * SHAPE[1] * SHAPE[2]
    return LowRankNormal(*parameters())


class Recorder:
    """An engine, all it has delivered, and what to do when."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.results: list[Result] = []
        self.failures: list[Exception] = []
        self.n_idle = 0
        self.at: list[tuple[Callable[[Result], bool], Callable[[], object]]] = []
        engine.result.connect(self._on_result)
        engine.failed.connect(self.failures.append)
        engine.idle.connect(self._on_idle)

    def once(self, matches: Callable[[Result], bool], act: Callable[[], object]) -> None:
        """Do something in the engine's thread at the first result that matches."""
        self.at.append((matches, act))

    def of(self, kind: type) -> list[Result]:
        return [result for result in self.results if isinstance(result, kind)]

    def _on_result(self, result: Result) -> None:
        self.results.append(result)
        for index, (matches, act) in enumerate(self.at):
            if matches(result):
                del self.at[index]
                act()
                return

    def _on_idle(self) -> None:
        self.n_idle += 1


@pytest.fixture(params=[True, False], ids=["synchronous", "threaded"])
def recorder(request: pytest.FixtureRequest, distribution: LowRankNormal) -> Iterator[Recorder]:
    engine = Engine(distribution, 0.5, synchronous=request.param)
    yield Recorder(engine)
    engine.close()
    assert engine.join(TIMEOUT)


def request_of(controls: Controls, position: int = 0, **options: object) -> Request:
    return Request(controls, View(0, position), **{"n_thumbnails": 0, "n_samples": 2, **options})


def slab(number: int) -> Callable[[Result], bool]:
    """Whether a result is the slab of a slice."""
    return lambda result: isinstance(result, SlabLabels) and result.region[0].start == number


def whole_volume(slabs: list[Result]) -> np.ndarray:
    volume = np.full(SHAPE, 255, np.uint8)
    for one in slabs:
        volume[one.region] = one.labels
    return volume


def test_a_volume_goes_on_after_the_slice_has_changed(
    recorder: Recorder, distribution: LowRankNormal
) -> None:
    recorder.once(slab(2), lambda: recorder.engine.request(request_of(CONTROLS, position=4)))
    recorder.engine.request(request_of(CONTROLS))
    assert recorder.engine.join(TIMEOUT)
    slabs = recorder.of(SlabLabels)
    assert [one.region[0].start for one in slabs] == [0, 1, 2, 3, 4, 5]
    assert [one.generation for one in slabs] == [1, 1, 1, 2, 2, 2]
    assert slabs[-1].done == slabs[-1].total == math.prod(SHAPE)
    expected = render_labels(distribution, CONTROLS.noise, CONTROLS)
    np.testing.assert_array_equal(whole_volume(slabs), expected)
    (volumes,) = recorder.of(ClassVolumes)
    np.testing.assert_allclose(volumes.volumes_ml, 0.5 * np.bincount(expected.ravel()))
    assert [one.generation for one in recorder.of(SliceLabels)] == [1, 2]


def test_volumes_come_even_if_the_last_slab_is_interrupted(recorder: Recorder) -> None:
    recorder.once(slab(5), lambda: recorder.engine.request(request_of(CONTROLS, position=4)))
    recorder.engine.request(request_of(CONTROLS))
    assert recorder.engine.join(TIMEOUT)
    (volumes,) = recorder.of(ClassVolumes)
    assert volumes.generation == 2
    assert volumes.volumes_ml.sum() == pytest.approx(0.5 * math.prod(SHAPE))


def test_a_volume_begins_again_with_other_controls(
    recorder: Recorder, distribution: LowRankNormal
) -> None:
    recorder.once(slab(2), lambda: recorder.engine.request(request_of(OTHER)))
    recorder.engine.request(request_of(CONTROLS))
    assert recorder.engine.join(TIMEOUT)
    slabs = recorder.of(SlabLabels)
    assert [one.region[0].start for one in slabs] == [0, 1, 2, 0, 1, 2, 3, 4, 5]
    expected = render_labels(distribution, OTHER.noise, OTHER)
    np.testing.assert_array_equal(whole_volume(slabs), expected)
    (volumes,) = recorder.of(ClassVolumes)
    np.testing.assert_allclose(volumes.volumes_ml, 0.5 * np.bincount(expected.ravel()))


def test_what_came_in_between_is_left_out(recorder: Recorder) -> None:
    def hurry() -> None:
        for position in (1, 2, 3):
            recorder.engine.request(request_of(CONTROLS, position))

    recorder.once(lambda result: isinstance(result, SliceLabels), hurry)
    recorder.engine.request(request_of(CONTROLS))
    assert recorder.engine.join(TIMEOUT)
    assert [one.generation for one in recorder.of(SliceLabels)] == [1, 4]
    generations = [result.generation for result in recorder.results]
    assert generations == sorted(generations)


def test_lines_over_a_slice_that_was_left_are_not_drawn(recorder: Recorder) -> None:
    outlines = {"show": Show.OUTLINES, "n_outlines": 1}
    recorder.once(
        lambda result: isinstance(result, SliceLabels),
        lambda: recorder.engine.request(request_of(CONTROLS, position=3, **outlines)),
    )
    recorder.engine.request(request_of(CONTROLS, **outlines))
    assert recorder.engine.join(TIMEOUT)
    assert [lines.generation for lines in recorder.of(Lines)] == [2]


def test_lines_are_drawn_while_a_slider_moves(recorder: Recorder) -> None:
    outlines = {"show": Show.OUTLINES, "n_outlines": 1}
    recorder.once(
        lambda result: isinstance(result, SliceLabels),
        lambda: recorder.engine.request(request_of(OTHER, **outlines)),
    )
    recorder.engine.request(request_of(CONTROLS, **outlines))
    assert recorder.engine.join(TIMEOUT)
    assert [lines.generation for lines in recorder.of(Lines)] == [1, 2]


def test_a_pass_over_the_volume_in_3d_is_finished_first(recorder: Recorder) -> None:
    first, second = (
        Request(controls, View(0, 0, volume=True), n_thumbnails=0, n_samples=2)
        for controls in (CONTROLS, OTHER)
    )
    recorder.once(slab(1), lambda: recorder.engine.request(second))
    recorder.engine.request(first)
    assert recorder.engine.join(TIMEOUT)
    slabs = recorder.of(SlabLabels)
    assert [one.generation for one in slabs] == [1] * 6 + [2] * 6
    assert [volumes.generation for volumes in recorder.of(ClassVolumes)] == [1, 2]


# The slice is used first, then each slab, the lattice of volumes, and each slab of a map.
@pytest.mark.parametrize(
    ("show", "n_uses"),
    [*[(Show.LABELS, n) for n in (1, 2, 5, 7, 8)], *[(Show.ENTROPY, n) for n in (1, 8, 9, 14)]],
)
def test_after_a_failure_everything_is_delivered(show: Show, n_uses: int) -> None:
    failing = FailingOnce(n_uses)
    recorder = Recorder(Engine(failing, 0.5, synchronous=True))
    request = Request(CONTROLS, View(0, 3, volume=True), show, n_samples=2, n_thumbnails=1)
    recorder.engine.request(request)
    assert [str(error) for error in recorder.failures] == ["the device failed"]
    recorder.results.clear()
    recorder.engine.request(request)
    assert len(recorder.failures) == 1
    kinds = {type(result) for result in recorder.results}
    maps = {MapRegion} if show is Show.ENTROPY else set()
    assert kinds == {SliceLabels, SlabLabels, ClassVolumes, VolumeSpread, Thumbnails} | maps
    expected = render_labels(failing, CONTROLS.noise, CONTROLS)
    np.testing.assert_array_equal(whole_volume(recorder.of(SlabLabels)), expected)
    (volumes,) = recorder.of(ClassVolumes)
    np.testing.assert_allclose(volumes.volumes_ml, 0.5 * np.bincount(expected.ravel()))
    seen = np.zeros(SHAPE, bool)
    for one in recorder.of(MapRegion):
        seen[one.region] = True
    assert seen.all() or show is Show.LABELS


def test_closing_while_busy_ends_the_work(recorder: Recorder) -> None:
    recorder.once(slab(1), recorder.engine.close)
    recorder.engine.request(request_of(CONTROLS))
    assert recorder.engine.join(TIMEOUT)
    assert len(recorder.of(SlabLabels)) == 2
    assert recorder.of(ClassVolumes) == []
    assert recorder.n_idle == 0
    recorder.results.clear()
    assert recorder.engine.request(request_of(CONTROLS)) == 2
    assert recorder.engine.join(TIMEOUT)
    assert recorder.engine.is_idle()
    assert recorder.results == []


def test_a_closed_engine_leaves_no_thread(distribution: LowRankNormal) -> None:
    before = set(threading.enumerate())
    engine = Engine(distribution, 0.5)
    (worker,) = set(threading.enumerate()) - before
    engine.close()
    worker.join(TIMEOUT)
    assert not worker.is_alive()


def test_an_engine_is_idle_after_its_last_result_only(recorder: Recorder) -> None:
    during: list[bool] = []
    recorder.once(slab(5), lambda: during.extend([recorder.engine.is_idle()]))
    recorder.once(slab(4), lambda: during.extend([recorder.engine.join(0)]))
    assert recorder.engine.is_idle()
    recorder.engine.request(request_of(CONTROLS))
    assert recorder.engine.join(TIMEOUT)
    assert during == [False, False]
    assert recorder.engine.is_idle()


def test_idle_is_said_once_for_what_took_several_requests(distribution: LowRankNormal) -> None:
    recorder = Recorder(Engine(distribution, 0.5, synchronous=True))
    recorder.once(slab(1), lambda: recorder.engine.request(request_of(OTHER)))
    recorder.engine.request(request_of(CONTROLS))
    assert recorder.n_idle == 1


def test_a_point_has_one_thumbnail_and_no_spread() -> None:
    recorder = Recorder(Engine(PointLogits(parameters()[0]), 0.5, synchronous=True))
    recorder.engine.request(Request(CONTROLS, View(1, 7)))
    (pictures,) = recorder.of(Thumbnails)
    assert list(pictures.labels) == [0]
    assert recorder.of(VolumeSpread) == []
    expected = parameters()[0].argmax(dim=0).numpy()
    np.testing.assert_array_equal(whole_volume(recorder.of(SlabLabels)), expected)


def tensor_bytes() -> int:
    gc.collect()
    storages = {
        one.untyped_storage().data_ptr(): one.untyped_storage().nbytes()
        for one in gc.get_objects()
        # Asking the object itself makes torch's deprecated ones warn.
        if issubclass(type(one), Tensor)
    }
    return sum(storages.values())


def test_300_requests_leave_memory_as_one_does(distribution: LowRankNormal) -> None:
    shown = (Show.LABELS, Show.OUTLINES, Show.CONTOURS, Show.ENTROPY, Show.AGREEMENT)
    small = distribution.crop((slice(0, 6), slice(0, 16), slice(0, 16)))
    engine = Engine(small, 0.5, synchronous=True)

    def ask(step: int) -> None:
        controls = Controls(seed=7, sample=step, temperature=step % 200 / 100)
        view, show = View(step % 3, step % 6), shown[step % len(shown)]
        engine.request(Request(controls, view, show, n_samples=3, n_outlines=2, n_thumbnails=1))

    for step in range(40):
        ask(step)
    before = tensor_bytes()
    for step in range(40, 339):
        ask(step)
    ask(39)
    assert tensor_bytes() <= before
