"""Intensities of the labels of a head: a Gaussian for each, as T1-weighted MRI has them.

Where a label lies between grey and white matter follows the priors that SynthSeg publishes for
T1-weighted scans (Billot et al. 2023), widened to what other scanners show: see the ranges in
`label_maps`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_structseg.training.input.label_maps import (
    CSF_LABELS,
    GREY_LABELS,
    OUTER_CSF,
    VENTRICLES,
    WHITE_LABELS,
    Labels,
)
from napari_structseg.training.input.smooth import smooth_field
from napari_structseg.training.input.synthesis_settings import SynthesisSettings

Array = npt.NDArray[np.float32]

# Brightest of what is not brain, where white matter is at most 1: fat and vessels.
_BRIGHTEST = 1.4
# Voxels between the control points of how a tissue varies across the head.
_VARIATION_SPACING = 24.0


def painted(
    labels: Labels,
    values: npt.NDArray[np.int64],
    settings: SynthesisSettings,
    rng: np.random.Generator,
) -> Array:
    """An image of the labels, blurred by the point spread function.

    Parameters
    ----------
    labels
        ``(*size)``, indices into ``values``.
    values
        The FreeSurfer label of each index; the first is 0, outside the head.
    settings
        Ranges.
    rng
        Source of randomness.

    Returns
    -------
    ndarray
        ``(*size)`` float32, white matter at most about 1.
    """
    mean, step = _means(values, settings, rng)
    spread = rng.uniform(0.01, settings.surroundings, len(values))
    brain = np.isin(values, _BRAIN)
    lowest = min(0.005, settings.noise)
    spread[brain] = rng.uniform(lowest, settings.noise, int(brain.sum()))
    mean[0] = rng.choice([0.0, rng.uniform(0, 0.1)])
    spread[0] = min(spread[0], mean[0] / 2)
    texture = rng.standard_normal(labels.shape, dtype=np.float32)
    image = mean.astype(np.float32)[labels] + spread.astype(np.float32)[labels] * texture
    # Myelin differs from place to place: brain tissue is a little whiter here, greyer there.
    variation = smooth_field(labels.shape, _VARIATION_SPACING, rng.uniform(0, 0.12), rng)[0]
    image += np.float32(step) * variation * brain.astype(np.float32)[labels]
    result: Array = ndimage.gaussian_filter(image, rng.uniform(0.2, settings.blur))
    return result


_BRAIN = [label for groups in (GREY_LABELS, WHITE_LABELS) for group in groups for label in group]


def _means(
    values: npt.NDArray[np.int64], settings: SynthesisSettings, rng: np.random.Generator
) -> tuple[npt.NDArray[np.float64], float]:
    """Mean intensity of each label, and the step from grey to white matter."""
    ordered = rng.random() < settings.t1_order_probability
    if ordered:
        white = rng.uniform(0.55, 1.0)
        grey = white * rng.uniform(0.5, 0.88)
        csf = grey * rng.uniform(0.05, 0.75)
    else:
        white, grey, csf = rng.uniform(0.1, 1.0, 3)
    mean = rng.uniform(0.0, _BRIGHTEST, len(values))
    for groups in (GREY_LABELS, WHITE_LABELS):
        for group, (low, high) in groups.items():
            whiteness = rng.uniform(low, high)
            mean[np.isin(values, group)] = grey + whiteness * (white - grey)
    # Vessels and meninges make the outer CSF less dark than the ventricles.
    outer = csf + rng.uniform(0, 0.4) * (grey - csf)
    mean[values == OUTER_CSF] = outer
    for label in CSF_LABELS:
        # The other labels that count as CSF are choroid plexus.
        most = 0.15 if label in VENTRICLES else 0.7
        if label != OUTER_CSF:
            mean[values == label] = csf + rng.uniform(0, most) * (grey - csf)
    return mean * (1 + rng.normal(0, 0.02, len(values))), white - grey
