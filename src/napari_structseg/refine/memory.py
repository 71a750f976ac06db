"""What mean field takes of memory, asked before anything is allocated."""

from __future__ import annotations

import math
from collections.abc import Sequence


def refinement_bytes(n_classes: int, shape: Sequence[int]) -> int:
    """Memory that mean field needs beside the logits it refines."""
    # Log-likelihoods, responsibilities of two iterations and a sample's offsets, float32;
    # labels of the first, the last and the shown iteration, and who moved in the last two.
    return math.prod(shape) * (4 * n_classes * 4 + 5)
