"""Labels of a whole image in little memory: compressed slab by slab, read region by region."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np

from napari_structseg.distributions import Region, region_shape, slabs
from napari_structseg.render.rendering import SLAB_VOXELS, LabelArray

# The fastest: labels lie in runs, and more effort gains little.
_LEVEL = 1


class PackedLabels:
    """The labels of one segmentation.

    Parameters
    ----------
    shape
        Spatial shape of the image.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape
        self._slabs = list(slabs(shape, SLAB_VOXELS))
        self._packed: list[bytes] = []

    @property
    def n_bytes(self) -> int:
        """Memory that it takes."""
        return sum(len(one) for one in self._packed)

    def pack(self, labels: LabelArray) -> Iterator[None]:
        """Take the labels, slab by slab.

        Parameters
        ----------
        labels
            ``(*spatial)``.
        """
        self._packed.clear()
        for slab in self._slabs:
            self._packed.append(zlib.compress(labels[slab].tobytes(), _LEVEL))
            yield

    def read(self, region: Region) -> LabelArray:
        """Labels of a region, also one with steps, ``(*region)``, uint8."""
        result = np.empty(region_shape(self._shape, region), np.uint8)
        rows = np.asarray(range(self._shape[0])[region[0]])
        for slab, packed in zip(self._slabs, self._packed, strict=True):
            begin, end = np.searchsorted(rows, (slab[0].start, slab[0].stop))
            if begin < end:
                flat = np.frombuffer(zlib.decompress(packed), np.uint8)
                labels = flat.reshape(region_shape(self._shape, slab))
                result[begin:end] = labels[(rows[begin:end] - slab[0].start, *region[1:])]
        return result
