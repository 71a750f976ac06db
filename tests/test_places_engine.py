"""Hypotheses of a place and disputed regions, as the engine delivers them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from pydantic import ValidationError

from ambiguous import disks
from napari_structseg.controls import Controls
from napari_structseg.distributions import Noise, PointLogits
from napari_structseg.errors import InputError
from napari_structseg.render.disputed import disputed_regions
from napari_structseg.render.local_hypotheses import local_hypotheses
from napari_structseg.render.places import Place
from napari_structseg.render.volume_paths import volume_paths
from napari_structseg.session.engine import Engine
from napari_structseg.session.messages import (
    ClassVolumes,
    Disputed,
    HypothesesHere,
    LargerSmaller,
    Request,
    Result,
    Show,
    View,
)
from napari_structseg.session.placement import placed
from napari_structseg.session.resolve import Scene, resolve
from napari_structseg.session.state import ExplorerState

SHAPE = (6, 48, 40)
VOXEL_ML = 0.5
CONTROLS = Controls(seed=3)
PLACE = Place.of_region((slice(2, 3), slice(12, 36), slice(8, 32)))


class Recorder:
    """An engine and all it has delivered."""

    def __init__(self, distribution, **options: bool) -> None:
        self.engine = Engine(distribution, VOXEL_ML, **options)
        self.results: list[Result] = []
        self.engine.result.connect(self.results.append)

    def ask(self, controls: Controls = CONTROLS, **options) -> None:
        self.results.clear()
        self.engine.request(Request(controls, View(0, 2), **options))
        assert self.engine.join(60)

    def of(self, kind: type) -> list[Result]:
        return [result for result in self.results if isinstance(result, kind)]


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    recorder = Recorder(disks(SHAPE), synchronous=True)
    yield recorder
    recorder.engine.close()


def test_the_engine_says_what_a_place_could_be(recorder: Recorder) -> None:
    recorder.ask(here=PLACE)
    (told,) = recorder.of(HypothesesHere)
    expected = local_hypotheses(disks(SHAPE), CONTROLS, PLACE, VOXEL_ML)
    assert [one.samples for one in told.hypotheses.found] == [one.samples for one in expected.found]
    assert told.request.here == PLACE
    # Another sample is the same place of the same distribution; another temperature is not.
    recorder.ask(CONTROLS.model_copy(update={"sample": 4}), here=PLACE)
    assert not recorder.of(HypothesesHere)
    recorder.ask(CONTROLS.model_copy(update={"temperature": 0.0}), here=PLACE)
    (told,) = recorder.of(HypothesesHere)
    assert len(told.hypotheses.found) == 1


def test_the_engine_ranks_disputed_regions(recorder: Recorder) -> None:
    recorder.ask()
    assert not recorder.of(Disputed) + recorder.of(HypothesesHere)
    recorder.ask(disputed=True)
    (told,) = recorder.of(Disputed)
    noises = [Noise(3, sample) for sample in range(1, 21)]
    expected = disputed_regions(disks(SHAPE), noises, (1.0, 1.0), VOXEL_ML)
    assert expected
    assert [(one.box, one.disagreement_ml) for one in told.regions] == [
        (one.box, one.disagreement_ml) for one in expected
    ]
    assert told.exact
    recorder.ask(disputed=True, show=Show.ENTROPY)
    assert not recorder.of(Disputed)


def test_an_interrupted_search_goes_on() -> None:
    """A newer request about something else leaves what was counted of the image in place."""
    recorder = Recorder(disks((40, 48, 40)))
    try:
        for position in range(12):
            recorder.engine.request(Request(CONTROLS, View(0, position), disputed=True))
        assert recorder.engine.join(60)
        (told,) = recorder.of(Disputed)
        noises = [Noise(3, sample) for sample in range(1, 21)]
        expected = disputed_regions(disks((40, 48, 40)), noises, (1.0, 1.0), VOXEL_ML)
        assert [one.extent_ml for one in told.regions] == [one.extent_ml for one in expected]
    finally:
        recorder.engine.close()


def test_without_spread_nothing_is_disputed_and_one_thing_is_here() -> None:
    mean = disks(SHAPE).mean()
    recorder = Recorder(PointLogits(mean), synchronous=True)
    recorder.ask(here=PLACE, disputed=True)
    (told,) = recorder.of(Disputed)
    assert told.regions == ()
    (here,) = recorder.of(HypothesesHere)
    assert len(here.hypotheses.found) == 1
    recorder.engine.close()


def test_places_are_those_of_the_image(recorder: Recorder) -> None:
    region = (slice(4, 10), slice(10, 58), slice(0, 40))
    recorder.ask(here=PLACE, disputed=True)
    (here,), (list_of,) = recorder.of(HypothesesHere), recorder.of(Disputed)
    moved = placed(here, region)
    assert moved.hypotheses.place == PLACE.outside(region)
    assert moved.hypotheses.place.inside(region) == PLACE
    first, second = list_of.regions[0], placed(list_of, region).regions[0]
    assert second.centre == tuple(np.add(first.centre, (4, 10, 0)))


def test_the_engine_finds_the_ways_to_larger_and_smaller(recorder: Recorder) -> None:
    recorder.ask()
    assert not recorder.of(LargerSmaller)
    recorder.ask(paths=True)
    (told,) = recorder.of(LargerSmaller)
    expected = volume_paths(disks(SHAPE), CONTROLS, VOXEL_ML)
    assert [list(one.volumes_ml) for one in told.paths] == [
        list(one.volumes_ml) for one in expected
    ]
    # What is chosen along the way is a picture like any other, and the way stays the same.
    larger = told.paths[1].chosen_at(CONTROLS, 2.0)
    recorder.ask(larger, paths=True)
    assert not recorder.of(LargerSmaller)
    (volumes,) = recorder.of(ClassVolumes)
    assert volumes.volumes_ml[1] == pytest.approx(told.paths[1].volume_at(2.0))


# --- the state


def test_nothing_is_looked_for_unless_its_section_is_open() -> None:
    state = ExplorerState()
    state.correction.here = PLACE
    scene = Scene(View())
    request = resolve(state, scene)
    assert request.here is None
    assert not request.disputed
    assert not request.paths
    state.display.open_sections |= {"here", "disputed", "larger"}
    request = resolve(state, scene)
    assert request.here == PLACE
    assert request.disputed
    assert request.paths


def test_a_position_of_the_factors_is_chosen_like_a_latent_one() -> None:
    state = ExplorerState()
    state.controls.latent = (1.0, -0.5)
    assert resolve(state, Scene(View(), n_coordinates=2)).controls.latent == (1.0, -0.5)
    assert resolve(state, Scene(View(), n_coordinates=3)).controls.latent == ()


def test_a_place_is_seen_from_the_region_that_was_segmented() -> None:
    state = ExplorerState()
    state.display.open_sections |= {"here"}
    state.correction.here = PLACE
    cut = Scene(View(), region=(slice(2, 5), slice(20, 48), slice(0, 40)))
    request = resolve(state, cut)
    assert request.here == Place.of_region((slice(0, 1), slice(0, 16), slice(8, 32)))
    beside = Scene(View(), region=(slice(3, 5), slice(0, 48), slice(0, 40)))
    assert resolve(state, beside).here is None


def test_a_place_is_a_text_in_json() -> None:
    state = ExplorerState()
    mask = np.random.default_rng(0).random((1, 24, 24)) < 0.5
    state.correction.here = Place(PLACE.region, mask)
    again = ExplorerState.model_validate_json(state.model_dump_json())
    assert again == state
    assert np.array_equal(again.correction.here.mask, mask)
    assert hash(again.correction.here) == hash(state.correction.here)
    assert again.correction.here != PLACE


@pytest.mark.parametrize(
    "text", ["", "here", "1-3x4-6:", "1-3x4-6:####", "3-1x4-6:eJz7AAAA8QDx", "0-9999999999999:eJw="]
)
def test_another_text_is_no_place(text: str) -> None:
    with pytest.raises(InputError, match="A place was expected"):
        Place.from_json(text)
    with pytest.raises(ValidationError):
        ExplorerState().correction.here = text
