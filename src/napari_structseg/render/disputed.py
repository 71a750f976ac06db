"""Disputed regions: where samples differ, in pieces that can be looked at one after the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_structseg.distributions import LogitDistribution, Noise, Region, region_shape, slabs
from napari_structseg.render.lattice import lattice_region
from napari_structseg.render.places import Mask, Place
from napari_structseg.render.rendering import LabelArray, argmax_labels

# A voxel is disputed if more samples than this differ from its most frequent label.
DISPUTED_ABOVE = 0.1
# A region of fewer voxels (of those that are looked at) is noise, and is left out.
MIN_VOXELS = 8
# A region that is longer along an axis, in voxels of the image, is cut up: where two classes touch
# all over an organ, all of the border would be one region.
LONGEST = 64
MAX_REGIONS = 200
MAX_VOXELS = 3 << 19
_SLAB_VOXELS = 1 << 15
_STEPS_UP = (0.2, 0.3, 0.4)
# Of the labels of all samples in a region's voxels: what a class needs to be named.
_INVOLVED = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class DisputedRegion:
    """Connected voxels of which samples disagree.

    Attributes
    ----------
    centre
        One of its voxels, the nearest to the centre of the disagreement.
    box
        Around it.
    extent_ml
        Its volume.
    disagreement_ml
        Sum over its voxels of the share of samples that differ from the voxel's most frequent
        label, as a volume: what it is ranked by.
    classes
        Labels of the classes that it is between, the most frequent first: those that at least
        5 % of its samples and voxels have.
    """

    centre: tuple[int, ...]
    box: Region
    extent_ml: float
    disagreement_ml: float
    classes: tuple[int, ...]
    _mask: Mask
    _step: int

    def outside(self, region: Region) -> DisputedRegion:
        """The same, of a region, on the voxels of the image that the region is of."""
        starts = [part.start for part in region]
        centre = tuple(at + start for at, start in zip(self.centre, starts, strict=True))
        box = tuple(
            slice(part.start + start, part.stop + start)
            for part, start in zip(self.box, starts, strict=True)
        )
        return replace(self, centre=centre, box=box)

    @property
    def place(self) -> Place:
        """Its voxels; of a lattice, with those that each of its points stands for."""
        mask = self._mask
        for axis in range(mask.ndim):
            mask = mask.repeat(self._step, axis)
        # At the edges of the image a point stands for fewer voxels.
        sizes = tuple(slice(0, part.stop - part.start) for part in self.box)
        return Place(self.box, mask[sizes])


class Disagreement:
    """How often each label occurs among samples, voxel by voxel, of a whole image.

    Parameters
    ----------
    shape
        Spatial shape of the image.
    n_classes
        Number of classes.
    n_samples
        Number of samples.
    labels
        Labels of every sample in a region, which may have steps, each ``(*region)``.
    voxel_volume_ml
        Volume of a voxel in mL.
    max_voxels
        An image of more is looked at on a lattice.

    Attributes
    ----------
    exact
        Whether every voxel is looked at, or those of a lattice.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        n_classes: int,
        n_samples: int,
        labels: Callable[[Region], Iterable[LabelArray]],
        voxel_volume_ml: float,
        *,
        max_voxels: int = MAX_VOXELS,
    ) -> None:
        self._shape, self._n_classes, self._n_samples = shape, n_classes, n_samples
        self._labels = labels
        self._lattice = lattice_region(self._shape, max_voxels)
        points = region_shape(self._shape, self._lattice)
        self._step = self._lattice[0].step or 1
        self.exact = self._step == 1
        self._point_ml = voxel_volume_ml * math.prod(self._shape) / math.prod(points)
        self._share = np.zeros(points, np.float32)
        # Of disputed voxels only: index among the points, and how often each label occurs.
        self._where: list[npt.NDArray[np.intp]] = []
        self._counts: list[npt.NDArray[np.uint16]] = []

    def steps(self) -> Iterator[None]:
        """Look at the image, slab by slab."""
        begun = 0
        for inner in slabs(self._share.shape, _SLAB_VOXELS):
            first, *others = self._lattice
            start = first.start + inner[0].start * self._step
            stop = first.start + (inner[0].stop - 1) * self._step + 1
            region = (slice(start, stop, self._step), *others)
            counts = self._count(region)
            n = self._n_samples
            share = ((n - counts.max(axis=0)) / n).astype(np.float32)
            self._share[inner] = share.reshape(self._share[inner].shape)
            disputed = np.flatnonzero(share > DISPUTED_ABOVE)
            self._where.append(disputed + begun)
            self._counts.append(counts[:, disputed])
            begun += share.size
            yield

    def regions(self) -> list[DisputedRegion]:
        """Every region that is large enough, the most disagreement first; at most MAX_REGIONS."""
        where = np.concatenate(self._where)
        counts = np.concatenate(self._counts, axis=1)
        labelled = self._labelled()
        number_at = labelled.reshape(-1)[where]
        # How often each label occurs in each region, (C, regions).
        totals = np.stack([np.bincount(number_at, one).astype(np.intp) for one in counts])
        found = []
        for number, box in enumerate(ndimage.find_objects(labelled), start=1):
            if box is None:
                continue
            mask = labelled[box] == number
            if np.count_nonzero(mask) >= MIN_VOXELS:
                found.append(self._region(box, mask, totals[:, number]))
        # With equal disagreement the first in the image comes first, so that the order is stable.
        found.sort(key=lambda one: (-one.disagreement_ml, one.centre))
        return found[:MAX_REGIONS]

    def _count(self, region: Region) -> npt.NDArray[np.uint16]:
        """How often each label occurs, ``(C, points)``."""
        n_points = math.prod(region_shape(self._shape, region))
        counts = np.zeros((self._n_classes, n_points), np.uint16)
        for labels in self._labels(region):
            flat = labels.reshape(-1)
            for label in range(self._n_classes):
                counts[label] += flat == label
        return counts

    def _labelled(self) -> npt.NDArray[np.int32]:
        """Numbers of regions, ``(*points)``; 0 for what is in none."""
        touching = np.ones((3,) * self._share.ndim, bool)
        labelled: npt.NDArray[np.int32] = ndimage.label(self._share > DISPUTED_ABOVE, touching)[0]
        number = int(labelled.max())
        for above in _STEPS_UP:
            for index, box in enumerate(ndimage.find_objects(labelled), start=1):
                if box is None or not self._is_long(box):
                    continue
                own = labelled[box]
                mask = own == index
                pieces, n_pieces = ndimage.label(mask & (self._share[box] > above), touching)
                sizes = np.bincount(pieces.reshape(-1))[1:]
                # What falls apart into noise stays one region.
                if not n_pieces or sizes.max() < MIN_VOXELS:
                    continue
                own[mask] = 0
                own[pieces > 0] = pieces[pieces > 0] + number
                number += n_pieces
        return labelled

    def _is_long(self, box: Region) -> bool:
        longest: int = max(part.stop - part.start for part in box)
        return longest * self._step > LONGEST

    def _region(self, box: Region, mask: Mask, total: npt.NDArray[np.intp]) -> DisputedRegion:
        share = np.where(mask, self._share[box], 0)
        points = np.argwhere(mask)
        centre = share[mask] @ points / share.sum()
        nearest = points[np.square(points - centre).sum(axis=1).argmin()]
        order = np.argsort(-total, kind="stable")
        classes = [int(label) for label in order if total[label] >= _INVOLVED * total.sum()]
        return DisputedRegion(
            tuple(
                int(outer.start + (part.start + at) * self._step)
                for outer, part, at in zip(self._lattice, box, nearest, strict=True)
            ),
            tuple(
                slice(part.start * self._step, min(part.stop * self._step, size))
                for part, size in zip(box, self._shape, strict=True)
            ),
            float(len(points) * self._point_ml),
            float(share.sum(dtype=np.float64) * self._point_ml),
            tuple(classes),
            mask,
            self._step,
        )


