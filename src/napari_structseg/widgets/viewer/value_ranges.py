"""Lowest and highest value of image layers: large ones are not read in the main thread."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
from napari.layers import Image as ImageLayer

from napari_structseg.prediction.intensity_windows import Range

# So many values of an array in memory take less than a millisecond.
_AT_ONCE = 2**18
# By layer: of which array, and its range.
_KNOWN: weakref.WeakKeyDictionary[ImageLayer, tuple[weakref.ref[Any], Range]] = (
    weakref.WeakKeyDictionary()
)


def known_range(layer: ImageLayer) -> Range | None:
    """Lowest and highest value of a layer; None: it would take long, see :func:`read_range`."""
    data = layer.data
    array, values = _KNOWN.get(layer, (None, None))
    if array is not None and array() is data:
        return values
    is_in_memory = isinstance(data, np.ndarray) and not isinstance(data, np.memmap)
    return read_range(data) if is_in_memory and data.size <= _AT_ONCE else None


def read_range(data: Any) -> Range:  # noqa: ANN401 -- whatever napari shows: NumPy, Dask, Zarr
    """Lowest and highest value of an array; from any thread."""
    return float(np.min(data)), float(np.max(data))


def remember_range(
    layer: ImageLayer,
    data: Any,  # noqa: ANN401 -- as above
    values: Range,
) -> None:
    """Keep what was read of a layer, for as long as it shows that array."""
    _KNOWN[layer] = weakref.ref(data), values
