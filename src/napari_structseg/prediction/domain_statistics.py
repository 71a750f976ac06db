"""A few numbers of an image and its segmentation that tell whether a model knows such images.

They are simple on purpose: each can be said in a sentence, and checked by looking at the image.

dark end, middle, bright end
    The 5th, 50th and 95th percentile of the intensities that are not 0, as the network sees them:
    normalised. Another sequence or modality has another histogram.
brightness
    Median normalised intensity where the mean has a class. Where contrasts are inverted, classes
    have another brightness.
data at the edge
    Share of the voxels at the faces of the image that are not 0: little in a stripped head.
tissue at the edge
    Share of these that the mean calls something else than background: a field that cuts it.
volume
    Of each class in the mean; where voxels have a size, and the image is segmented as a whole.
entropy
    Mean entropy of the marginal over samples, where the mean has a foreground class; temperature
    and class scales at 1, however the model is calibrated.

All but the edge are counted on a lattice of voxels, in the box of what is not 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_structseg.distributions import (
    LogitDistribution,
    Region,
    region_shape,
    slice_region,
)
from napari_structseg.errors import InputError
from napari_structseg.evaluation.volumes import voxel_volume
from napari_structseg.image import Image
from napari_structseg.models import ModelSpec
from napari_structseg.models.domain_spec import StatisticName
from napari_structseg.prediction.boxes import nonzero_box
from napari_structseg.prediction.intensity_windows import fitting_window, value_range
from napari_structseg.prediction.pieces import shifted
from napari_structseg.prediction.preprocess import normalise
from napari_structseg.render.lattice import lattice_region
from napari_structseg.render.rendering import argmax_labels, combine
from napari_structseg.render.summaries import noises_of

Key = tuple[StatisticName, str]
"""A statistic, and the class or channel that it is of; empty: all."""

QUANTILES: dict[StatisticName, float] = {"dark end": 0.05, "middle": 0.5, "bright end": 0.95}
MOST_POINTS = 100_000
_N_SAMPLES, _SEED = 10, 7
# The median of fewer voxels says little.
_LEAST_VOXELS = 20


def statistics_of(
    spec: ModelSpec,
    image: Image,
    distribution: LogitDistribution,
    region: Region | None = None,
) -> dict[Key, float]:
    """Every statistic that an image has; those that are not defined are left out.

    Parameters
    ----------
    spec
        Of the model that gave the distribution.
    image
        What it was applied to.
    distribution
        On the grid of the region.
    region
        The part of the image that the distribution is of; None: all of it. Volumes and edges are
        of whole images only.
    """
    data = image.data if region is None else image.data[(slice(None), *region)]
    points, share = lattice_in_box(data)
    cropped = distribution.crop(points)
    with torch.inference_mode():
        labels = argmax_labels(cropped.mean(), None, ()).cpu().numpy()
        found = dict(_of_intensities(spec, image, data[(slice(None), *points)], labels))
        entropy = _mean_entropy(cropped, labels)
    if entropy is not None:
        found["entropy", ""] = entropy
    if region is None:
        found |= _of_edges(data, distribution)
        if image.has_spacing:
            per_point = voxel_volume(image.spacing, "mm")[0] / share
            counts = np.bincount(labels.ravel(), minlength=spec.n_classes)
            found |= {
                ("volume", name): float(counts[label] * per_point)
                for label, name in enumerate(spec.class_names)
                if label
            }
    return found


def statistics_of_image(spec: ModelSpec, image: Image) -> dict[Key, float]:
    """Those that no model has a say in: of the intensities, and of data at the edge.

    Parameters
    ----------
    spec
        Says how intensities are normalised.
    image
        A whole one.
    """
    points, _ = lattice_in_box(image.data)
    found = dict(_of_intensities(spec, image, image.data[(slice(None), *points)], None))
    n_voxels = n_data = 0
    for _, is_data in _faces(image.data):
        n_voxels += is_data.size
        n_data += int(np.count_nonzero(is_data))
    return {**found, ("data at the edge", ""): n_data / n_voxels}


def lattice_in_box(
    data: npt.NDArray[np.generic], *others: npt.NDArray[np.generic]
) -> tuple[Region, float]:
    """Every n-th voxel along each axis, of the box of all that is not 0.

    Parameters
    ----------
    data, others
        ``(K, *spatial)`` of the same grid.

    Returns
    -------
    region
        At most `MOST_POINTS` voxels.
    share
        Of the voxels of the box.
    """
    something = np.stack([(one != 0).any(axis=0) for one in (data, *others)])
    box = nonzero_box(torch.from_numpy(something))
    sizes = [part.stop - part.start for part in box]
    lattice = lattice_region(sizes, MOST_POINTS)
    region = tuple(
        slice(part.start, part.stop, inner.step)
        for part, inner in zip(shifted(lattice, [part.start for part in box]), lattice, strict=True)
    )
    return region, math.prod(region_shape(sizes, lattice)) / math.prod(sizes)


def _of_intensities(
    spec: ModelSpec,
    image: Image,
    data: npt.NDArray[np.generic],
    labels: npt.NDArray[np.uint8] | None,
) -> Iterator[tuple[Key, float]]:
    """Of the histogram of each channel, and of each class in it where there are labels."""
    try:
        intensity = spec.intensity
        if intensity.depends_on_values:
            intensity = fitting_window(intensity, value_range(image), image.name, image.data)
        seen = normalise(data, intensity).numpy()
    except InputError:
        # On the lattice alone there is no contrast: there is nothing to be compared.
        return
    several = len(spec.channels) > 1
    for channel, values in zip(spec.channels, seen, strict=True):
        inside = values[values != 0]
        if len(inside) < _LEAST_VOXELS:
            continue
        for name, level in QUANTILES.items():
            yield (name, channel if several else ""), float(np.quantile(inside, level))
        for label, class_name in enumerate(() if labels is None else spec.class_names):
            of_class = values[labels == label]
            if label and len(of_class) >= _LEAST_VOXELS:
                of = f"{class_name} in {channel}" if several else class_name
                yield ("brightness", of), float(np.median(of_class))


def _of_edges(data: npt.NDArray[np.generic], distribution: LogitDistribution) -> dict[Key, float]:
    """Shares of the voxels at the faces of an image, edges counted with each of their faces."""
    n_voxels = n_data = n_tissue = 0
    for face, is_data in _faces(data):
        with torch.inference_mode():
            labels = argmax_labels(distribution.mean(face), None, ())
        n_voxels += is_data.size
        n_data += int(np.count_nonzero(is_data))
        n_tissue += int(labels.count_nonzero())
    return {
        ("data at the edge", ""): n_data / n_voxels,
        ("tissue at the edge", ""): n_tissue / n_voxels,
    }


def _faces(data: npt.NDArray[np.generic]) -> Iterator[tuple[Region, npt.NDArray[np.bool_]]]:
    """Each face of ``(C, *spatial)``, and where any channel is not 0 in it."""
    shape = data.shape[1:]
    for axis, size in enumerate(shape):
        for position in {0, size - 1}:
            face = slice_region(shape, axis, position)
            yield face, (data[(slice(None), *face)] != 0).any(axis=0)


def _mean_entropy(distribution: LogitDistribution, labels: npt.NDArray[np.uint8]) -> float | None:
    """Mean entropy in nats where labels are foreground; None: there is hardly any."""
    where = torch.from_numpy(labels != 0)
    if np.count_nonzero(labels) < _LEAST_VOXELS:
        return None
    mean = distribution.mean()
    total: Tensor = torch.zeros_like(mean)
    noises = noises_of(_SEED, _N_SAMPLES if distribution.is_stochastic else 1)
    weights = (1.0,) * distribution.n_classes
    for noise in noises:
        total += combine(mean, distribution.offset(noise), weights).softmax(dim=0)
    entropy = torch.special.entr((total / len(noises)).cpu()).sum(dim=0)
    return float(entropy[where].mean())
