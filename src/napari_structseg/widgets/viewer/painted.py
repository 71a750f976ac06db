"""Labels layers that the user paints on: what was painted is told while the brush moves."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import napari.layers
import numpy as np
import numpy.typing as npt

from napari_structseg.distributions import Region

Voxels = npt.NDArray[np.int64]
Values = npt.NDArray[np.int64]


# napari tells kinds of layers by the name of their class.
class Labels(napari.layers.Labels):  # type: ignore[misc]  # napari is untyped
    """Labels whose paint is read as it comes, and whose undo is that of the whole session.

    Ctrl-Z in a layer of napari takes back the paint of that layer alone, while what was made of it
    elsewhere stays. Here both keys are handed on.

    Attributes
    ----------
    touched
        Called while the brush moves with a box that holds all that it has just painted.
    painted
        Called once the mouse is released, and after a fill, a polygon or a script, with the
        voxels that have changed, as indices of the flattened image, and their new values.
    undone, redone
        Called in place of napari's own undo and redo.
    keeps_own_undo
        Whether undo and redo are napari's own all the same.
    """

    touched: Callable[[Region], object] | None = None
    painted: Callable[[Voxels, Values], object] | None = None
    undone: Callable[[], object] | None = None
    redone: Callable[[], object] | None = None
    keeps_own_undo: bool = False

    def __init__(self, *args: Any, **settings: Any) -> None:  # noqa: ANN401 -- as napari takes them
        super().__init__(*args, **settings)
        self.events.paint.connect(self._on_paint)

    def paint(self, coord: Sequence[float], new_label: int, refresh: bool = True) -> None:
        """Paint with the brush around a place, as napari does."""
        super().paint(coord, new_label, refresh)
        if self.touched is not None:
            self.touched(self._around(coord))

    def undo(self) -> None:
        """Take back the last action of the session."""
        if self.keeps_own_undo:
            super().undo()
        elif self.undone is not None:
            self.undone()

    def redo(self) -> None:
        """Do again what was taken back last."""
        if self.keeps_own_undo:
            super().redo()
        elif self.redone is not None:
            self.redone()

    def write(self, region: Region, values: npt.NDArray[np.uint8]) -> None:
        """Show other labels in a region; nobody is told, and no more is drawn than needed."""
        self.data[region] = values
        self.refresh(extent=False, thumbnail=False, highlight=False)

    def _around(self, coord: Sequence[float]) -> Region:
        # The size of the brush is counted in the smallest voxels; along other axes it is less.
        reach = math.ceil(self.brush_size / 2) + 1
        return tuple(
            slice(min(max(round(at) - reach, 0), size), max(min(round(at) + reach + 1, size), 0))
            for at, size in zip(coord, self.data.shape, strict=True)
        )

    def _on_paint(self, event: Any) -> None:  # noqa: ANN401 -- napari's events are untyped
        if self.painted is not None and event.value:
            changes = [_change_of(atom, self.data.shape) for atom in event.value]
            voxels = np.concatenate([one for one, _ in changes])
            values = np.concatenate([one for _, one in changes])
            # Of a voxel that was painted more than once, the last value is the one it has.
            unique, last = np.unique(voxels[::-1], return_index=True)
            self.painted(unique, values[::-1][last])


def around_all(boxes: Iterable[Region]) -> Region:
    """The smallest box that holds all of several boxes."""
    each_axis = zip(*boxes, strict=True)
    return tuple(
        slice(min(part.start for part in parts), max(part.stop for part in parts))
        for parts in each_axis
    )


def _change_of(atom: Any, shape: tuple[int, ...]) -> tuple[Voxels, Values]:  # noqa: ANN401
    """The voxels and new values of one change, for which napari has no public type.

    It is a box, a mask in it (None: all of it) and one value; or indices and values.
    """
    key = getattr(atom, "slice_key", None)
    if key is None:
        indices, _, after = atom
        voxels = np.ravel_multi_index(np.broadcast_arrays(*indices), shape).reshape(-1)
        values = np.broadcast_to(np.asarray(after), voxels.shape)
        return voxels.astype(np.int64), values.astype(np.int64)
    starts = [part.indices(size)[0] for part, size in zip(key, shape, strict=True)]
    sizes = [len(range(*part.indices(size))) for part, size in zip(key, shape, strict=True)]
    mask = np.ones(sizes, bool) if atom.mask is None else np.asarray(atom.mask).reshape(sizes)
    inside = [along + start for along, start in zip(np.nonzero(mask), starts, strict=True)]
    voxels = np.ravel_multi_index(inside, shape).astype(np.int64)
    return voxels, np.full(len(voxels), int(atom.new_value), np.int64)
