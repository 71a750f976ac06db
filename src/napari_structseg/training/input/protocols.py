"""Labels of one head as raters of several protocols would draw them.

Raters and atlases agree on most voxels of a brain and differ in few ways: whether the CSF of narrow
sulci is drawn or counts as cortex, where exactly grey matter ends, to which tissue the pallidum
and the rim of the thalamus belong. A label map knows one answer. Here each patch gets the answers
of one rater, which its image does not show, so that a distribution learns to vary them, each over
the whole patch as a rater would.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_structseg.training.input.label_maps import (
    CSF,
    GREY,
    OUTER_CSF,
    WHITE,
    Labels,
)
from napari_structseg.training.input.smooth import smooth_field

Mask = npt.NDArray[np.bool_]

# How often the CSF of sulci counts as cortex, and the widest sulci then, in voxels to each side.
_SULCI_PROBABILITY, _WIDEST = 0.5, 3
# Where a border is drawn: the same everywhere for a rater, and from place to place. Beyond 1 it
# moves by a voxel.
_BORDER, _LOCAL_BORDER = 0.6, 0.5
_BORDER_SPACING = 20.0
# Structures that some protocols count as the other tissue: labels, how often, and whether only
# their rim.
_DISPUTED = (
    ((13, 52), 0.4, False),  # pallidum
    ((10, 49), 0.3, True),  # thalamus
    ((28, 60), 0.25, False),  # ventral diencephalon
)


def as_drawn(
    labels: Labels, values: npt.NDArray[np.int64], tissue: Labels, rng: np.random.Generator
) -> Labels:
    """The tissues of a patch as one rater draws them.

    Parameters
    ----------
    labels
        ``(Z, Y, X)``, indices into ``values``.
    values
        The FreeSurfer label of each index.
    tissue
        ``(Z, Y, X)`` in 0..3, as the map has them.
    rng
        Who the rater is.

    Returns
    -------
    ndarray
        ``(Z, Y, X)`` uint8 in 0..3.
    """
    drawn = tissue.copy()
    for structure, probability, rim in _DISPUTED:
        if rng.random() < probability:
            _give_away(drawn, np.isin(values, structure)[labels], rim=rim)
    if rng.random() < _SULCI_PROBABILITY:
        outer = (values == OUTER_CSF)[labels]
        drawn[outer & _filled(tissue >= GREY, int(rng.integers(1, _WIDEST + 1)))] = GREY
    for first, second in ((GREY, WHITE), (CSF, GREY)):
        _move_border(drawn, first, second, rng)
    return drawn


def _give_away(drawn: Labels, structure: Mask, *, rim: bool) -> None:
    """Grey matter becomes white matter, or the other way round."""
    if rim:
        structure = structure & ~ndimage.binary_erosion(structure, iterations=2)
    drawn[structure] = GREY + WHITE - drawn[structure]


def _filled(brain: Mask, width: int) -> Mask:
    """The brain with its sulci, up to twice the width."""
    closed = ndimage.binary_closing(np.pad(brain, width), iterations=width)
    inner: Mask = closed[tuple(slice(width, -width) for _ in range(brain.ndim))]
    return inner


def _move_border(drawn: Labels, first: int, second: int, rng: np.random.Generator) -> None:
    """Voxels at the border of two tissues change sides where a smooth random field is large."""
    field = smooth_field(drawn.shape, _BORDER_SPACING, _LOCAL_BORDER, rng)[0]
    field += np.float32(rng.normal(0, _BORDER))
    is_first, is_second = drawn == first, drawn == second
    grows = is_second & ndimage.binary_dilation(is_first) & (field > 1)
    shrinks = is_first & ndimage.binary_dilation(is_second) & (field < -1)
    drawn[grows] = first
    drawn[shrinks] = second
