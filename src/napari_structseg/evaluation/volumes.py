"""Whether the volumes of samples say how large a class may be: intervals and CRPS.

Gneiting and Raftery, *Strictly Proper Scoring Rules, Prediction, and Estimation*, Journal of the
American Statistical Association 2007, for the continuous ranked probability score (CRPS).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from napari_structseg.evaluation.overlaps import FloatArray

# The interval that the dock and the report name: 5 % of the samples are below it, 5 % above.
LOW, HIGH = 0.05, 0.95
_MM3_PER_ML = 1000.0
_MM = "mm"


def volume_interval(volumes: FloatArray) -> FloatArray:
    """The 5th and the 95th percentile of volumes, linear between neighbouring samples.

    Parameters
    ----------
    volumes
        Of N samples, ``(N,)``.

    Returns
    -------
    ends
        ``(2,)``, in the unit of the volumes.

    Examples
    --------
    >>> volume_interval(np.arange(21.0))
    array([ 1., 19.])
    """
    ends: FloatArray = np.quantile(volumes, (LOW, HIGH))
    return ends


def covered(volumes: FloatArray, truth: FloatArray) -> FloatArray:
    """Whether the interval of the samples contains the volume of each rater, ends included.

    The mean over cases is the coverage; of a calibrated model it is near 0.9.

    Parameters
    ----------
    volumes
        Of N samples, ``(N,)``.
    truth
        Of M raters, ``(M,)``.

    Returns
    -------
    covered
        1 or 0, ``(M,)``.
    """
    low, high = volume_interval(volumes)
    inside: FloatArray = ((truth >= low) & (truth <= high)).astype(np.float64)
    return inside


def relative_width(volumes: FloatArray, truth: FloatArray) -> FloatArray:
    """Width of the interval of the samples as a share of the volume of each rater.

    Parameters
    ----------
    volumes
        Of N samples, ``(N,)``.
    truth
        Of M raters, ``(M,)``.

    Returns
    -------
    width
        ``(M,)``; NaN where a rater's volume is 0.
    """
    low, high = volume_interval(volumes)
    width = np.full(len(truth), np.nan)
    np.divide(high - low, truth, out=width, where=truth > 0)
    return width


def crps(volumes: FloatArray, truth: FloatArray) -> FloatArray:
    """Continuous ranked probability score of samples, for each truth.

    It is the integral over x of (F(x) - [x >= y])^2, with F the distribution function of the
    samples, which is E|v - y| - E|v - v'| / 2 (Gneiting and Raftery 2007, equation 21). In the
    unit of the volumes; 0 is the best, and of a single sample it is the absolute error.

    Parameters
    ----------
    volumes
        Of N samples, ``(N,)``.
    truth
        Of M raters, ``(M,)``.

    Returns
    -------
    score
        ``(M,)``.

    Examples
    --------
    >>> crps(np.array([1.0, 3.0]), np.array([2.0, 1.0]))
    array([0.5, 0.5])
    """
    ordered = np.sort(volumes)
    n = len(ordered)
    # Sum over all pairs of |v - v'|, from the order alone: no N x N matrix.
    spread = 2 * float((2 * np.arange(1, n + 1) - n - 1) @ ordered) / n**2
    error: FloatArray = np.abs(ordered[:, None] - truth).mean(axis=0)
    return error - spread / 2


def voxel_volume(spacing: Sequence[float], unit: str) -> tuple[float, str]:
    """What a voxel counts, and in which unit.

    Parameters
    ----------
    spacing
        Distance between voxel centres along each axis.
    unit
        Of the spacing.

    Returns
    -------
    volume
        In mL; of images with two axes an area in mm²; 1 where voxels have no size.
    unit
        mL, mm², voxels or pixels.
    """
    is_flat = len(spacing) == 2
    if unit != _MM:
        return 1.0, "pixels" if is_flat else "voxels"
    size = float(np.prod(np.asarray(spacing, np.float64)))
    return (size, "mm²") if is_flat else (size / _MM3_PER_ML, "mL")
