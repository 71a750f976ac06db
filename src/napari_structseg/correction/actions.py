"""The user's own result of one image, and every action that changes it.

Longer than other modules, since every action is a public method that says what it takes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from psygnal import Signal

from napari_structseg.correction.components import component_to_accept
from napari_structseg.correction.differences import StrokesDifference, VolumeDifference, box_of
from napari_structseg.correction.entries import Changed, Entry, Event, EventKind, Json
from napari_structseg.correction.past import Past
from napari_structseg.correction.result import UserResult, counts_of
from napari_structseg.distributions import Strokes
from napari_structseg.distributions.region import Region
from napari_structseg.errors import InputError

_NOTHING: Mapping[str, Json] = {}


class Correction:
    """Labels that are the user's own, what of them is locked, and strokes.

    Every action is one named entry of the history. What is accepted from a labelling never
    overwrites a voxel of a locked class or in a locked region; painting does, since it is the
    user's own hand. A locked class may gain voxels.

    An action emits ``changed`` (a :class:`Changed`) and then ``recorded`` (an :class:`Event`), in
    the thread of whoever calls. One that changes nothing emits nothing and is no entry. One that
    raises has changed nothing.

    Parameters
    ----------
    shape
        Of the image, ``(*spatial)``.
    n_classes
        Number of classes C, at most 256.
    labels
        To begin with, ``(*spatial)``; None: background everywhere.

    Attributes
    ----------
    result
        The labels, their locks and their counts.
    strokes
        Of which voxels the user has said the class.
    past
        The history.

    Raises
    ------
    InputError
        If the labels have another shape or other classes.
    """

    changed = Signal(Changed)
    recorded = Signal(Event)

    def __init__(
        self,
        shape: Sequence[int],
        n_classes: int,
        *,
        labels: npt.NDArray[np.integer[Any]] | None = None,
    ) -> None:
        self.result = UserResult(shape, n_classes, labels)
        self.strokes = Strokes.none(self.result.shape)
        self.past = Past()

    def copy(self) -> Correction:
        """The same, with arrays of its own; entries never change and are shared."""
        other = Correction(self.result.shape, self.result.n_classes)
        other.result = self.result.copy()
        other.strokes = self.strokes
        other.past = self.past.copy()
        return other

    def begin(self, content: Entry) -> None:
        """Take over what is there when a session goes on; it is no action."""
        self._apply(content, is_forward=True)

    def accept(
        self,
        labelling: npt.NDArray[np.integer[Any]],
        *,
        name: str,
        region: npt.NDArray[np.bool_] | None = None,
        details: Mapping[str, Json] = _NOTHING,
    ) -> Entry | None:
        """Take over a labelling, or a region of it; what is locked stays.

        Parameters
        ----------
        labelling
            ``(*spatial)``.
        name
            Of the action: "accept sample 12".
        region
            Where, ``(*spatial)``; None: everywhere.
        details
            What it came from, for records.

        Returns
        -------
        Entry or None
            None: nothing has changed.

        Raises
        ------
        InputError
            If the labelling has another shape or other classes.
        """
        source = self.result.checked_labelling(labelling)
        box: Region | None = tuple(slice(0, size) for size in self.result.shape)
        if region is not None:
            self.result.check_region(region)
            box = box_of(region)
        if box is None:
            return None
        before = self.result.labels[box]
        keep = self.result.protected(box)
        if region is not None:
            keep |= ~region[box]
        after = np.where(keep, before, source[box])
        return self._set_labels(name, box, after, details)

    def accept_component(
        self,
        labelling: npt.NDArray[np.integer[Any]],
        voxel: Sequence[int],
        *,
        name: str,
        diagonal: bool = False,
        details: Mapping[str, Json] = _NOTHING,
    ) -> Entry | None:
        """Make one component of the result as it is in a labelling; what is locked stays.

        See :func:`~napari_structseg.correction.components.component_to_accept` for what changes
        where the result had a larger component, or one where the labelling has background.

        Parameters
        ----------
        labelling
            ``(*spatial)``.
        voxel
            In the component: its index along each axis.
        name, details
            As in :meth:`accept`.
        diagonal
            Whether voxels that touch at an edge or a corner only are neighbours, too.

        Returns
        -------
        Entry or None
            None: nothing has changed.

        Raises
        ------
        InputError
            If the voxel lies outside, or the labelling does not fit.
        """
        source = self.result.checked_labelling(labelling)
        region = component_to_accept(self.result.labels, source, voxel, diagonal=diagonal)
        if region is None:
            return None
        return self.accept(source, name=name, region=region, details=details)

    def paint(
        self,
        voxels: npt.NDArray[np.integer[Any]],
        labels: npt.NDArray[np.integer[Any]] | int,
        *,
        name: str = "paint",
    ) -> Entry | None:
        """Set voxels by the user's own hand, which locks do not hold back.

        Parameters
        ----------
        voxels
            Index of each in the flattened image, ``(n,)``.
        labels
            The class of each, ``(n,)``, or of all.
        name
            Of the action.

        Returns
        -------
        Entry or None
            None: nothing has changed.

        Raises
        ------
        InputError
            If a voxel lies outside, or a class does not exist.
        """
        places = self.result.checked_voxels(voxels)
        values = np.broadcast_to(np.asarray(labels), places.shape)
        self.result.check_classes(values)
        if not len(places):
            return None
        positions = np.unravel_index(places, self.result.shape)
        box = tuple(slice(int(one.min()), int(one.max()) + 1) for one in positions)
        after = self.result.labels[box].copy()
        inside = tuple(one - part.start for one, part in zip(positions, box, strict=True))
        after[inside] = values
        return self._set_labels(name, box, after, _NOTHING)

    def painted(
        self,
        voxels: npt.NDArray[np.integer[Any]],
        before: npt.NDArray[np.integer[Any]],
        *,
        name: str = "paint",
    ) -> Entry | None:
        """Record what a tool has painted into the array of the result already.

        Parameters
        ----------
        voxels
            Index of each in the flattened image, ``(n,)``. Of a voxel that is named more than
            once, the first counts.
        before
            The class that each had before, ``(n,)``.
        name
            Of the action.

        Returns
        -------
        Entry or None
            None: nothing has changed.

        Raises
        ------
        InputError
            As :meth:`paint`; the voxels have the classes from before again, and ``changed`` is
            emitted for them.
        """
        places, first = np.unique(self.result.checked_voxels(voxels), return_index=True)
        flat = self.result.labels.reshape(-1)
        after = flat[places]
        flat[places] = before[first]
        try:
            return self.paint(places, after, name=name)
        except InputError:
            everything = tuple(slice(0, size) for size in self.result.shape)
            self.changed.emit(Changed(everything, None, locked_classes=False, strokes=False))
            raise

    def lock_class(self, label: int, *, name: str, is_locked: bool = True) -> Entry | None:
        """Protect the voxels of a class from all that is accepted, or no longer.

        Raises
        ------
        InputError
            If there is no such class.
        """
        self.result.check_classes(np.asarray([label]))
        others = self.result.locked_classes - {label}
        after = others | {label} if is_locked else others
        if after == self.result.locked_classes:
            return None
        return self._do(Entry(name, locked_classes=(self.result.locked_classes, after)))

    def lock_region(
        self, region: npt.NDArray[np.bool_] | Region, *, name: str, is_locked: bool = True
    ) -> Entry | None:
        """Protect a region from all that is accepted, or no longer.

        Parameters
        ----------
        region
            A mask ``(*spatial)``, or a box as slices.
        name
            Of the action.
        is_locked
            Whether to lock it or to unlock it.

        Raises
        ------
        InputError
            If a mask has another shape than the image.
        """
        if isinstance(region, np.ndarray):
            self.result.check_region(region)
        after = self.result.locked.copy()
        after[region] = is_locked
        change = VolumeDifference.between(self.result.locked.view(np.uint8), after.view(np.uint8))
        return self._do(Entry(name, locked=change))

    def set_strokes(
        self, strokes: Strokes, *, name: str, details: Mapping[str, Json] = _NOTHING
    ) -> Entry | None:
        """Say the class of other voxels than before.

        Raises
        ------
        InputError
            If the strokes belong to an image of another shape.
        """
        if strokes.shape != self.result.shape:
            raise InputError(
                f"Strokes on an image of the shape {self.result.shape} were expected, but these "
                f"are on one of {strokes.shape}."
            )
        change = StrokesDifference.between(self.strokes, strokes)
        return self._do(Entry(name, details, strokes=change))

    def undo(self) -> Entry | None:
        """Take back the last action; None: there is none."""
        if not self.past.done:
            return None
        entry = self.past.done[-1]
        self._apply(entry, is_forward=False)
        self.past.step_back()
        self._tell("undo", entry)
        return entry

    def redo(self) -> Entry | None:
        """Do again what was undone last; None: there is nothing, or something was done since."""
        if not self.past.undone:
            return None
        entry = self.past.undone[-1]
        self._apply(entry, is_forward=True)
        self.past.step_forward()
        self._tell("redo", entry)
        return entry

    def replay(self, event: Event) -> None:
        """Follow another correction that began as this one.

        Raises
        ------
        InputError
            If the event does not fit what was done here.
        """
        if event.kind == "do":
            self._do(event.entry)
        elif (self.undo() if event.kind == "undo" else self.redo()) is None:
            raise InputError(f"There is nothing to {event.kind}.")

    def _set_labels(
        self, name: str, box: Region, after: npt.NDArray[np.uint8], details: Mapping[str, Json]
    ) -> Entry | None:
        before = self.result.labels[box]
        change = VolumeDifference.between(before, after, tuple(part.start for part in box))
        if change is None:
            return None
        gains = counts_of(after, self.result.n_classes) - counts_of(before, self.result.n_classes)
        return self._do(Entry(name, details, labels=change, gains=tuple(gains.tolist())))

    def _do(self, entry: Entry) -> Entry | None:
        if entry.is_empty:
            return None
        # Raises here what would only fail when it is written to disk.
        json.dumps(dict(entry.details), allow_nan=False)
        self._apply(entry, is_forward=True)
        self.past.add(entry)
        self._tell("do", entry)
        return entry

    def _apply(self, entry: Entry, *, is_forward: bool) -> None:
        # What can fail comes first, so that a failure changes nothing.
        strokes = self.strokes if entry.strokes is None else entry.strokes.apply(self.strokes)
        self.result.apply(entry, is_forward=is_forward)
        self.strokes = strokes

    def _tell(self, kind: EventKind, entry: Entry) -> None:
        self.changed.emit(
            Changed(
                None if entry.labels is None else entry.labels.box,
                None if entry.locked is None else entry.locked.box,
                locked_classes=entry.locked_classes is not None,
                strokes=entry.strokes is not None,
            )
        )
        self.recorded.emit(Event(kind, entry))
