"""Axial, coronal or sagittal, and the letters at the edges of the view."""

from __future__ import annotations

from functools import partial
from typing import Any

from napari.components import ViewerModel
from napari.layers import Layer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QWidget

from napari_structseg.widgets.parts.section import SmallButton
from napari_structseg.widgets.viewer.letters import OrientationLetters
from napari_structseg.widgets.viewer.orientation import (
    Plane,
    known_geometry,
    order_of,
    plane_of,
)

_LETTERS_TIP = (
    "Letters at the edges of the view: right, left, anterior, posterior, superior and inferior "
    "side of the patient. An image that does not say how the patient lies has none."
)


class ViewRow(QWidget):
    """Three buttons that turn the view, and one for the letters.

    The order of the axes is the user's: it changes when a button is pressed, and only then. The
    buttons show which plane is seen, however it was chosen.

    Parameters
    ----------
    viewer
        Whose view it is.
    """

    letters_chosen = Signal(bool)

    def __init__(self, viewer: ViewerModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._layer: Layer | None = None
        self.letters = OrientationLetters(viewer)
        self.buttons: dict[Plane, SmallButton] = {}
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(2)
        for plane in Plane:
            name = plane.name.capitalize()
            button = SmallButton(name, f"{name} slices, the head upright.")
            button.setCheckable(True)
            button.clicked.connect(partial(self.show_plane, plane))
            row.addWidget(button)
            self.buttons[plane] = button
        self.letters_button = SmallButton("R L", _LETTERS_TIP)
        self.letters_button.setCheckable(True)
        self.letters_button.setChecked(True)
        self.letters_button.toggled.connect(self._on_letters)
        row.addSpacing(6)
        row.addWidget(self.letters_button)
        for emitter in self._events():
            emitter.connect(self._show_view)
        self.set_layer(None)

    def set_layer(self, layer: Layer | None) -> None:
        """Offer the planes of an image, and show its letters."""
        self._layer = layer
        self.letters.follow(layer)
        is_known = layer is not None and known_geometry(layer) is not None
        self.letters_button.setEnabled(is_known)
        for button in self.buttons.values():
            button.setVisible(is_known and layer is not None and layer.ndim == 3)
        self._show_view()

    def show_letters(self, is_on: bool) -> None:
        """Show or hide the letters."""
        self.letters.switch(is_on)
        self.letters_button.setChecked(is_on)

    def show_plane(self, plane: Plane, _checked: bool = False) -> None:
        """Turn the view."""
        dims = self._viewer.dims
        if dims.ndim >= 3:
            dims.ndisplay = 2
            dims.order = order_of(plane, dims.ndim)
        self._show_view()

    def disconnect_viewer(self) -> None:
        """Stop following the viewer, and take the letters out of it."""
        for emitter in self._events():
            emitter.disconnect(self._show_view)
        self.letters.close()

    def _on_letters(self, is_on: bool) -> None:
        self.letters.switch(is_on)
        self.letters_chosen.emit(is_on)

    def _events(self) -> tuple[Any, ...]:
        events = self._viewer.dims.events
        return events.order, events.ndisplay

    def _show_view(self, _event: object = None) -> None:
        seen = plane_of(self._viewer)
        for plane, button in self.buttons.items():
            button.setChecked(plane is seen)
