"""Where the data of an image is."""

from __future__ import annotations

import torch
from torch import Tensor

from napari_structseg.distributions import Region


def nonzero_box(data: Tensor) -> Region:
    """Bounding box of voxels that are not 0 in every channel; everything if there are none."""
    nonzero = (data != 0).any(dim=0)
    box = []
    for axis, size in enumerate(nonzero.shape):
        others = [other for other in range(nonzero.ndim) if other != axis]
        found = torch.nonzero(nonzero.amax(dim=others))
        start, stop = (int(found[0]), int(found[-1]) + 1) if len(found) else (0, size)
        box.append(slice(start, stop))
    return tuple(box)
