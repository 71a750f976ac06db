"""Letters at the edges of the view: right, left, anterior, posterior, superior, inferior.

They are overlays of napari's canvas, as its scale bar is: no layer is added, they are in
screenshots, and the user's own text overlay is left alone.
"""

from __future__ import annotations

from typing import Any

from napari.components import ViewerModel
from napari.components.overlays import TextOverlay
from napari.layers import Layer

from napari_structseg.widgets.viewer.orientation import edge_letters

_FONT_SIZE = 14
_PLACES = {
    "left": "middle_left",
    "right": "middle_right",
    "top": "top_center",
    "bottom": "bottom_center",
}
_PREFIX = "structseg_"


class OrientationLetters:
    """The letters of one layer in one viewer.

    They follow the viewer's axes and its camera, and are hidden in 3-D and where it is not sure
    how the patient lies.

    Parameters
    ----------
    viewer
        Where they are shown.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._layer: Layer | None = None
        self._is_on = True
        for emitter in self._viewer_events():
            emitter.connect(self.update)

    @property
    def texts(self) -> dict[str, str]:
        """The letters that are shown, by edge; empty: none are."""
        shown = {edge: self._overlay(edge) for edge in _PLACES}
        return {edge: overlay.text for edge, overlay in shown.items() if overlay.visible}

    def follow(self, layer: Layer | None) -> None:
        """Show the letters of another layer; None: of no layer."""
        if self._layer is not None:
            for emitter in _turn_events(self._layer):
                emitter.disconnect(self.update)
        self._layer = layer
        if layer is not None:
            for emitter in _turn_events(layer):
                emitter.connect(self.update)
        self.update()

    def switch(self, is_on: bool) -> None:
        """Show or hide them."""
        self._is_on = is_on
        self.update()

    def update(self, _event: object = None) -> None:
        """Say what is at the edges now."""
        layer = self._layer
        letters = None
        if self._is_on and layer is not None:
            letters = edge_letters(self._viewer, layer)
        for edge in _PLACES:
            overlay = self._overlay(edge)
            if letters is not None:
                overlay.text = getattr(letters, edge)
            overlay.visible = letters is not None

    def close(self) -> None:
        """Take them out of the viewer, for good."""
        self.follow(None)
        for emitter in self._viewer_events():
            emitter.disconnect(self.update)
        for edge in _PLACES:
            self._viewer.canvas.overlays.pop(_PREFIX + edge, None)

    def _overlay(self, edge: str) -> TextOverlay:
        """The letter at an edge.

        Several docks that look at the same viewer share it; one that closes takes it away, and
        another one that updates brings it back.
        """
        overlays = self._viewer.canvas.overlays
        if _PREFIX + edge not in overlays:
            overlays[_PREFIX + edge] = TextOverlay(
                position=_PLACES[edge], font_size=_FONT_SIZE, box=False
            )
        overlay: TextOverlay = overlays[_PREFIX + edge]
        return overlay

    def _viewer_events(self) -> tuple[Any, ...]:
        dims, camera = self._viewer.dims, self._viewer.scene.camera
        return dims.events.order, dims.events.ndisplay, dims.events.ndim, camera.events.orientation


def _turn_events(layer: Layer) -> tuple[Any, ...]:
    events = layer.events
    return events.rotate, events.shear, events.affine
