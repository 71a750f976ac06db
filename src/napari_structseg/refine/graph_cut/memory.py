"""What a graph cut takes of memory, asked before its graph is built."""

from __future__ import annotations

import math
from collections.abc import Sequence

from napari_structseg.memory import check_memory

# Of a voxel: logits of a class, their costs with a temporary array or two, and these as integers.
_CLASS_BYTES = 4 * 4 + 8
# Gains of it and of who is left, the sum of its links, what is current, labels, places, states,
# and temporary arrays of these.
_VOXEL_BYTES = 120
# Of a pair: the differences, similarities, the link as an integer, and an expansion's own.
_PAIR_BYTES = 4 + 4 + 4 + 8
# The graph, if no voxel is decided without it: of a voxel its node and links to source and sink,
# of a pair both its arcs. Measured with SciPy, which takes more than PyMaxflow.
_NODE_BYTES = 260
_ARC_BYTES = 130


def cut_bytes(n_classes: int, shape: Sequence[int], n_offsets: int) -> int:
    """Memory that a minimum needs at most, its pairs included.

    Parameters
    ----------
    n_classes
        Number of classes K.
    shape
        Spatial shape of the image.
    n_offsets
        Pairs for each voxel: 2 or 4 in 2-D, 3 or 13 in 3-D.
    """
    n_voxels = math.prod(size + 2 for size in shape)
    of_voxel = n_classes * _CLASS_BYTES + _VOXEL_BYTES + _NODE_BYTES
    return n_voxels * (of_voxel + n_offsets * (_PAIR_BYTES + _ARC_BYTES))


def check_cut_memory(n_classes: int, shape: Sequence[int], n_offsets: int) -> None:
    """Raise MemoryLimitError if a minimum would not fit into memory."""
    check_memory(
        cut_bytes(n_classes, shape, n_offsets),
        f"A graph cut of {math.prod(shape):,} voxels with {2 * n_offsets} neighbours each",
    )
