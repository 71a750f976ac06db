"""What mean field takes of memory, asked before anything is allocated."""

from __future__ import annotations

import math
from collections.abc import Sequence

from napari_structseg.controls import ITERATIONS_MAX

_FLOAT = 4
# Labels of the first, the newest and the shown iteration; who moved in the last two iterations;
# sites that the second leaves out; an energy in double precision; the labels that the session has
# delivered, in two bytes, and those that it delivers.
_SITE_BYTES = 3 + 2 + 1 + 8 + 3
# What an iteration of a slab takes in objects, whatever its size.
_RECORD_BYTES = 512


def refinement_bytes(n_classes: int, shape: Sequence[int]) -> int:
    """Memory that mean field holds at most beside the logits it refines.

    The history of labels counts as if every iteration changed most of them, as iterations that
    do not settle do. Intermediate results of the few sites at work are not counted: some ten
    megabytes, whatever the size of the image.

    Parameters
    ----------
    n_classes
        Number of classes K.
    shape
        Spatial shape of the image.
    """
    n_sites = math.prod(shape)
    padded = math.prod(size + 2 for size in shape)
    # Responsibilities of two iterations; log-likelihoods and a sample's offsets.
    fields = 2 * n_classes * _FLOAT * padded + 2 * n_classes * _FLOAT * n_sites
    n_slabs = max(shape) if len(shape) == 3 else 1
    history = ITERATIONS_MAX * (n_sites + n_slabs * _RECORD_BYTES)
    return fields + n_sites * _SITE_BYTES + history
