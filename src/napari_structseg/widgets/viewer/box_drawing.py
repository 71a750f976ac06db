"""A box on the slice that is shown, drawn by one drag of the mouse."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import numpy as np
import numpy.typing as npt
from napari.components import ViewerModel
from napari.layers import Layer

from napari_structseg.distributions import Region
from napari_structseg.widgets.viewer.viewing import current_view

_KEY = "Escape"
_LEFT = 1
_PASSIVE = "pan_zoom"

_Index = npt.NDArray[np.float64]


class BoxDrawing:
    """Waits for one drag over a layer, from corner to corner, and ends with it or with Escape.

    napari's own rectangle belongs to a layer of shapes, which would have to come and go.

    Parameters
    ----------
    viewer
        It is not changed when this has been closed.
    layer
        Of labels; it is the one that is selected. The mouse does not move the picture meanwhile.
    on_box
        Called while the mouse moves and when it is released, with the voxels of the slice between
        the corners, and whether the box is drawn. A click draws none: None.
    on_escape
        Called when Escape is pressed in the canvas.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        layer: Layer,
        on_box: Callable[[Region | None, bool], object],
        on_escape: Callable[[], object],
    ) -> None:
        self._viewer, self._layer = viewer, layer
        self._on_box, self._on_escape = on_box, on_escape
        viewer.mouse_drag_callbacks.append(self._on_press)
        # A layer of labels has this key itself, and comes before the viewer.
        layer.bind_key(_KEY, self._on_key, overwrite=True)
        viewer.layers.selection.events.active.connect(self._on_active)
        layer.mode = _PASSIVE
        layer.mouse_pan = False

    def close(self) -> None:
        """Wait no longer."""
        if self._on_press in self._viewer.mouse_drag_callbacks:
            self._viewer.mouse_drag_callbacks.remove(self._on_press)
            self._viewer.layers.selection.events.active.disconnect(self._on_active)
            self._layer.bind_key(_KEY, None)
            self._layer.mouse_pan = self._layer.mode == _PASSIVE

    def _on_active(self, _event: object = None) -> None:
        """The user has taken another tool."""
        if self._viewer.layers.selection.active != self._layer:
            self._on_escape()

    def _on_key(self, _layer: Layer) -> None:
        self._on_escape()

    def _on_press(self, viewer: ViewerModel, event: Any) -> Generator[None]:  # noqa: ANN401
        """Follow a press to its release. The event is napari's, and has no public type."""
        if event.button != _LEFT or viewer.dims.ndisplay != 2:
            return
        first, start = self._index(event), np.asarray(event.pos)
        yield
        while event.type == "mouse_move":
            self._tell(self._between(first, self._index(event)), is_last=False)
            yield
        # Moves that follow each other fast are not all told, but the release is.
        if (np.asarray(event.pos) != start).any():
            self._tell(self._between(first, self._index(event)), is_last=True)
        else:
            self._tell(None, is_last=False)

    def _tell(self, box: Region | None, *, is_last: bool) -> None:
        # It may have been given up while the button was held down.
        if self._on_press in self._viewer.mouse_drag_callbacks:
            self._on_box(box, is_last)

    def _index(self, event: Any) -> _Index:  # noqa: ANN401
        index: _Index = np.asarray(self._layer.world_to_data(event.position), dtype=np.float64)
        return index[-self._layer.ndim :]

    def _between(self, first: _Index, last: _Index) -> Region:
        shape = self._layer.data.shape
        view = current_view(self._viewer.dims, self._layer)
        low, high = np.minimum(first, last), np.maximum(first, last)
        ends = [
            (min(max(round(a), 0), size), max(min(round(b) + 1, size), 0))
            for a, b, size in zip(low, high, shape, strict=True)
        ]
        if len(shape) == 3:
            ends[view.axis] = (view.position, view.position + 1)
        return tuple(slice(start, max(start, stop)) for start, stop in ends)
