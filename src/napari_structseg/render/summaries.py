"""Summaries of several samples: probabilities, entropy, agreement, volumes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_structseg.distributions import LogitDistribution, Noise, Region, slabs
from napari_structseg.distributions.one_thread import CHUNK, chunks
from napari_structseg.render.lattice import Lattice
from napari_structseg.render.rendering import argmax_labels, combine

# 20 samples: 5 % and 95 % are exactly one sample in and one sample out.
DEFAULT_SAMPLES = 20
# Voxels of a slab of which all samples are summarised at once.
SUMMARY_SLAB_VOXELS = 1 << 15
_LATTICE_VOXELS = 200_000


def noises_of(seed: int, n_samples: int) -> list[Noise]:
    """The first ``n_samples`` samples of a series."""
    return [Noise(seed, sample) for sample in range(1, n_samples + 1)]


@dataclass(frozen=True, slots=True)
class SampleSummary:
    """What several samples say about each voxel of a region.

    Attributes
    ----------
    probability
        Mean over samples of softmax(logits), ``(C, *region)``.
    frequency
        Fraction of samples in which the voxel has the label, ``(C, *region)``.
    agreement
        Fraction of samples whose label is that of the mean, ``(*region)``.
    entropy
        Entropy of ``probability`` in nats, ``(*region)``, from 0 to ln C.
    """

    probability: Tensor
    frequency: Tensor
    agreement: Tensor
    entropy: Tensor


def summarise_logits(logits: Sequence[Tensor], mean: Tensor) -> SampleSummary:
    """Summarise samples.

    Parameters
    ----------
    logits
        Of each sample, ``(C, *region)``.
    mean
        Mean logits, ``(C, *region)``.
    """
    n_classes, *region = mean.shape
    means, samples = mean.flatten(1), [one.flatten(1) for one in logits]
    probability, frequency = torch.zeros_like(means), torch.zeros_like(means)
    agreement, entropy = torch.zeros_like(means[0]), torch.zeros_like(means[0])
    for part in chunks(means.shape[1], mean.device, max(1, CHUNK // n_classes)):
        mean_labels = argmax_labels(means[:, part], None, ())
        for sample in samples:
            labels = argmax_labels(sample[:, part], None, ())
            for label in range(n_classes):
                frequency[label, part] += labels == label
            agreement[part] += labels == mean_labels
            probability[:, part] += sample[:, part].softmax(dim=0)
        for sums in (frequency[:, part], agreement[part], probability[:, part]):
            sums.div_(len(samples))
        entropy[part] = torch.special.entr(probability[:, part]).sum(dim=0)
    return SampleSummary(
        probability.unflatten(1, region),
        frequency.unflatten(1, region),
        agreement.unflatten(0, region),
        entropy.unflatten(0, region),
    )


def summarise(
    distribution: LogitDistribution,
    noises: Sequence[Noise],
    weights: Sequence[float],
    region: Region | None = None,
) -> SampleSummary:
    """Summarise samples of a region; for a whole volume use :func:`summarise_volume`."""
    mean = distribution.mean(region)
    offsets = distribution.offsets(list(noises), region)
    return summarise_logits([combine(mean, one, weights) for one in offsets], mean)


def summarise_volume(
    distribution: LogitDistribution, noises: Sequence[Noise], weights: Sequence[float]
) -> Iterator[tuple[Region, SampleSummary]]:
    """Summarise samples of the whole image, slab by slab."""
    for region in slabs(distribution.spatial_shape, SUMMARY_SLAB_VOXELS):
        yield region, summarise(distribution, noises, weights, region)


def class_volumes(
    labels: npt.NDArray[np.uint8], n_classes: int, voxel_volume_ml: float
) -> npt.NDArray[np.float64]:
    """Volume of each class in mL, ``(C,)``."""
    counts = np.bincount(labels.reshape(-1), minlength=n_classes)
    return counts.astype(np.float64) * voxel_volume_ml


class VolumeDistribution:
    """The distribution of each class's volume over samples, fast enough for a slider.

    Volumes are counted on a :class:`~napari_structseg.render.lattice.Lattice`. Moving a slider
    then costs no drawing. Where it has every voxel (images up to 200,000 voxels) the volumes are
    exact; otherwise they are estimates. With the exact volumes of the mean they are estimated by
    a control variate: lattice estimate, plus what it is wrong by for the mean. The closer a
    sample is to the mean, the less of the lattice's sampling error is left; of the mean, none.

    Parameters
    ----------
    distribution
        p(eta | x).
    noises
        The samples.
    voxel_volume_ml
        Volume of a voxel of the image in mL.

    Attributes
    ----------
    mean_ml
        Exact volumes of the mean in mL, ``(C,)``; None: they are not known.
    """

    def __init__(
        self, distribution: LogitDistribution, noises: Sequence[Noise], voxel_volume_ml: float
    ) -> None:
        self._lattice = Lattice(distribution, _LATTICE_VOXELS)
        self._voxel_ml = voxel_volume_ml * self._lattice.voxels_per_point
        self._noises = tuple(noises)
        self.mean_ml: npt.NDArray[np.float64] | None = None

    def volumes_ml(self, weights: Sequence[float]) -> Iterator[npt.NDArray[np.float64]]:
        """Volumes in mL of each class, ``(C,)``, sample by sample."""
        of_mean = self._volumes(self._lattice.mean_labels())
        for noise in self._noises:
            volumes = self._volumes(self._lattice.labels(noise, weights))
            if self.mean_ml is None or self.exact:
                yield volumes
            else:
                yield np.maximum(self.mean_ml + (volumes - of_mean), 0)

    def _volumes(self, labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        return class_volumes(labels, self._lattice.n_classes, self._voxel_ml)

    @property
    def exact(self) -> bool:
        """Whether every voxel is counted."""
        return self._lattice.exact