def disagreement_of(
    distribution: LogitDistribution,
    noises: Sequence[Noise],
    weights: Sequence[float],
    voxel_volume_ml: float,
    max_voxels: int = MAX_VOXELS,
) -> Disagreement:
    """Of the samples of a distribution.

    Parameters
    ----------
    distribution
        p(eta | x).
    noises
        The samples, as the distribution sees them.
    weights
        What the offset of each class is multiplied with.
    voxel_volume_ml, max_voxels
        See :class:`Disagreement`.
    """

    def labels(region: Region) -> Iterator[LabelArray]:
        mean = distribution.mean(region)
        for noise in noises:
            offset = distribution.offset(noise, region)
            yield argmax_labels(mean, offset, weights).cpu().numpy()

    return Disagreement(
        distribution.spatial_shape,
        distribution.n_classes,
        len(noises),
        labels,
        voxel_volume_ml,
        max_voxels=max_voxels,
    )


def disputed_regions(
    distribution: LogitDistribution,
    noises: Sequence[Noise],
    weights: Sequence[float],
    voxel_volume_ml: float,
) -> list[DisputedRegion]:
    """Disputed regions at once, see :class:`Disagreement`."""
    disagreement = disagreement_of(distribution, noises, weights, voxel_volume_ml)
    for _ in disagreement.steps():
        pass
    return disagreement.regions()
