"""Undo and redo of the controls."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from napari_structseg.session.history import History
from napari_structseg.session.state import ExplorerState


class Clock:
    """Time goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_drag_is_one_action() -> None:
    state, clock = ExplorerState(), Clock()
    history = History(state, clock)
    for temperature in (1.1, 1.2, 1.3):
        clock.now += 0.1
        state.controls.temperature = temperature
    state.controls.sample = 3
    clock.now += 10
    state.controls.sample = 4
    for wanted in ((1.3, 3), (1.3, 0), (1.0, 0)):
        assert history.undo()
        assert (state.controls.temperature, state.controls.sample) == wanted
    assert not history.undo()
    for wanted in ((1.3, 0), (1.3, 3), (1.3, 4)):
        assert history.redo()
        assert (state.controls.temperature, state.controls.sample) == wanted
    assert not history.redo()


def test_what_is_done_after_an_undo_cannot_be_redone() -> None:
    state = ExplorerState()
    history = History(state, Clock())
    state.controls.temperature = 2
    assert history.undo()
    state.controls.seed = 9
    assert not history.redo()
    assert state.controls.temperature == 1


def test_only_controls_are_undone() -> None:
    state = ExplorerState()
    history = History(state, Clock())
    state.display.n_thumbnails = 14
    assert not history.undo()
    state.controls.seed = 9
    history.forget()
    assert not history.undo()
    assert state.controls.seed == 9


@given(st.lists(st.tuples(st.sampled_from(["sample", "seed"]), st.integers(0, 9)), max_size=12))
def test_all_that_was_done_can_be_undone_and_redone(moves: list[tuple[str, int]]) -> None:
    state, clock = ExplorerState(), Clock()
    history = History(state, clock)
    seen = [state.controls.frozen()]
    for field, value in moves:
        clock.now += 5
        setattr(state.controls, field, value)
        if state.controls.frozen() != seen[-1]:
            seen.append(state.controls.frozen())
    for before in reversed(seen[:-1]):
        assert history.undo()
        assert state.controls.frozen() == before
    assert not history.undo()
    for after in seen[1:]:
        assert history.redo()
        assert state.controls.frozen() == after
