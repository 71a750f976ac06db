"""What history is made of: one named entry for each action."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from napari_structseg.correction.differences import StrokesDifference, VolumeDifference
from napari_structseg.distributions.region import Region

EventKind = Literal["do", "undo", "redo"]

Json = str | int | float | bool | None | list["Json"] | dict[str, "Json"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One action: what it is called, and what it has changed.

    Attributes
    ----------
    name
        As it stands after "Undo: ".
    details
        What else is known of it, for records: which model, which controls. As JSON has it.
    labels, locked
        Changes of the labels of the result, and of its locked regions; None: there are none.
    gains
        Voxels that each class has gained, ``(C,)``; negative: lost.
    locked_classes
        Which classes were locked before, and which after; None: the same.
    strokes
        Changes of the strokes; None: there are none.
    """

    name: str
    details: Mapping[str, Json] = field(default_factory=dict)
    labels: VolumeDifference | None = None
    gains: tuple[int, ...] = ()
    locked: VolumeDifference | None = None
    locked_classes: tuple[frozenset[int], frozenset[int]] | None = None
    strokes: StrokesDifference | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing has changed."""
        parts = (self.labels, self.locked, self.locked_classes, self.strokes)
        return all(part is None for part in parts)

    @property
    def n_bytes(self) -> int:
        """Memory of its differences."""
        parts = (self.labels, self.locked, self.strokes)
        return sum(part.n_bytes for part in parts if part is not None)


@dataclass(frozen=True, slots=True)
class Step:
    """An action of which only the record is left."""

    name: str
    details: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Event:
    """Something was done, undone or done again.

    Attributes
    ----------
    kind
        Which of these.
    entry
        The action.
    """

    kind: EventKind
    entry: Entry


@dataclass(frozen=True, slots=True)
class Changed:
    """What is another than before.

    Attributes
    ----------
    labels, locked
        Box of the changed voxels; None: there are none.
    locked_classes, strokes
        Whether these are others.
    """

    labels: Region | None
    locked: Region | None
    locked_classes: bool
    strokes: bool
