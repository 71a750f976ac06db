"""What else it could be, here: the few different ways in which samples label one place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from napari_structseg.controls import Controls
from napari_structseg.distributions import LogitDistribution, Region
from napari_structseg.distributions.one_thread import one_thread
from napari_structseg.render.clusters import FloatArray, find_clusters
from napari_structseg.render.places import Place
from napari_structseg.render.rendering import LabelArray, argmax_labels, render_labels
from napari_structseg.render.summaries import noises_of

# Voxels of the box that are looked at: all of a box of 90 x 90 or 20 x 20 x 20, every n-th of more.
# Who has clicked waits for it.
MAX_VOXELS = 1 << 13
# Offsets that are kept at a time, 64 MiB.
_KEPT_VALUES = 1 << 24
# Voxels that are compared at a time: numbers up to 2^24 are exact in single precision.
_BLOCK_VOXELS = 1 << 15


@dataclass(frozen=True, slots=True, eq=False)
class LocalHypothesis:
    """Samples that label a place in much the same way.

    Attributes
    ----------
    samples
        Their numbers, from the representative, which is the medoid, outwards.
    of
        How many samples there are in all hypotheses.
    share
        Share of the place that each class has in the representative, ``(C,)``, summing to 1.
    change_ml
        By how much each class is larger there than in the mean over all samples, ``(C,)``.
    """

    samples: tuple[int, ...]
    of: int
    share: FloatArray
    change_ml: FloatArray

    @property
    def representative(self) -> int:
        """The sample that is nearest to all others of the hypothesis."""
        return self.samples[0]

    @property
    def frequency(self) -> float:
        """Fraction of all samples."""
        return len(self.samples) / self.of

    @property
    def main_class(self) -> int:
        """The class that most of the place has."""
        return int(self.share.argmax())


@dataclass(frozen=True, slots=True, eq=False)
class LocalHypotheses:
    """What a place could be.

    Attributes
    ----------
    place
        Where.
    found
        The most frequent first.
    exact
        Whether every voxel of the place was compared, or those of a lattice.
    """

    place: Place
    found: tuple[LocalHypothesis, ...]
    exact: bool

    @property
    def is_about_classes(self) -> bool:
        """Whether most of the place has another class in each: they are told apart by it."""
        mains = [one.main_class for one in self.found]
        return len(set(mains)) == len(mains)

    def changed_class(self, hypothesis: LocalHypothesis) -> int:
        """The class whose volume tells a hypothesis best from the others.

        It is never the background (label 0), which only gives or takes what others lose or gain.
        """
        return int(np.abs(hypothesis.change_ml[1:]).argmax()) + 1


def local_hypotheses(
    distribution: LogitDistribution,
    controls: Controls,
    place: Place,
    voxel_volume_ml: float,
    n_samples: int = 60,
) -> LocalHypotheses:
    """Group samples by what they say about a place, and about nothing else.

    Only the box around the place is drawn. The distance of two samples is the share of the
    place's voxels in which they differ; unlike the overlap of whole segmentations it counts the
    background like any class, since a place may well be background. The groups are those of
    :func:`~napari_structseg.render.clusters.find_clusters`. The same arguments give the same
    hypotheses.

    Parameters
    ----------
    distribution
        p(eta | x).
    controls
        Seed, temperature and class scales.
    place
        Where. Of a box with more than :data:`MAX_VOXELS` voxels a lattice is compared.
    voxel_volume_ml
        Volume of a voxel in mL.
    n_samples
        Samples 1 to n of the series are grouped; a distribution without spread has one.
    """
    n_samples = n_samples if distribution.is_stochastic else 1

    def drawn(region: Region) -> LabelArray:
        return _drawn(distribution, controls, region, n_samples)

    return grouped_here(drawn, distribution.n_classes, place, voxel_volume_ml)


def grouped_here(
    labels_in: Callable[[Region], LabelArray],
    n_classes: int,
    place: Place,
    voxel_volume_ml: float,
) -> LocalHypotheses:
    """The same of labels that are there already, see :func:`local_hypotheses`.

    Parameters
    ----------
    labels_in
        Labels of samples 1 to N in a box with steps, ``(N, *region)``.
    n_classes
        Number of classes C.
    place, voxel_volume_ml
        See :func:`local_hypotheses`.
    """
    region, mask = place.thinned(MAX_VOXELS)
    labels = labels_in(region)[:, mask]
    n_samples, n_voxels = labels.shape
    counts = np.stack([np.bincount(row, minlength=n_classes) for row in labels])
    distances = differing_shares(labels)
    clusters = find_clusters(distances)
    point_ml = voxel_volume_ml * place.n_voxels / n_voxels
    change_ml = (counts - counts.mean(axis=0)) * point_ml
    found = []
    for cluster, medoid in enumerate(clusters.medoids):
        members = clusters.members(cluster)
        order = np.lexsort((members, members != medoid, distances[medoid, members]))
        samples = tuple(int(index) + 1 for index in members[order])
        share = counts[medoid] / n_voxels
        found.append(LocalHypothesis(samples, n_samples, share, change_ml[medoid]))
    return LocalHypotheses(place, tuple(found), exact=mask.size == place.mask.size)


def labels_at(
    distribution: LogitDistribution, controls: Controls, place: Place, sample: int
) -> LabelArray:
    """Labels of one sample in the box around a place, ``(*region)``, uint8.

    Parameters
    ----------
    distribution
        p(eta | x).
    controls
        Seed, temperature and class scales.
    place
        Where; those outside its mask are there, too.
    sample
        Which; 0 is the mean.
    """
    chosen = controls.model_copy(update={"sample": sample, "latent": ()})
    return render_labels(distribution, chosen.noise, chosen, place.region)


def differing_shares(labels: LabelArray) -> FloatArray:
    """Share of voxels in which two labellings differ, for all pairs, ``(N, N)``.

    Parameters
    ----------
    labels
        ``(N, voxels)``.
    """
    n, n_voxels = labels.shape
    disputed = labels[:, (labels != labels[0]).any(axis=0)]
    equal = np.zeros((n, n))
    with one_thread():
        for start in range(0, disputed.shape[1], _BLOCK_VOXELS):
            block = disputed[:, start : start + _BLOCK_VOXELS]
            for label in range(int(block.max()) + 1):
                mask = (block == label).astype(np.float32)
                equal += mask @ mask.T
    shares: FloatArray = (disputed.shape[1] - equal) / n_voxels
    return shares


def _drawn(
    distribution: LogitDistribution, controls: Controls, region: Region, n_samples: int
) -> LabelArray:
    """Labels of every sample in a box, ``(N, *region)``."""
    cropped = distribution.crop(region)
    mean, weights = cropped.mean(), controls.weights_of(distribution)
    noises = [controls.tempered(one, distribution) for one in noises_of(controls.seed, n_samples)]
    labels = np.empty((n_samples, *mean.shape[1:]), np.uint8)
    batch = max(1, _KEPT_VALUES // mean.numel())
    for start in range(0, n_samples, batch):
        offsets = cropped.offsets(noises[start : start + batch])
        for row, offset in zip(labels[start:], offsets, strict=False):
            row[...] = argmax_labels(mean, offset, weights).cpu().numpy()
    return labels


def describe(
    hypotheses: LocalHypotheses,
    names: Sequence[str],
    write: Callable[[float], str],
) -> list[str]:
    """What each hypothesis says, in a few words: "Nodule", or "Nodule: 0.4 mL larger".

    Parameters
    ----------
    hypotheses
        What a place could be.
    names
        Of the classes, ``(C,)``.
    write
        Writes a volume in mL with its unit.
    """
    words = []
    for one in hypotheses.found:
        if len(hypotheses.found) == 1 or hypotheses.is_about_classes:
            words.append(names[one.main_class])
            continue
        label = hypotheses.changed_class(one)
        change = float(one.change_ml[label])
        word = "larger" if change > 0 else "smaller"
        words.append(f"{names[label]}: {write(abs(change))} {word}")
    return words
