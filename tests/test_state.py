"""The state: one evented model that round-trips through JSON, resolved by pure functions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from napari_structseg.controls import Controls
from napari_structseg.distributions import Strokes
from napari_structseg.prediction.region_of_interest import RegionOfInterest
from napari_structseg.refine.changes import Changes
from napari_structseg.session.messages import Modes, Show, View
from napari_structseg.session.resolve import Part, Scene, difference, resolve
from napari_structseg.session.state import ExplorerState, LatentPosition, Mean, Sample


def test_what_is_chosen_is_one_field() -> None:
    controls = ExplorerState().controls
    controls.sample = 3
    assert controls.chosen == Sample(number=3)
    controls.latent = (0.5, -1)
    assert controls.chosen == LatentPosition(position=(0.5, -1))
    assert controls.sample == 0
    controls.latent = ()
    assert controls.chosen == Mean()
    assert controls.latent == ()


def test_every_change_is_told_with_its_name() -> None:
    state, told = ExplorerState(), []
    state.changed.connect(lambda name, value: told.append((name, value)))
    state.controls.temperature = 1.4
    state.controls.temperature = 1.4
    state.controls.sample = 2
    state.display.show = Show.ENTROPY
    state.source.model = "brain-tissue"
    assert told == [
        ("controls.temperature", 1.4),
        ("controls.chosen", Sample(number=2)),
        ("display.show", Show.ENTROPY),
        ("source.model", "brain-tissue"),
    ]


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("controls", "temperature", 3.5),
        ("controls", "temperature", float("nan")),
        ("controls", "sample", -1),
        ("controls", "latent", (99.0,)),
        ("controls", "warmth", 1),
        ("display", "show", "smell"),
        ("display", "n_thumbnails", -1),
        ("display", "hidden_classes", frozenset({-1})),
        ("display", "class_opacity", (1.0, 1.5)),
        ("source", "spacing", (1.0, 0.0)),
        ("source", "roi", "everything"),
        ("correction", "strokes", "a few"),
        ("correction", "strokes", 3),
    ],
)
def test_what_is_not_valid_changes_nothing(part: str, field: str, value: object) -> None:
    state, told = ExplorerState(), []
    state.changed.connect(lambda *change: told.append(change))
    with pytest.raises((ValidationError, ValueError)):
        setattr(getattr(state, part), field, value)
    assert not told
    assert state == ExplorerState()


@st.composite
def states(draw) -> ExplorerState:
    state = ExplorerState()
    state.controls.temperature = draw(st.floats(0, 3))
    state.controls.class_scale = tuple(draw(st.lists(st.floats(-3, 3), max_size=4)))
    state.controls.sample = draw(st.integers(0, 5))
    if draw(st.booleans()):
        state.controls.latent = tuple(draw(st.lists(st.floats(-9, 9), min_size=1, max_size=3)))
    state.controls.iterations = draw(st.integers(0, 50))
    state.display.show = draw(st.sampled_from(Show))
    state.display.modes = draw(st.sampled_from(Modes))
    state.display.changes = draw(st.sampled_from(Changes))
    names = ["hypotheses", "samples", "neighbours"]
    state.display.open_sections = draw(st.frozensets(st.sampled_from(names)))
    state.display.hidden_classes = draw(st.frozensets(st.integers(0, 255)))
    state.display.class_opacity = tuple(draw(st.lists(st.floats(0, 1), max_size=4)))
    state.display.orientation_letters = draw(st.booleans())
    state.source.spacing = draw(st.none() | st.just((2.0, 0.5, 0.5)))
    state.source.image = draw(st.none() | st.text())
    state.source.intensity_window = draw(st.none() | st.just((-10.0, 200.0)))
    voxels = np.array(sorted(draw(st.frozensets(st.integers(0, 119), max_size=4))), np.int64)
    labels = (voxels % 3).astype(np.uint8)
    state.correction.strokes = draw(st.none() | st.just(Strokes((4, 5, 6), voxels, labels)))
    if draw(st.booleans()):
        state.source.roi = RegionOfInterest(axis="y", start=3, count=2, box=((1, 6), (4, 20)))
    return state


@given(states())
def test_it_round_trips_through_json(state: ExplorerState) -> None:
    text = state.model_dump_json()
    assert ExplorerState.model_validate_json(text) == state
    assert ExplorerState.model_validate_json(text).model_dump_json() == text
    other = ExplorerState()
    other.restore(text)
    assert other == state


def test_a_damaged_state_restores_nothing() -> None:
    state = ExplorerState()
    state.controls.sample = 4
    before = state.model_dump_json()
    with pytest.raises(ValidationError):
        state.restore(before.replace('"temperature":1.0', '"temperature":99'))
    assert state.model_dump_json() == before


@given(states(), states())
def test_frozen_controls_come_back(state: ExplorerState, other: ExplorerState) -> None:
    controls = state.controls.frozen()
    assert isinstance(controls, Controls)
    other.controls.take(controls)
    assert other.controls.frozen() == controls


def test_a_hidden_class_keeps_its_opacity() -> None:
    display = ExplorerState().display
    assert display.opacities(3) == (1, 1, 1)
    display.class_opacity = (1, 0.5, 0.2)
    display.hidden_classes = frozenset({2, 7})
    assert display.opacities(3) == (1, 0.5, 0)
    # Of another model.
    assert display.opacities(2) == (1, 1)
    display.hidden_classes = frozenset()
    assert display.opacities(3) == (1, 0.5, 0.2)


# --- what a state asks for


SLICE = Scene(View(0, 5), n_classes=3, n_latents=2, has_prior=True)


@given(states())
def test_a_request_is_one_the_scene_can_answer(state: ExplorerState) -> None:
    bare = Scene(View(0, 0, volume=True), n_classes=3, is_stochastic=False)
    request = resolve(state, bare)
    assert request.controls.sample == 0
    assert request.controls.latent == ()
    assert not request.controls.refines
    assert len(request.controls.class_scale) in (0, 3)
    assert request.show not in (Show.OUTLINES, Show.CONTOURS)
    assert request.changes is Changes.NONE
    # Nothing of the state was touched.
    assert state == ExplorerState.model_validate_json(state.model_dump_json())


def test_hypotheses_are_looked_for_where_their_section_is_open() -> None:
    state = ExplorerState()
    assert resolve(state, SLICE).modes is Modes.NONE
    state.display.open_sections |= {"hypotheses"}
    assert resolve(state, SLICE).modes is Modes.AUTO


def test_changes_belong_to_labels_that_are_refined() -> None:
    state = ExplorerState()
    state.display.changes = next(one for one in Changes if one is not Changes.NONE)
    assert resolve(state, SLICE).changes is Changes.NONE
    state.controls.iterations = 3
    assert resolve(state, SLICE).changes is state.display.changes
    state.display.show = Show.ENTROPY
    assert resolve(state, SLICE).changes is Changes.NONE


# --- what a change recomputes


_PICTURE = {Part.SLICE, Part.VOLUME, Part.CLASS_VOLUMES}


@pytest.mark.parametrize(
    ("part", "field", "value", "again"),
    [
        ("controls", "sample", 2, _PICTURE),
        ("controls", "latent", (1.0, 0.0), _PICTURE),
        (
            "controls",
            "temperature",
            0.5,
            {Part.THUMBNAILS, Part.SPREAD},
        ),
        ("display", "show", Show.ENTROPY, {Part.OVERLAY}),
        ("display", "n_thumbnails", 14, {Part.THUMBNAILS}),
        ("display", "open_sections", frozenset({"hypotheses"}), {Part.MODES, Part.MODE_THUMBNAILS}),
        ("display", "modes", Modes.TWO, set()),
        ("source", "model", "another", set()),
    ],
)
def test_a_change_recomputes_what_depends_on_it(
    part: str, field: str, value: object, again: set[Part]
) -> None:
    state = ExplorerState()
    before = resolve(state, SLICE)
    setattr(getattr(state, part), field, value)
    assert difference(before, resolve(state, SLICE)) == again


def test_another_slice_leaves_the_volume_alone() -> None:
    state = ExplorerState()
    state.display.show = Show.CONTOURS
    before = resolve(state, SLICE)
    after = resolve(state, Scene(View(0, 6), n_classes=3, n_latents=2, has_prior=True))
    assert difference(before, after) == {Part.SLICE, Part.OVERLAY, Part.THUMBNAILS}


@given(states())
def test_nothing_changed_recomputes_nothing(state: ExplorerState) -> None:
    request = resolve(state, SLICE)
    assert difference(request, resolve(state, SLICE)) == frozenset()
    assert difference(None, request) == frozenset(Part)
