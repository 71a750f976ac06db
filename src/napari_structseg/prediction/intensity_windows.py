"""Which intensity window of an image a model is shown."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from napari_structseg.errors import ConfigError, InputError
from napari_structseg.image import Image
from napari_structseg.models import ModelSpec
from napari_structseg.models.spec import IntensitySpec
from napari_structseg.prediction.hounsfield import estimated_scale

Range = tuple[float, float]

_LARGEST_BYTE = 255
# Air is -1000 HU and fat -100: an image of a body in HU has lower values than this.
_HIGHEST_AIR = -200.0


def value_range(image: Image) -> Range:
    """Lowest and highest value of an image."""
    return float(np.min(image.data)), float(np.max(image.data))


def fitting_window(
    intensity: IntensitySpec,
    values: Range,
    name: str,
    pixels: npt.NDArray[Any] | None = None,
) -> IntensitySpec:
    """The window of an image in 8-bit numbers or in Hounsfield units, whichever it is in.

    Parameters
    ----------
    intensity
        What the model expects; returned as it is unless it says something of both.
    values
        Lowest and highest value of the image.
    name
        Of the image.
    pixels
        Of the image, from which an 8-bit one's scale is estimated where the model asks for it;
        None: the scale that the model knows as a usual one.

    Raises
    ------
    InputError
        If the values are neither 8-bit numbers nor Hounsfield units.
    """
    if not intensity.depends_on_values:
        return intensity
    lowest, highest = values
    # Up to 1 it is more likely a picture that was scaled, which would be black to the model.
    if lowest >= 0 and 1 < highest <= _LARGEST_BYTE:
        if intensity.eight_bit is not None:
            found = None if pixels is None else estimated_scale(pixels)
            step, zero = found or intensity.eight_bit
            return window(((intensity.low - zero) / step, (intensity.high - zero) / step), "8-bit")
        return intensity.model_copy(update={"hounsfield": None})
    if lowest < _HIGHEST_AIR:
        return window(intensity.hounsfield or (intensity.low, intensity.high), "HU")
    raise InputError(
        f"The model expects 8-bit numbers (0 to {_LARGEST_BYTE}) or Hounsfield units (with air "
        f"below {_HIGHEST_AIR:g}), but the values of {name!r} run from {lowest:g} to "
        f"{highest:g}. Say which of them it should see as 0 and 1: --window LOW:HIGH, or Window "
        "in the dock."
    )


def window(ends: Range, unit: str = "") -> IntensitySpec:
    """A single window.

    Raises
    ------
    ConfigError
        If its ends are not ascending finite numbers.
    """
    low, high = ends
    if not (np.isfinite([low, high]).all() and low < high):
        raise ConfigError(
            f"A window needs two ascending numbers, but it is {low:g} to {high:g}. For example "
            "--window=-1000:1200."
        )
    return IntensitySpec(kind="window", low=low, high=high, unit=unit)


def with_window(spec: ModelSpec, ends: Range) -> ModelSpec:
    """A model's specification with another window.

    Raises
    ------
    ConfigError
        If the ends are not ascending finite numbers, or the model uses no window.
    """
    if spec.intensity.kind != "window":
        raise ConfigError(
            f"A model that uses a window was expected for --window, but {spec.name!r} scales "
            f"intensities by {spec.intensity.kind}. Leave it out."
        )
    return spec.model_copy(update={"intensity": window(ends)})
