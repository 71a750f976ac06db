"""Sliders of real numbers: temperature, and the scale of each class."""

from __future__ import annotations

from qtpy.QtGui import QColor
from qtpy.QtWidgets import QWidget

from napari_structseg.widgets.parts.fields import DecimalField
from napari_structseg.widgets.parts.number_slider import HANDLE, MarkedSlider, NumberSlider

_STEP = 0.05
_PAGE = 0.5
_DECIMALS = 2


class ScaleSlider(NumberSlider):
    """A real number, to two decimals.

    Parameters
    ----------
    low, high
        Its range.
    default
        What the reset button, or a double click, sets.
    name
        For screen readers.
    tip
        What it does, in one sentence.
    color
        Of the handle; None: the theme's.
    dragged
        Range of the handle, where the ends of the whole range are rarely wanted: they can be
        typed. None: the whole range.
    """

    def __init__(
        self,
        low: float,
        high: float,
        *,
        default: float = 1.0,
        name: str,
        tip: str,
        color: QColor | None = None,
        dragged: tuple[float, float] | None = None,
        parent: QWidget | None = None,
    ) -> None:
        slider = MarkedSlider(*(dragged or (low, high)), step=_STEP, page=_PAGE)
        slider.setStyleSheet(_slider_style(color))
        box = DecimalField()
        box.setRange(low, high)
        box.setDecimals(_DECIMALS)
        box.setSingleStep(_STEP)
        super().__init__(slider, box, default=default, name=name, tip=tip, parent=parent)


def _slider_style(color: QColor | None) -> str:
    """A thin groove, the same on both sides of the handle: the scale has no empty end."""
    handle = f"width: {HANDLE}px; margin: -5px 0px; border-radius: {HANDLE // 2}px;"
    if color is not None:
        # The border, which counts in addition to the width, parts white from a light theme.
        handle = (
            f"width: {HANDLE - 2}px; margin: -5px 0px; border-radius: {HANDLE // 2}px;"
            f" background-color: {color.name()}; border: 1px solid rgba(128, 128, 128, 110);"
        )
    return (
        "QSlider { min-height: 18px; }"
        "QSlider::groove:horizontal { height: 4px; }"
        f"QSlider::handle:horizontal {{ {handle} }}"
        "QSlider::sub-page:horizontal { background: none; }"
    )
