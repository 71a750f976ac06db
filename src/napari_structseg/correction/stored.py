"""What the records of a journal hold, and how entries of the history become bytes and back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from napari_structseg.correction.differences import StrokesDifference, VolumeDifference
from napari_structseg.correction.entries import Entry, EventKind, Step
from napari_structseg.correction.identity import ImageIdentity
from napari_structseg.errors import InputError
from napari_structseg.models import ClassSpec

Count = Annotated[int, Field(ge=0, lt=2**62)]
Label = Annotated[int, Field(ge=0, le=255)]


class _Stored(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SessionHeader(_Stored):
    """What a session is about."""

    format_version: Literal[1] = 1
    program: str = Field(description="Version of this program that began the session.")
    created: str = Field(description="When, in UTC, as ISO 8601 has it.")
    image: ImageIdentity
    classes: tuple[ClassSpec, ...] = Field(
        min_length=1, max_length=256, description="Name and colour of label 0, 1, ..."
    )


class StoredVolume(_Stored):
    """A :class:`VolumeDifference`; its planes are packed bytes of these lengths."""

    starts: tuple[Count, ...]
    sizes: tuple[Annotated[Count, Field(ge=1)], ...]
    planes: tuple[Count, ...] = Field(min_length=1, max_length=8)


class StoredStrokes(_Stored):
    """A :class:`StrokesDifference`; voxels and values are packed bytes of these lengths."""

    n_voxels: Count
    voxels: Count
    values: Count


class StoredEntry(_Stored):
    """An :class:`Entry`, apart from the packed bytes of its differences."""

    name: str
    details: Mapping[str, JsonValue] = Field(default_factory=dict)
    labels: StoredVolume | None = None
    gains: tuple[int, ...] = ()
    locked: StoredVolume | None = None
    locked_classes: tuple[tuple[Label, ...], tuple[Label, ...]] | None = None
    strokes: StoredStrokes | None = None


class StoredStep(_Stored):
    """A :class:`Step`."""

    name: str
    details: Mapping[str, JsonValue] = Field(default_factory=dict)


class Action(_Stored):
    """Something was done, undone or done again."""

    number: Count = Field(description="The first action of a session is 1.")
    kind: EventKind
    entry: StoredEntry | None = Field(description="None where something earlier was undone.")


class Snapshot(_Stored):
    """Everything there is, so that nothing before it is needed."""

    content: StoredEntry = Field(description="What makes it of an empty result.")
    done: tuple[StoredEntry, ...]
    undone: tuple[StoredEntry, ...]
    beyond_undo: tuple[StoredStep, ...]


class Note(_Stored):
    """What was chosen, as JSON of whoever chose; None: as before."""

    state: str | None = None
    recipe: str | None = None


class Numbers(_Stored):
    """How many actions there are up to here, and how many of them are in a file of the user."""

    number: Count
    saved: Count


def stored_entry(entry: Entry) -> tuple[StoredEntry, list[bytes]]:
    """An entry as a record holds it: JSON, and packed bytes in their order."""
    packed: list[bytes] = []
    volumes: list[StoredVolume | None] = []
    for change in (entry.labels, entry.locked):
        if change is None:
            volumes.append(None)
            continue
        lengths = tuple(len(plane) for plane in change.planes)
        volumes.append(StoredVolume(starts=change.starts, sizes=change.sizes, planes=lengths))
        packed += change.planes
    strokes = None
    if entry.strokes is not None:
        parts = (entry.strokes.voxels, entry.strokes.values)
        strokes = StoredStrokes(
            n_voxels=entry.strokes.n_voxels, voxels=len(parts[0]), values=len(parts[1])
        )
        packed += parts
    locked_classes = None
    if entry.locked_classes is not None:
        before, after = (tuple(sorted(one)) for one in entry.locked_classes)
        locked_classes = (before, after)
    stored = StoredEntry(
        name=entry.name,
        details=dict(entry.details),
        labels=volumes[0],
        gains=entry.gains,
        locked=volumes[1],
        locked_classes=locked_classes,
        strokes=strokes,
    )
    return stored, packed


class Unpacking:
    """Makes entries of what a record holds, one after the other.

    Parameters
    ----------
    packed
        The bytes of the record.
    shape
        Of the image.
    n_classes
        Number of classes.
    """

    def __init__(self, packed: bytes, shape: Sequence[int], n_classes: int) -> None:
        self._packed = packed
        self._place = 0
        self._shape = tuple(shape)
        self._n_classes = n_classes

    def entry(self, stored: StoredEntry) -> Entry:
        """The next entry.

        Raises
        ------
        InputError
            If it does not fit the image, or bytes are missing.
        """
        labels, locked = self._volume(stored.labels), self._volume(stored.locked)
        if labels is not None and len(stored.gains) != self._n_classes:
            raise InputError(f"It counts {len(stored.gains)} classes, not {self._n_classes}.")
        strokes = None
        if stored.strokes is not None:
            one = stored.strokes
            if one.n_voxels > math.prod(self._shape):
                raise InputError("It has more strokes than the image has voxels.")
            strokes = StrokesDifference(
                one.n_voxels, self._take(one.voxels), self._take(one.values)
            )
        locked_classes = None
        if stored.locked_classes is not None:
            before, after = stored.locked_classes
            locked_classes = (frozenset(before), frozenset(after))
        return Entry(
            stored.name, stored.details, labels, stored.gains, locked, locked_classes, strokes
        )

    def _volume(self, stored: StoredVolume | None) -> VolumeDifference | None:
        if stored is None:
            return None
        if not len(stored.starts) == len(stored.sizes) == len(self._shape) or any(
            start + size > whole
            for start, size, whole in zip(stored.starts, stored.sizes, self._shape, strict=True)
        ):
            raise InputError("It changes voxels outside the image.")
        planes = tuple(self._take(length) for length in stored.planes)
        return VolumeDifference(stored.starts, stored.sizes, planes)

    def _take(self, length: int) -> bytes:
        part = self._packed[self._place : self._place + length]
        if len(part) != length:
            raise InputError("It holds fewer bytes than it says.")
        self._place += length
        return part


def stored_step(step: Step) -> StoredStep:
    """A step as a record holds it."""
    return StoredStep(name=step.name, details=dict(step.details))
