r"""Larger, smaller: the way through a distribution on which the volume of a class changes most.

Coordinates z of a sample (factors of a low-rank normal, latents of a decoder) are standard normal.
The direction is that of the mean gradient of the volume V over the distribution, E[grad V(z)],
which by Stein's lemma (1981) is E[z V(z)]: the coefficients of a linear regression of V on z. No
derivative is taken, so that it is the volume of labels itself that is followed, and a class that
the mean does not have, such as a small lesion, has a direction, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from napari_structseg.controls import LATENT_MAX, MEAN, Controls
from napari_structseg.distributions import LogitDistribution, Noise
from napari_structseg.render.lattice import lattice_region
from napari_structseg.render.rendering import argmax_labels
from napari_structseg.render.summaries import class_volumes, noises_of

FloatArray = npt.NDArray[np.float64]

# How far a handle goes to each side, in standard deviations: beyond 99 of 100 samples.
FURTHEST = 2.5
_N_KNOTS = 21
# Points of the lattice. Volumes along a way are compared with each other, on the same points.
_LATTICE_VOXELS = 1 << 15
# Pairs of positions z and -z that the direction is found from, at least, and per coordinate.
_LEAST_PAIRS, _PAIRS_EACH = 20, 2
# Rounding of a position that has been through a file.
_ON_THE_WAY = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class VolumePath:
    """What a handle of one class moves along: from small to large.

    A place on it is a number t from -:data:`FURTHEST` to :data:`FURTHEST`, 0 being the mean (the
    median sample where there are no coordinates). The volume never falls while t grows: where the
    straight way would make it fall, the handle stays where it was until the volume is larger.

    Attributes
    ----------
    label
        Which class.
    knots
        Values of t that are computed, ascending, ``(K,)``.
    direction
        Unit vector along which coordinates move, ``(n_coordinates,)``; zero where the volume
        depends on none of them, empty where there are none.
    along
        How far each is along it, in standard deviations, ``(K,)``: t itself, or less where the
        handle waits.
    samples
        Sample of each, where there are no coordinates, ``(K,)``; empty elsewhere.
    volumes_ml
        Volume of the class at each, never falling, ``(K,)``.
    of_samples_ml
        Volume of the class in the samples 1 to N, ascending, ``(N,)``.
    is_monotone
        Whether the handle moves everywhere: the volume grows all along the straight way.
    """

    label: int
    knots: FloatArray
    direction: FloatArray
    along: FloatArray
    samples: tuple[int, ...]
    volumes_ml: FloatArray
    of_samples_ml: FloatArray
    is_monotone: bool

    def latent_at(self, t: float) -> tuple[float, ...]:
        """The position there, for :attr:`Controls.latent`; empty at the mean, and for samples."""
        along = self._interpolated(self.along, t)
        return tuple((along * self.direction).tolist()) if along else ()

    def sample_at(self, t: float) -> int:
        """The sample there; 0 for the mean, and where there are coordinates."""
        return self.samples[self._nearest(t)] if self.samples else MEAN

    def chosen_at(self, controls: Controls, t: float) -> Controls:
        """The controls with what is there chosen."""
        return controls.model_copy(
            update={"sample": self.sample_at(t), "latent": self.latent_at(t)}
        )

    def volume_at(self, t: float) -> float:
        """Volume of the class there in mL, by the lattice."""
        return self._interpolated(self.volumes_ml, t)

    def percentile_at(self, t: float) -> float:
        """Share of the samples that have a smaller volume, 0 to 1; equal ones count half."""
        return self.percentile_of(self.volume_at(t))

    def percentile_of(self, volume_ml: float) -> float:
        """Share of the samples that have a smaller volume than a given one; equal ones half."""
        below = np.searchsorted(self.of_samples_ml, volume_ml, "left")
        up_to = np.searchsorted(self.of_samples_ml, volume_ml, "right")
        return float(below + up_to) / (2 * len(self.of_samples_ml))

    def t_of(self, controls: Controls) -> float | None:
        """Where the handle is; None: what is chosen is not on its way."""
        if self.samples:
            is_there = not controls.latent and controls.sample in self.samples
            return float(self.knots[self.samples.index(controls.sample)]) if is_there else None
        if not controls.latent:
            return 0.0 if controls.sample == MEAN else None
        wanted = np.array(controls.latent)
        if len(wanted) != len(self.direction):
            return None
        t = float(wanted @ self.direction)
        is_on_the_way = np.abs(wanted - t * self.direction).max() < _ON_THE_WAY
        return t if is_on_the_way and abs(t) <= FURTHEST + _ON_THE_WAY else None

    def _nearest(self, t: float) -> int:
        return int(np.abs(self.knots - t).argmin())

    def _interpolated(self, values: FloatArray, t: float) -> float:
        """A value between knots; where the handle waits, that of the knot nearer to the mean."""
        if self.samples:
            return float(values[self._nearest(t)])
        after = int(np.clip(np.searchsorted(self.knots, t), 1, len(self.knots) - 1))
        before = after - 1
        share = float((t - self.knots[before]) / (self.knots[after] - self.knots[before]))
        share = min(max(share, 0.0), 1.0)
        step = self.along[after] - self.along[before]
        if step > (1 + _ON_THE_WAY) * (self.knots[after] - self.knots[before]):
            share = float(share == 1) if t > 0 else float(share > 0)
        return float((1 - share) * values[before] + share * values[after])


def in_words(percentile: float) -> str:
    """What a percentile says: "larger than 90 % of the samples"."""
    if percentile >= 0.5:
        return f"larger than {100 * percentile:.0f} % of the samples"
    return f"smaller than {100 * (1 - percentile):.0f} % of the samples"


class VolumePaths:
    """Finds the paths of all classes at once, in small steps.

    Parameters
    ----------
    distribution
        p(eta | x).
    controls
        Seed, temperature and class scales.
    voxel_volume_ml
        Volume of a voxel in mL.
    n_samples
        Samples that percentiles are of.
    """

    def __init__(
        self,
        distribution: LogitDistribution,
        controls: Controls,
        voxel_volume_ml: float,
        n_samples: int = 60,
    ) -> None:
        region = lattice_region(distribution.spatial_shape, _LATTICE_VOXELS)
        self._cropped = distribution.crop(region)
        self._mean = self._cropped.mean()
        points = self._mean[0].numel()
        voxels = float(np.prod(distribution.spatial_shape))
        self._point_ml = voxel_volume_ml * voxels / points
        self._controls = controls
        self._weights = controls.weights_of(distribution)
        self._n_samples = n_samples if distribution.is_stochastic else 1
        self._n = distribution.n_coordinates
        self._found: list[VolumePath] = []

    def steps(self) -> Iterator[None]:
        """Find them; each step is one or two labellings of the lattice."""
        n_classes = self._cropped.n_classes
        rows = []
        for noise in noises_of(self._controls.seed, self._n_samples):
            rows.append(self._volumes(noise))
            yield
        of_samples = np.stack(rows)
        if not self._n:
            self._found = [_of_samples(label, of_samples[:, label]) for label in range(n_classes)]
            return
        n_pairs = max(_LEAST_PAIRS, _PAIRS_EACH * self._n)
        drawn = [
            noise.factors(self._n).double().numpy()
            for noise in noises_of(self._controls.seed, n_pairs)
        ]
        differences = []
        for z in drawn:
            # What is even in z, which has no slope, falls out of the difference.
            differences.append((self._volumes_at(z) - self._volumes_at(-z)) / 2)
            yield
        slopes = np.linalg.lstsq(np.stack(drawn), np.stack(differences), rcond=None)[0]
        knots = np.linspace(-FURTHEST, FURTHEST, _N_KNOTS)
        for label, slope in enumerate(slopes.T):
            length = float(np.linalg.norm(slope))
            direction = slope / length if length > 0 else np.zeros(self._n)
            volumes = []
            for t in knots:
                volumes.append(self._volumes_at(t * direction)[label])
                yield
            samples = np.sort(of_samples[:, label])
            self._found.append(_of_line(label, direction, knots, np.array(volumes), samples))

    @property
    def paths(self) -> tuple[VolumePath, ...]:
        """One for each class, in label order, once all steps are done."""
        return tuple(self._found)

    def _volumes_at(self, position: FloatArray) -> FloatArray:
        inside = np.clip(position, -LATENT_MAX, LATENT_MAX)
        return self._volumes(Noise(self._controls.seed, MEAN, position=tuple(inside.tolist())))

    def _volumes(self, noise: Noise) -> FloatArray:
        offset = self._cropped.offset(self._controls.tempered(noise, self._cropped))
        labels = argmax_labels(self._mean, offset, self._weights).cpu().numpy()
        return class_volumes(labels, self._cropped.n_classes, self._point_ml)


def volume_paths(
    distribution: LogitDistribution,
    controls: Controls,
    voxel_volume_ml: float,
    n_samples: int = 60,
) -> tuple[VolumePath, ...]:
    """Paths of all classes at once, see :class:`VolumePaths`."""
    paths = VolumePaths(distribution, controls, voxel_volume_ml, n_samples)
    for _ in paths.steps():
        pass
    return paths.paths


def _of_line(
    label: int, direction: FloatArray, knots: FloatArray, volumes: FloatArray, samples: FloatArray
) -> VolumePath:
    """A path along a straight line, which waits where the volume would fall."""
    used = np.arange(len(knots))
    middle = len(knots) // 2
    # From the mean to both ends, so that the mean itself is always on the way.
    for at in range(middle + 1, len(knots)):
        used[at] = at if volumes[at] >= volumes[used[at - 1]] else used[at - 1]
    for at in range(middle - 1, -1, -1):
        used[at] = at if volumes[at] <= volumes[used[at + 1]] else used[at + 1]
    return VolumePath(
        label,
        knots,
        direction,
        knots[used],
        (),
        volumes[used],
        samples,
        bool((used == np.arange(len(knots))).all()),
    )


def _of_samples(label: int, volumes: FloatArray) -> VolumePath:
    """A path through samples, ordered by volume; of equal ones the first is taken."""
    values, first, counts = np.unique(volumes, return_index=True, return_counts=True)
    # Each stands for as many samples as are like it.
    share = (np.cumsum(counts) - counts / 2) / counts.sum()
    knots = np.array([NormalDist().inv_cdf(float(one)) for one in share])
    return VolumePath(
        label,
        np.clip(knots, -FURTHEST, FURTHEST),
        np.zeros(0),
        np.zeros(len(values)),
        tuple(int(index) + 1 for index in first),
        values,
        np.sort(volumes),
        is_monotone=True,
    )
