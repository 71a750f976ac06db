"""Colours: of the classes, of the uncertainty maps, and shades of napari's own theme."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from napari.utils import Colormap
from napari.utils.colormaps import DirectLabelColormap, ensure_colormap
from qtpy.QtGui import QColor, QPalette
from qtpy.QtWidgets import QWidget

from napari_structseg.models import ClassSpec

RGBA = npt.NDArray[np.float32]

# Of the labels over the image, in the canvas and in thumbnails.
LABEL_OPACITY = 0.55
_CHANGE = (0.22, 1.0, 0.08)
_MAP_OPACITY = 0.9
# Where on the scale an uncertainty map is fully there; below it fades into the image.
_MAP_OPAQUE_FROM = 0.3
_MUTED = 0.62
_FAINT = 0.35
_LINE = 0.18
_OWN = 0.7
# Strokes that say background, in a colour that is as dark as the image there, are white.
_DARK = 0.25


def label_colors(classes: Sequence[ClassSpec]) -> RGBA:
    """Colours in label order, ``(C, 4)``, values 0 to 1; label 0 is transparent."""
    colors = np.array([QColor(one.color).getRgbF() for one in classes], np.float32)
    colors[0, 3] = 0
    return colors


def stroke_colors(classes: Sequence[ClassSpec]) -> RGBA:
    """Colours of strokes in label order, ``(C, 4)``: the background is seen, too."""
    colors = np.array([QColor(one.color).getRgbF() for one in classes], np.float32)
    if QColor(classes[0].color).lightnessF() < _DARK:
        colors[0, :3] = 1
    return colors


def stroke_colormap(colors: RGBA) -> DirectLabelColormap:
    """Of a layer of strokes: k + 1 in the colour of class k, ``(C, 4)``; 0 is transparent."""
    table: dict[int | None, RGBA] = dict(enumerate(colors, start=1))
    table[0] = table[None] = np.zeros(4, np.float32)
    return DirectLabelColormap(color_dict=table)


def label_colormap(colors: RGBA, opacities: Sequence[float]) -> DirectLabelColormap:
    """Of a labels layer: each label in its colour, ``(C, 4)``, and so opaque, ``(C,)``."""
    alphas = colors[:, 3] * np.asarray(opacities, np.float32)
    table: dict[int | None, RGBA] = dict(enumerate(np.column_stack([colors[:, :3], alphas])))
    table[None] = np.zeros(4, np.float32)
    return DirectLabelColormap(color_dict=table)


def display_name(spec: ClassSpec) -> str:
    """A class's name as the dock writes it."""
    return spec.name[:1].upper() + spec.name[1:]


def uncertainty_colormap(*, inverted: bool) -> Colormap:
    """Transparent where all is certain, then magma.

    Parameters
    ----------
    inverted
        Whether the largest value, not the smallest, means certain.
    """
    colors = np.array(ensure_colormap("magma").colors, np.float32)
    # The darkest tenth would hide the image rather than mark it.
    colors = colors[len(colors) // 10 :]
    colors[:, 3] = _MAP_OPACITY * np.clip(np.linspace(0, 1 / _MAP_OPAQUE_FROM, len(colors)), 0, 1)
    name = "structseg agreement" if inverted else "structseg entropy"
    return Colormap(colors[::-1] if inverted else colors, name=name)


def change_colormap() -> Colormap:
    """Transparent where nothing changed, a green that no tissue has where it did."""
    colors = np.array([(*_CHANGE, 0), (*_CHANGE, 1)], np.float32)
    return Colormap(colors, name="structseg changes")


def text_color(widget: QWidget) -> QColor:
    """The theme's colour of text."""
    return widget.palette().color(QPalette.ColorRole.WindowText)


def muted_color(widget: QWidget) -> QColor:
    """A quieter colour for secondary text."""
    return _faded(widget, _MUTED)


def faint_color(widget: QWidget) -> QColor:
    """A colour for what is about to be replaced."""
    return _faded(widget, _FAINT)


def line_color(widget: QWidget) -> QColor:
    """A colour for hairlines and ticks."""
    return _faded(widget, _LINE)


def edge_color(color: QColor, widget: QWidget) -> QColor:
    """A class's colour, seen against the theme's background even where it is much like it."""
    text = text_color(widget)
    own = (color.red(), color.green(), color.blue())
    other = (text.red(), text.green(), text.blue())
    red, green, blue = (
        round(_OWN * mine + (1 - _OWN) * theirs) for mine, theirs in zip(own, other, strict=True)
    )
    return QColor(red, green, blue)


def _faded(widget: QWidget, opacity: float) -> QColor:
    color = text_color(widget)
    color.setAlphaF(opacity)
    return color
