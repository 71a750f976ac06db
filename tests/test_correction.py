"""The user's own result: what actions change, what locks keep, and undo as exact copies."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from correction_helpers import N_CLASSES, SHAPES, act, act_or_undo, labelling, snapshot, strokes_of
from napari_structseg.correction.actions import Correction
from napari_structseg.correction.components import component_at
from napari_structseg.correction.differences import StrokesDifference, VolumeDifference
from napari_structseg.correction.entries import Changed, Event
from napari_structseg.correction.past import MOST_STEPS
from napari_structseg.distributions import Strokes
from napari_structseg.errors import InputError


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(4))
def test_undo_and_redo_give_exactly_what_was_there(shape: tuple[int, ...], seed: int) -> None:
    random = np.random.default_rng(seed)
    correction = Correction(shape, N_CLASSES, labels=labelling(seed, shape))
    # States by the number of what is done; what a new action cuts off is forgotten.
    states = [snapshot(correction)]
    position = 0
    for _ in range(120):
        choice = random.random()
        if choice < 0.6:
            act(correction, random)
            if len(correction.past.done) > position:
                del states[position + 1 :]
                states.append(snapshot(correction))
                position += 1
        elif choice < 0.85:
            assert (correction.undo() is not None) == (position > 0)
            position = max(0, position - 1)
        else:
            assert (correction.redo() is not None) == (position < len(states) - 1)
            position = min(len(states) - 1, position + 1)
        assert snapshot(correction) == states[position]
    counts = np.bincount(correction.result.labels.ravel(), minlength=N_CLASSES)
    assert np.array_equal(correction.result.counts, counts)


@pytest.mark.parametrize("seed", range(3))
def test_a_replica_that_replays_the_events_is_the_same(seed: int) -> None:
    random = np.random.default_rng(seed)
    shape = SHAPES[0]
    correction, replica = Correction(shape, N_CLASSES), Correction(shape, N_CLASSES)
    correction.recorded.connect(replica.replay)
    for _ in range(60):
        act_or_undo(correction, random)
    assert snapshot(replica) == snapshot(correction)
    assert replica.past.done == correction.past.done
    assert replica.past.undone == correction.past.undone


@pytest.mark.parametrize("seed", range(5))
def test_nothing_but_the_users_hand_overwrites_what_is_locked(seed: int) -> None:
    random = np.random.default_rng(seed)
    correction = Correction(SHAPES[0], N_CLASSES, labels=labelling(seed))
    correction.lock_class(2, name="lock class 2")
    box = (slice(1, 3), slice(0, 4), slice(2, 7))
    correction.lock_region(box, name="lock a box")
    before = correction.result.labels.copy()
    locked = before == 2
    locked[box] = True
    other = labelling(seed + 100)
    correction.accept(other, name="accept all")
    assert np.array_equal(correction.result.labels, np.where(locked, before, other))
    for _ in range(10):
        voxel = [int(random.integers(size)) for size in SHAPES[0]]
        correction.accept_component(labelling(seed + 200), voxel, name="accept component")
    assert np.array_equal(correction.result.labels[locked], before[locked])

    voxels = np.flatnonzero(locked)
    correction.paint(voxels, 0)
    assert not correction.result.labels[locked].any()


def test_unlocked_voxels_are_overwritten_again() -> None:
    correction = Correction(SHAPES[0], N_CLASSES)
    correction.lock_class(0, name="lock background")
    assert correction.accept(labelling(1), name="accept") is None
    correction.lock_class(0, is_locked=False, name="unlock background")
    mask = np.ones(SHAPES[0], bool)
    correction.lock_region(mask, name="lock all")
    assert correction.accept(labelling(1), name="accept") is None
    correction.lock_region(mask, is_locked=False, name="unlock all")
    correction.accept(labelling(1), name="accept")
    assert np.array_equal(correction.result.labels, labelling(1))


def test_every_action_is_one_named_entry_and_tells_where() -> None:
    correction = Correction(SHAPES[0], N_CLASSES)
    told: list[Changed] = []
    events: list[Event] = []
    correction.changed.connect(told.append)
    correction.recorded.connect(events.append)
    mask = np.zeros(SHAPES[0], bool)
    mask[2, 3, 1:5] = True
    ones = np.ones(SHAPES[0], np.uint8)

    correction.accept(ones, region=mask, name="accept lesion 3 from sample 12")
    assert correction.past.undo_name == "accept lesion 3 from sample 12"
    assert told == [
        Changed((slice(2, 3), slice(3, 4), slice(1, 5)), None, locked_classes=False, strokes=False)
    ]
    assert correction.accept(ones, region=mask, name="again") is None
    correction.undo()
    assert correction.past.undo_name is None
    assert correction.past.redo_name == "accept lesion 3 from sample 12"
    correction.redo()
    assert [event.kind for event in events] == ["do", "undo", "redo"]
    assert told[1:] == told[:1] * 2


def test_what_was_done_before_all_that_can_be_undone_stays_on_record() -> None:
    correction = Correction((3, 3), N_CLASSES)
    n_actions = MOST_STEPS + 5
    for number in range(n_actions):
        label = 1 + number % 3
        correction.paint(np.array([number % 9, (number + 1) % 9]), label, name=f"paint {number}")
    assert len(correction.past.done) == MOST_STEPS >= 100
    assert [step.name for step in correction.past.steps] == [
        f"paint {number}" for number in range(n_actions)
    ]
    while correction.undo():
        pass
    assert [step.name for step in correction.past.steps] == [f"paint {n}" for n in range(5)]


def test_voxels_that_touch_at_a_corner_are_neighbours_where_asked() -> None:
    labels = np.zeros((4, 4, 4), np.uint8)
    labels[0, 0, 0] = labels[1, 1, 1] = labels[1, 1, 2] = 1
    labels[3, 3, 3] = 1
    faces = component_at(labels, (1, 1, 1))
    corners = component_at(labels, (1, 1, 1), diagonal=True)
    assert np.argwhere(faces).tolist() == [[1, 1, 1], [1, 1, 2]]
    assert np.argwhere(corners).tolist() == [[0, 0, 0], [1, 1, 1], [1, 1, 2]]
    flat = component_at(labels[1], (1, 1))
    assert np.argwhere(flat).tolist() == [[1, 1], [1, 2]]


@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("shape", [(90, 70), (30, 40, 50)])
def test_components_are_those_of_the_whole_image(shape: tuple[int, ...], diagonal: bool) -> None:
    random = np.random.default_rng(len(shape))
    # At this density, components are neither single voxels nor everything.
    density = {(2, False): 0.58, (2, True): 0.4, (3, False): 0.31, (3, True): 0.1}
    labels = (random.random(shape) < density[len(shape), diagonal]).astype(np.uint8)
    structure = ndimage.generate_binary_structure(len(shape), len(shape) if diagonal else 1)
    numbered = ndimage.label(labels, structure)[0]
    sizes = np.bincount(numbered.ravel())[1:]
    for number in (*np.argsort(sizes)[-4:], *np.argsort(sizes)[:4]):
        expected = numbered == number + 1
        voxel = tuple(random.permutation(np.argwhere(expected))[0])
        assert np.array_equal(component_at(labels, voxel, diagonal=diagonal), expected)


def test_an_accepted_component_is_as_it_is_in_the_labelling() -> None:
    mine, other = (np.zeros((1, 8, 8), np.uint8) for _ in range(2))
    mine[0, 1:5, 1:5] = 1
    mine[0, 6:, 6:] = 1
    other[0, 2:4, 2:4] = 1
    other[0, 4, 4] = 2
    other[0, 0, 7] = 3
    correction = Correction(mine.shape, N_CLASSES, labels=mine)
    correction.accept_component(other, (0, 2, 2), name="accept the smaller one")
    expected = other.copy()
    expected[0, 6:, 6:] = 1
    expected[0, 0, 7] = 0
    assert np.array_equal(correction.result.labels, expected)


def test_a_component_that_the_labelling_lacks_goes() -> None:
    mine = np.zeros((1, 8, 8), np.uint8)
    mine[0, 1:5, 1:5] = 1
    mine[0, 6:, 6:] = 1
    correction = Correction(mine.shape, N_CLASSES, labels=mine)
    nothing = np.zeros_like(mine)
    correction.accept_component(nothing, (0, 2, 2), name="there is none")
    assert correction.result.counts.tolist() == [60, 4, 0, 0]
    assert correction.accept_component(nothing, (0, 0, 0), name="background") is None


def test_what_a_tool_has_painted_is_one_entry_and_the_array_stays_the_same() -> None:
    correction = Correction(SHAPES[0], N_CLASSES)
    array = correction.result.labels
    flat = array.reshape(-1)
    # A brush that passes over voxel 7 a second time finds what it has painted there.
    voxels, before = np.array([7, 8, 7]), np.array([0, 0, 1])
    flat[[7, 8]] = 2
    correction.painted(voxels, before, name="brush")
    assert correction.result.counts[2] == 2
    correction.undo()
    assert not array.any()
    correction.redo()
    assert np.flatnonzero(array).tolist() == [7, 8]
    assert correction.result.labels is array


def test_a_class_that_does_not_exist_is_refused_and_changes_nothing() -> None:
    correction = Correction(SHAPES[0], N_CLASSES)
    told: list[Changed] = []
    correction.changed.connect(told.append)
    flat = correction.result.labels.reshape(-1)
    flat[3] = N_CLASSES
    with pytest.raises(InputError, match="Classes from 0 to 3"):
        correction.painted(np.array([3]), np.array([0]))
    assert not correction.result.labels.any()
    assert told
    with pytest.raises(InputError, match="Classes from 0 to 3"):
        correction.accept(np.full(SHAPES[0], 9), name="accept")
    with pytest.raises(InputError, match="shape"):
        correction.accept(np.zeros((2, 2), np.uint8), name="accept")
    with pytest.raises(InputError, match="outside the image"):
        correction.paint(np.array([10**6]), 1)
    with pytest.raises(InputError, match="inside the image"):
        correction.accept_component(labelling(0), (0, 0, 99), name="accept")
    with pytest.raises(InputError, match="Strokes"):
        correction.set_strokes(Strokes.none((2, 2)), name="condition")
    assert not correction.past.done


@pytest.mark.parametrize("n_labels", [2, 5, 256])
# The last one is larger than what is worked on at a time, and no multiple of 8.
@pytest.mark.parametrize("shape", [(6, 7, 9), (11, 211, 301)])
def test_a_difference_turns_either_array_into_the_other(
    shape: tuple[int, ...], n_labels: int
) -> None:
    random = np.random.default_rng(n_labels)
    before, after = (random.integers(0, n_labels, shape).astype(np.uint8) for _ in range(2))
    change = VolumeDifference.between(before, after)
    assert change is not None
    array = before.copy()
    change.apply(array)
    assert np.array_equal(array, after)
    change.apply(array)
    assert np.array_equal(array, before)
    assert VolumeDifference.between(before, before) is None


@pytest.mark.parametrize("seed", range(5))
def test_a_difference_of_strokes_turns_either_into_the_other(seed: int) -> None:
    before, after = (strokes_of(seed + add, SHAPES[0]) for add in (0, 50))
    change = StrokesDifference.between(before, after)
    assert change is not None
    assert change.apply(before) == after
    assert change.apply(after) == before
    assert StrokesDifference.between(before, before) is None
    if seed == 0:
        # A stroke of class 255 is none of class 0.
        last = Strokes((4,), np.array([1]), np.array([255], np.uint8))
        new = StrokesDifference.between(Strokes.none((4,)), last)
        assert new is not None
        assert new.apply(Strokes.none((4,))) == last
