"""Hounsfield units of 8-bit CT pictures of the lung, estimated from their own histogram.

A picture that was scaled from its own lowest to its own highest value has lost its scale. A CT of
the lung has two large peaks, though: lung tissue, and soft tissue, beside which fat has a smaller
one. They are where they are in all patients, within tens of units.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage, signal

# HU of the peaks: inflated lung, fat, and muscle and vessels without contrast medium.
LUNG, FAT, SOFT = -850.0, -100.0, 40.0

_N_GREYS = 256
# Widths and heights of peaks: in grey levels, and as shares of all pixels in a level.
_SMOOTHING, _PROMINENCE = 3.0, 8e-4
# Soft tissue counts beside fat where its peak has this share of the height.
_SIDE_PEAK = 0.2
# Where the peak of fat lies between those of lung (0) and soft tissue (1), and how nearly.
_FAT_BETWEEN, _NEARLY = (FAT - LUNG) / (SOFT - LUNG), 0.06
# HU of a grey level. Outside, what was found are other peaks.
_STEPS = (3.0, 16.0)
# HU of grey 0: air, or what scanners write outside their field of view.
_LOWEST = (-3300.0, -850.0)
# More pixels than these are not looked at.
_MOST_PIXELS = 2**22

# (HU of a grey level, HU of grey 0).
Scale = tuple[float, float]


def estimated_scale(pixels: npt.NDArray[Any]) -> Scale | None:
    """The scale of an 8-bit picture of lung and soft tissue in Hounsfield units.

    Parameters
    ----------
    pixels
        Whole numbers from 0 to 255, of any shape.

    Returns
    -------
    tuple or None
        ``(step, lowest)``, with which grey ``g`` is ``step * g + lowest`` HU. None: the histogram
        has no two peaks that can be lung and soft tissue.

    Examples
    --------
    >>> values = np.random.default_rng(0).normal([[-850], [40]], 20, (2, 5000))
    >>> step, lowest = estimated_scale(np.clip((values + 1000) / 8, 0, 255).astype(np.uint8))
    >>> round(step), round(lowest, -1)
    (8, -1000.0)
    """
    flat = np.asarray(pixels).ravel()
    flat = flat[:: -(-flat.size // _MOST_PIXELS) or 1]
    counts = np.bincount(flat.astype(np.int64), minlength=_N_GREYS)[:_N_GREYS].astype(float)
    # What was cut off lies in these two.
    counts[[0, -1]] = 0
    if not counts.any():
        return None
    share = ndimage.gaussian_filter1d(counts, _SMOOTHING, mode="constant") / flat.size
    peaks, _ = signal.find_peaks(share, prominence=_PROMINENCE)
    middle = _threshold(counts)
    below, above = peaks[peaks < middle], peaks[peaks >= middle]
    if not (len(below) and len(above)):
        return None
    lung = int(below[np.argmax(share[below])])
    soft = _soft_tissue(above, share, lung)
    step = (SOFT - LUNG) / (soft - lung)
    lowest = LUNG - step * lung
    plausible = _STEPS[0] <= step <= _STEPS[1] and _LOWEST[0] <= lowest <= _LOWEST[1]
    return (step, lowest) if plausible else None


def _soft_tissue(above: npt.NDArray[np.int64], share: npt.NDArray[np.float64], lung: int) -> int:
    """The peak of soft tissue: the highest one, unless that is fat and has it beside it."""
    highest = int(above[np.argmax(share[above])])
    for peak in above:
        between = (highest - lung) / (peak - lung)
        if share[peak] >= _SIDE_PEAK * share[highest] and abs(between - _FAT_BETWEEN) < _NEARLY:
            return int(peak)
    return highest


def _threshold(counts: npt.NDArray[np.float64]) -> float:
    """Otsu's threshold: the grey level that separates two groups best.

    N. Otsu, *A threshold selection method from gray-level histograms*, IEEE Trans. Systems, Man,
    and Cybernetics 9 (1979), equation 18.
    """
    levels = np.arange(len(counts))
    share = np.cumsum(counts) / counts.sum()
    mean = np.cumsum(counts * levels) / counts.sum()
    inside = share * (1 - share)
    separation = np.zeros(len(counts))
    np.divide((mean[-1] * share - mean) ** 2, inside, out=separation, where=inside > 0)
    # Between two groups that lie apart all levels are as good: their middle.
    best = np.flatnonzero(separation >= separation.max() * (1 - 1e-9))
    return float(best.mean())
