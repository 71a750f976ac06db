"""What was done and can be undone, and what was undone and can be done again."""

from __future__ import annotations

from napari_structseg.correction.entries import Entry, Step

MOST_STEPS = 200
"""So many actions can be undone."""


class Past:
    """The entries of a history, in order. It changes nothing but itself.

    Attributes
    ----------
    done
        What can be undone, the last one last.
    undone
        What can be done again, the next one last.
    beyond_undo
        What was done before all that can be undone.
    """

    def __init__(self) -> None:
        self.done: list[Entry] = []
        self.undone: list[Entry] = []
        self.beyond_undo: list[Step] = []

    @property
    def steps(self) -> tuple[Step, ...]:
        """Everything that has led to what there is, the first one first."""
        return (*self.beyond_undo, *(Step(one.name, one.details) for one in self.done))

    @property
    def undo_name(self) -> str | None:
        """Name of the action that would be undone; None: there is none."""
        return self.done[-1].name if self.done else None

    @property
    def redo_name(self) -> str | None:
        """Name of the action that would be done again; None: there is none."""
        return self.undone[-1].name if self.undone else None

    def copy(self) -> Past:
        """The same, with lists of its own."""
        other = Past()
        other.done += self.done
        other.undone += self.undone
        other.beyond_undo += self.beyond_undo
        return other

    def add(self, entry: Entry) -> None:
        """Something was done: what was undone before cannot be done again."""
        self.done.append(entry)
        self.undone.clear()
        beyond = self.done[:-MOST_STEPS]
        self.beyond_undo += (Step(one.name, one.details) for one in beyond)
        del self.done[: len(beyond)]

    def step_back(self) -> None:
        """The last action was undone."""
        self.undone.append(self.done.pop())

    def step_forward(self) -> None:
        """What was undone last was done again."""
        self.done.append(self.undone.pop())
