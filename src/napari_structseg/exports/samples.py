"""What several samples say together, gathered one after the other in little memory."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from napari_structseg.distributions import Region, region_shape, whole
from napari_structseg.errors import MemoryLimitError
from napari_structseg.evaluation.overlaps import pairwise_overlap
from napari_structseg.evaluation.volumes import voxel_volume
from napari_structseg.image import Image
from napari_structseg.render.hypotheses import Hypotheses, find_hypotheses
from napari_structseg.render.lattice import lattice_region
from napari_structseg.render.packed_labels import PackedLabels
from napari_structseg.render.rendering import LabelArray

# Compressed labels of all samples together. Twenty samples of a brain take a twentieth of it.
KEPT_BYTES = 1 << 28
# Voxels of all samples together that are compared with each other.
_COMPARED_VOXELS = 1 << 24
# Fewer say nothing about modes.
LEAST_GROUPED = 3


class SampleSet:
    """Samples of one image, kept compressed, beside the labelling that is shown.

    Parameters
    ----------
    image
        What was segmented.
    n_classes
        Number of classes C.
    shown
        The labelling that is shown, ``(*spatial)``, uint8: the mean or any other.
    kept_bytes
        Memory that compressed labels may take.

    Attributes
    ----------
    shown
        As given.
    unit
        Of volumes: mL, mm² of images with two axes, voxels or pixels where their size is unknown.
    """

    def __init__(
        self, image: Image, n_classes: int, shown: LabelArray, *, kept_bytes: int = KEPT_BYTES
    ) -> None:
        self._image, self._n_classes, self._kept_bytes = image, n_classes, kept_bytes
        self.shown = shown
        self._size, self.unit = voxel_volume(image.spacing, "mm" if image.has_spacing else "")
        self._packed: list[PackedLabels] = []
        self._counts: list[npt.NDArray[np.intp]] = []
        self._differing = [np.zeros(size, np.int64) for size in shown.shape]

    def __len__(self) -> int:
        return len(self._packed)

    def add(self, labels: LabelArray) -> None:
        """Take the next sample, ``(*spatial)``: the first one is sample 1.

        Raises
        ------
        MemoryLimitError
            If compressed labels take more memory than they may.
        """
        packed = PackedLabels(labels.shape)
        for _ in packed.pack(labels):
            pass
        total = packed.n_bytes + sum(one.n_bytes for one in self._packed)
        if total > self._kept_bytes:
            raise MemoryLimitError(
                f"Compressed labels of all samples were expected to take at most "
                f"{self._kept_bytes:,} bytes, but those of {len(self) + 1} samples take "
                f"{total:,}. Ask for fewer samples."
            )
        self._packed.append(packed)
        self._counts.append(np.bincount(labels.reshape(-1), minlength=self._n_classes))
        differs = labels != self.shown
        for axis, counted in enumerate(self._differing):
            others = tuple(one for one in range(differs.ndim) if one != axis)
            np.add(counted, np.count_nonzero(differs, axis=others), out=counted)

    def read(self, sample: int, region: Region) -> LabelArray:
        """Labels of a sample, counted from 1, ``(*region)``, uint8."""
        return self._packed[sample - 1].read(region)

    def whole(self, sample: int) -> LabelArray:
        """Labels of a sample, counted from 1, ``(*spatial)``, uint8."""
        return self.read(sample, whole(self.shown.shape))

    def frequency(self, region: Region) -> npt.NDArray[np.float32]:
        """Share of the samples in which a voxel has each label, ``(C, *region)``."""
        share = np.zeros((self._n_classes, *region_shape(self.shown.shape, region)), np.float32)
        for packed in self._packed:
            labels = packed.read(region)
            for label in range(self._n_classes):
                share[label] += labels == label
        share /= max(len(self), 1)
        return share

    @property
    def sizes(self) -> npt.NDArray[np.float64]:
        """Volume of each class in each sample, in :attr:`unit`, ``(N, C)``."""
        rows = np.array(self._counts, np.float64).reshape(len(self), self._n_classes)
        rows *= self._size
        return rows

    @property
    def shown_sizes(self) -> npt.NDArray[np.float64]:
        """Volume of each class in the labelling that is shown, in :attr:`unit`, ``(C,)``."""
        counts = np.bincount(self.shown.reshape(-1), minlength=self._n_classes)
        return counts.astype(np.float64) * np.float64(self._size)

    def position(self, axis: int) -> int:
        """The slice along an axis in which samples differ most from what is shown.

        Where they never do, that with the most foreground.
        """
        differing = self._differing[axis]
        if not differing.any():
            others = tuple(one for one in range(self.shown.ndim) if one != axis)
            differing = np.count_nonzero(self.shown, axis=others)
        return int(differing.argmax()) if differing.any() else len(differing) // 2

    def hypotheses(self) -> Hypotheses | None:
        """The modes of the samples; volumes in :attr:`unit`. None: there are too few samples."""
        if len(self) < LEAST_GROUPED:
            return None
        shape = self.shown.shape
        region = lattice_region(shape, max(_COMPARED_VOXELS // len(self), 1))
        every = np.stack([packed.read(region).reshape(-1) for packed in self._packed])
        overlap = pairwise_overlap(every, every, self._n_classes)
        exact = math.prod(region_shape(shape, region)) == self.shown.size
        return find_hypotheses(overlap.distances(), self.sizes[:, 1:], exact=exact)
