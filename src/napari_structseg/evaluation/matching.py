"""Samples paired off with raters: the Hungarian-matched IoU.

Kohl et al., *A Hierarchical Probabilistic U-Net for Modeling Multi-Scale Ambiguities*, 2019.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import linear_sum_assignment

from napari_structseg.evaluation.overlaps import FloatArray


def matched_iou(distances: FloatArray) -> float:
    """Mean IoU of the best pairing of samples with raters.

    Both sets are repeated up to the least common multiple of their sizes, so that each member
    takes part equally often.

    Parameters
    ----------
    distances
        d = 1 - IoU of N samples to M raters, ``(N, M)``.
    """
    n_samples, n_raters = distances.shape
    size = math.lcm(n_samples, n_raters)
    repeated = distances.repeat(size // n_samples, axis=0).repeat(size // n_raters, axis=1)
    return 1 - float(np.mean(repeated[linear_sum_assignment(repeated)]))
