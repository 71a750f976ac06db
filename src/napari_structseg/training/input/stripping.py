"""What programs and fields of view take away from a head."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_structseg.training.input.label_maps import OUTER_CSF, Labels
from napari_structseg.training.input.smooth import smooth_field

Mask = npt.NDArray[np.bool_]

# Closing a mask by so many voxels fills the sulci.
_SULCI = 4
# Voxels between places where a program's mask is off on its own, and by how much of the step
# from inside to outside.
_ERROR_SPACING, _ERROR = 20.0, 0.12


def stripped(
    labels: Labels,
    values: npt.NDArray[np.int64],
    tissue: Labels,
    rng: np.random.Generator,
    *,
    loosely: bool,
) -> Mask:
    """Voxels that skull stripping takes away.

    Parameters
    ----------
    labels
        ``(*size)``, indices into ``values``.
    values
        The FreeSurfer label of each index.
    tissue
        ``(*size)``, 0 where there is no brain and no CSF.
    rng
        Source of randomness.
    loosely
        A rim of what is no brain stays. Otherwise the mask ends at the brain or up to 3 voxels
        from it, with the CSF of the sulci or without, exactly or smoothed as programs leave it.
    """
    whole = tissue > 0
    if loosely:
        return _outside(ndimage.binary_dilation(whole, iterations=int(rng.integers(1, 5))))
    kind = rng.random()
    if kind < 0.2:
        return _outside(whole)
    brain = whole & (values[labels] != OUTER_CSF)
    margin = int(rng.integers(0, 4))
    kept = ndimage.binary_dilation(brain, iterations=margin) if margin else brain
    if kind < 0.45:
        return _outside(kept & whole)
    filled = ndimage.binary_closing(np.pad(kept, _SULCI), iterations=_SULCI)
    inner = tuple(slice(_SULCI, -_SULCI) for _ in range(3))
    kept = kept | filled[inner]
    if kind < 0.75:
        return _outside(kept)
    edge = ndimage.gaussian_filter(kept.astype(np.float32), rng.uniform(1.0, 2.5))
    edge += smooth_field(kept.shape, _ERROR_SPACING, _ERROR, rng)[0]
    removed: Mask = edge < rng.uniform(0.3, 0.55)
    return removed


def _outside(kept: Mask) -> Mask:
    removed: Mask = ~kept
    return removed


def cut_off(size: Sequence[int], rng: np.random.Generator) -> Mask:
    """Voxels beyond a plane: where the field of view ends, or a face was removed.

    Parameters
    ----------
    size
        Shape of the patch.
    rng
        Source of randomness.
    """
    if rng.random() < 0.5:
        normal = np.zeros(3)
        normal[rng.integers(3)] = rng.choice([-1.0, 1.0])
    else:
        normal = rng.normal(0, 1, 3)
        normal /= np.linalg.norm(normal)
    distance = np.zeros(tuple(size), np.float32)
    for axis, n in enumerate(size):
        shape = [1, 1, 1]
        shape[axis] = -1
        distance += np.float32(normal[axis]) * np.linspace(-1, 1, n, dtype=np.float32).reshape(
            shape
        )
    removed: Mask = distance > rng.uniform(0.2, 0.9)
    return removed
