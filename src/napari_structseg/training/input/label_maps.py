"""Whole-head label maps with FreeSurfer's numbers, and the tissue of each label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_structseg.errors import InputError

Labels = npt.NDArray[np.uint8]

BACKGROUND, CSF, GREY, WHITE = range(4)
TISSUE_NAMES = ("background", "CSF", "grey matter", "white matter")

# FreeSurfer label -> how white it looks in T1: 0 grey .. 1 white; (low, high). The ranges hold the
# means that SynthSeg publishes for T1-weighted scans (brain stem .53, white matter of the
# cerebellum .63, putamen .44) and what the MNI152 template and other scanners show.
CORTEX_LABELS = (3, 42)
GREY_LABELS = {
    CORTEX_LABELS: (0.0, 0.0),
    (8, 47): (-0.1, 0.2),  # cerebellar cortex
    (10, 49): (0.3, 0.85),  # thalamus
    (11, 50): (0.0, 0.4),  # caudate
    (12, 51): (0.05, 0.6),  # putamen
    (13, 52): (0.45, 1.0),  # pallidum
    (17, 53): (-0.1, 0.2),  # hippocampus
    (18, 54): (-0.1, 0.2),  # amygdala
    (26, 58): (0.0, 0.4),  # accumbens
}
WHITE_LABELS = {
    (2, 41): (1.0, 1.0),  # cerebral white matter
    (7, 46): (0.5, 1.1),  # cerebellar white matter
    (16,): (0.45, 1.05),  # brain stem
    (28, 60): (0.45, 1.0),  # ventral diencephalon
    (25, 57, 77): (0.4, 0.95),  # white-matter lesions
    (85,): (0.5, 1.0),  # optic chiasm
}
OUTER_CSF = 24
VENTRICLES = (4, 5, 14, 15, 43, 44, 72)
CSF_LABELS = (*VENTRICLES, OUTER_CSF, 136, 137, 163, 164)  # choroid plexus included
_MAX_LABELS = 256


@dataclass(frozen=True, slots=True)
class LabelMap:
    """A whole-head label map, labels renumbered to fit in uint8.

    Attributes
    ----------
    labels
        ``(Z, Y, X)`` indices into ``values``.
    values
        The FreeSurfer label of each index, ascending; ``values[0]`` is 0.
    brain_voxels
        Flat indices of voxels with a tissue, from which patch centres are drawn.
    """

    labels: Labels
    values: npt.NDArray[np.int64]
    brain_voxels: npt.NDArray[np.int64]

    @classmethod
    def from_freesurfer(cls, labels: npt.NDArray[np.integer]) -> LabelMap:
        """Renumber a map of FreeSurfer labels, cropped to the head.

        Parameters
        ----------
        labels
            ``(Z, Y, X)``, 0 outside the head.

        Raises
        ------
        InputError
            If no label is one of the brain's, or there are more than 256 labels.
        """
        box = ndimage.find_objects((labels > 0).astype(np.uint8))
        if not box:
            raise InputError("The label map is empty: every voxel is 0.")
        # A rim of background: coordinates outside the map are clamped to its border.
        head = np.pad(labels[box[0]], 1)
        values, indices = np.unique(head, return_inverse=True)
        if len(values) > _MAX_LABELS:
            raise InputError(
                f"A label map may hold {_MAX_LABELS} different labels, but this one holds "
                f"{len(values)}. Is it an image?"
            )
        compact = indices.reshape(head.shape).astype(np.uint8)
        tissue = tissue_table(values)[compact]
        if not tissue.any():
            raise InputError(
                "The label map must use FreeSurfer's numbers (2 is the left cerebral white "
                f"matter, 3 its cortex), but it holds {', '.join(map(str, values[:10]))}."
            )
        return cls(compact, values.astype(np.int64), np.flatnonzero(tissue))


def tissue_table(values: npt.NDArray[np.integer]) -> Labels:
    """Tissue (0 background, 1 CSF, 2 grey, 3 white) of each FreeSurfer label."""
    table = np.zeros(len(values), np.uint8)
    table[np.isin(values, CSF_LABELS)] = CSF
    table[np.isin(values, [label for group in GREY_LABELS for label in group])] = GREY
    table[np.isin(values, [label for group in WHITE_LABELS for label in group])] = WHITE
    return table
