"""Samples on a lattice of voxels: what is counted while a slider moves."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from napari_structseg.distributions import LogitDistribution, Noise, Region, region_shape
from napari_structseg.render.rendering import LabelArray, argmax_labels


def lattice_region(spatial_shape: Sequence[int], max_voxels: int) -> Region:
    """Every n-th voxel along each axis, with the least n for which there are not too many."""
    step = 1
    while math.prod(-(-size // step) for size in spatial_shape) > max_voxels:
        step += 1
    # In the middle of what each stands for.
    return tuple(slice(min(step // 2, size - 1), size, step) for size in spatial_shape)


class Lattice:
    """Every n-th voxel of an image along each axis; samples drawn there are kept.

    Parameters
    ----------
    distribution
        p(eta | x).
    max_voxels
        The lattice has at most so many voxels.

    Attributes
    ----------
    exact
        Whether it has every voxel.
    voxels_per_point
        How many voxels of the image each one of the lattice stands for.
    """

    def __init__(self, distribution: LogitDistribution, max_voxels: int) -> None:
        shape = distribution.spatial_shape
        region = lattice_region(shape, max_voxels)
        self.voxels_per_point = math.prod(shape) / math.prod(region_shape(shape, region))
        self.exact = self.voxels_per_point == 1
        self._cropped = distribution.crop(region)
        self._mean = self._cropped.mean()
        self._offsets: dict[Noise, Tensor] = {}

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return self._cropped.n_classes

    def mean_labels(self) -> LabelArray:
        """Labels of the mean, ``(*lattice)``, uint8."""
        result: LabelArray = argmax_labels(self._mean, None, ()).cpu().numpy()
        return result

    def labels(self, noise: Noise, weights: Sequence[float]) -> LabelArray:
        """Labels of a sample, ``(*lattice)``, uint8.

        Parameters
        ----------
        noise
            Which sample; it is drawn once.
        weights
            What the offset of each class is multiplied with.
        """
        if noise not in self._offsets:
            self._offsets[noise] = self._cropped.offset(noise)
        result: LabelArray = argmax_labels(self._mean, self._offsets[noise], weights).cpu().numpy()
        return result
