"""Label maps of heads that nobody has: turned, stretched, folded otherwise."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_structseg.training.input.label_maps import CORTEX_LABELS, OUTER_CSF, LabelMap, Labels
from napari_structseg.training.input.smooth import smooth_field
from napari_structseg.training.input.synthesis_settings import SynthesisSettings

# Voxels between the control points of the displacement, and between those of fine folds.
_SPACING, _FINE_SPACING = 18.0, 8.0
# Voxels between places where sulci differ on their own.
_SULCI_SPACING = 24.0


def deformed(
    label_map: LabelMap,
    size: tuple[int, ...],
    settings: SynthesisSettings,
    rng: np.random.Generator,
) -> Labels:
    """A patch of a deformed map, around a random voxel of the brain.

    Parameters
    ----------
    label_map
        The head.
    size
        Shape of the patch.
    settings
        Ranges.
    rng
        Source of randomness.

    Returns
    -------
    ndarray
        ``(*size)``, indices into ``label_map.values``; 0 beyond the map.
    """
    s = settings
    matrix = _matrix(s, rng)
    centre = np.unravel_index(
        label_map.brain_voxels[rng.integers(len(label_map.brain_voxels))], label_map.labels.shape
    )
    field = smooth_field(size, _SPACING, rng.uniform(0, s.displacement), rng, 3)
    field += smooth_field(size, _FINE_SPACING, rng.uniform(0, s.folding), rng, 3)
    axes = [np.arange(n, dtype=np.float32) - (n - 1) / 2 for n in size]
    index = []
    for row in range(3):
        coordinate = field[row] + np.float32(centre[row])
        for column in range(3):
            shape = [1, 1, 1]
            shape[column] = -1
            coordinate += np.float32(matrix[row, column]) * axes[column].reshape(shape)
        limit = label_map.labels.shape[row] - 1
        # The outermost voxels of a map are background: what lies beyond is, too.
        index.append(np.clip(np.rint(coordinate), 0, limit).astype(np.int32))
    result: Labels = label_map.labels[index[0], index[1], index[2]]
    return result


def _matrix(s: SynthesisSettings, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    matrix = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(rng.uniform(-s.rotation, s.rotation, 3))):
        a, b = [i for i in range(3) if i != axis]
        turn = np.eye(3)
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    matrix = matrix @ (np.eye(3) + rng.uniform(-s.shear, s.shear, (3, 3)) * (1 - np.eye(3)))
    matrix = matrix * (1 + rng.uniform(-s.scaling, s.scaling, 3))
    if rng.random() < s.flip_probability:
        # Left and right are the last axis (Z, Y, X).
        matrix[:, 2] *= -1
    return matrix


def with_other_sulci(
    labels: Labels, values: npt.NDArray[np.int64], rng: np.random.Generator
) -> Labels:
    """A patch whose sulci are wider in some places, narrower in others.

    Voxels of the cortex that touch outer CSF become CSF where a smooth random field is high;
    where it is low, CSF that touches the cortex becomes cortex. So the ten maps stand for thinner
    and thicker cortices, and for more and less atrophy.

    Parameters
    ----------
    labels
        ``(*size)``, indices into ``values``.
    values
        The FreeSurfer label of each index.
    rng
        Source of randomness.
    """
    outer = np.flatnonzero(values == OUTER_CSF)
    cortices = [index for index, value in enumerate(values) if value in CORTEX_LABELS]
    if not len(outer) or not cortices:
        return labels
    field = smooth_field(labels.shape, _SULCI_SPACING, 1.0, rng)[0] + np.float32(rng.normal(0, 0.7))
    csf = labels == outer[0]
    cortex = np.isin(labels, cortices)
    wider = cortex & ndimage.binary_dilation(csf) & (field > 1)
    result = labels.copy()
    result[wider] = outer[0]
    for index in cortices:
        narrower = csf & ndimage.binary_dilation(labels == index) & (field < -1)
        result[narrower] = index
    return result
