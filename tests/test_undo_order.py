"""Sliders and the user's own result are undone in the order in which things were done."""

from __future__ import annotations

import numpy as np
import pytest

from napari_structseg.correction.actions import Correction
from napari_structseg.session.history import History
from napari_structseg.session.state import ExplorerState
from napari_structseg.session.undo_order import SLIDERS, UndoOrder


class Both:
    """A state, a correction, and one order for both; every change of the state is an action."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.state = ExplorerState()
        self.correction = Correction((2, 5), 3)
        self.history = History(self.state, clock=lambda: self.seconds)
        self.order = UndoOrder(self.history, self.correction)

    def slide(self, temperature: float) -> None:
        self.seconds += 10
        self.state.controls.temperature = temperature

    def paint(self, voxel: int) -> None:
        self.correction.paint(np.array([voxel]), 1, name=f"paint {voxel}")

    @property
    def there(self) -> tuple[float, list[int]]:
        painted = np.flatnonzero(self.correction.result.labels).tolist()
        return self.state.controls.temperature, painted


@pytest.fixture
def both() -> Both:
    both = Both()
    both.slide(1.5)
    both.paint(3)
    both.slide(2.0)
    both.paint(7)
    return both


def test_what_was_done_last_is_undone_first(both: Both) -> None:
    assert both.order.undo_name == "paint 7"
    assert [both.order.undo() for _ in range(5)] == ["paint 7", SLIDERS, "paint 3", SLIDERS, None]
    assert both.there == (1.0, [])
    assert [both.order.redo() for _ in range(5)] == [SLIDERS, "paint 3", SLIDERS, "paint 7", None]
    assert both.there == (2.0, [3, 7])


def test_something_new_in_either_ends_what_could_be_done_again(both: Both) -> None:
    both.order.undo()
    both.order.undo()
    assert both.there == (1.5, [3])
    both.paint(5)
    assert both.order.redo_name is None
    assert both.order.redo() is None
    assert both.there == (1.5, [3, 5])
    assert both.order.undo() == "paint 5"


def test_one_that_is_undone_by_itself_is_followed(both: Both) -> None:
    both.correction.undo()
    assert both.order.undo_name == SLIDERS
    assert both.order.redo_name == "paint 7"
    assert both.order.redo() == "paint 7"
    both.history.undo()
    assert both.order.undo_name == "paint 7"


def test_sliders_of_another_picture_are_forgotten(both: Both) -> None:
    both.order.undo()
    both.order.undo()
    both.history.forget()
    assert both.order.redo_name == "paint 7"
    assert both.order.undo() == "paint 3"
    assert both.order.undo() is None
    assert both.there == (1.5, [])


def test_a_closed_order_follows_no_longer(both: Both) -> None:
    both.order.close()
    both.slide(0.5)
    # It still says the name of the action that it followed last.
    assert both.order.undo_name == "paint 7"
