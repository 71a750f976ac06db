"""The next click on an image: where it was."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import numpy as np
import numpy.typing as npt
from napari.components import ViewerModel
from napari.layers import Layer

_KEY = "Escape"
_LEFT = 1
# A hand moves the mouse a little between press and release.
_STILL_PIXELS = 4
_PASSIVE = "pan_zoom"

Index = npt.NDArray[np.float64]


class ClickPicker:
    """Waits for clicks on a layer, and ends with Escape.

    Drags and the wheel move the picture as always. A layer that is being painted or drawn on is
    not changed meanwhile.

    Parameters
    ----------
    viewer
        It is not changed when the picker has been closed.
    layer
        Whose voxel is meant.
    on_click
        Called with the index in the layer, ``(ndim,)``, which may lie outside.
    on_escape
        Called when Escape is pressed in the canvas.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        layer: Layer,
        on_click: Callable[[Index], None],
        on_escape: Callable[[], None],
    ) -> None:
        self._viewer, self._layer = viewer, layer
        self._on_click, self._on_escape = on_click, on_escape
        # Somebody else's, until this is closed.
        self._key = viewer.bind_key(_KEY, None)
        viewer.mouse_drag_callbacks.append(self._on_press)
        viewer.bind_key(_KEY, self._on_key)
        self._busy = viewer.layers.selection.active
        self._mode = None if self._busy is None else str(self._busy.mode)
        if self._busy is not None:
            self._busy.mode = _PASSIVE

    def close(self) -> None:
        """Wait no longer."""
        if self._on_press in self._viewer.mouse_drag_callbacks:
            self._viewer.mouse_drag_callbacks.remove(self._on_press)
            self._viewer.bind_key(_KEY, self._key, overwrite=True)
            if self._busy is not None and self._busy.mode == _PASSIVE:
                self._busy.mode = self._mode

    def _on_key(self, _viewer: ViewerModel) -> None:
        self._on_escape()

    def _on_press(self, viewer: ViewerModel, event: Any) -> Generator[None]:  # noqa: ANN401
        """Follow a press to its release. The event is napari's, and has no public type."""
        if event.button != _LEFT or viewer.dims.ndisplay != 2:
            return
        start, position = np.asarray(event.pos), np.asarray(event.position)
        yield
        is_still = True
        while event.type == "mouse_move":
            is_still = is_still and np.abs(np.asarray(event.pos) - start).max() <= _STILL_PIXELS
            yield
        if is_still:
            index = np.asarray(self._layer.world_to_data(position), dtype=np.float64)
            self._on_click(index[-self._layer.ndim :])
