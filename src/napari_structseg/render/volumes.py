"""Exact volumes over samples, of images of any size."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from napari_structseg.distributions import LogitDistribution, Noise, slabs
from napari_structseg.render.rendering import SLAB_VOXELS, argmax_labels
from napari_structseg.render.summaries import class_volumes


def sample_volumes(
    distribution: LogitDistribution,
    noises: Sequence[Noise],
    weights: Sequence[float],
    voxel_volume_ml: float,
    report: Callable[[float], None] | None = None,
) -> npt.NDArray[np.float64]:
    """Volume of each class in each sample, with every voxel counted and no sample kept.

    Parameters
    ----------
    distribution
        p(eta | x).
    noises
        The samples.
    weights
        Temperature times class scale, one per class.
    voxel_volume_ml
        Volume of a voxel in mL.
    report
        Called with the fraction done.

    Returns
    -------
    ndarray
        mL, ``(N, C)``.
    """
    volumes = np.zeros((len(noises), distribution.n_classes))
    regions = list(slabs(distribution.spatial_shape, SLAB_VOXELS))
    for done, region in enumerate(regions, start=1):
        mean = distribution.mean(region)
        for sample, noise in enumerate(noises):
            labels = argmax_labels(mean, distribution.offset(noise, region), weights)
            volumes[sample] += class_volumes(
                labels.cpu().numpy(), distribution.n_classes, voxel_volume_ml
            )
        if report is not None:
            report(done / len(regions))
    return volumes
