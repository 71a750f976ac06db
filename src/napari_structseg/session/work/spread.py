"""The range of volumes over samples, of the distribution that is shown and of no other."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import numpy as np
import numpy.typing as npt

from napari_structseg.distributions import Noise, slabs
from napari_structseg.render.rendering import SLAB_VOXELS, Renderer, argmax_labels
from napari_structseg.render.summaries import VolumeDistribution, class_volumes
from napari_structseg.session.messages import Request, Result, VolumeSpread
from napari_structseg.session.resolve import Part
from napari_structseg.session.work.counting import CountingWork
from napari_structseg.session.work.ledger import Ledger
from napari_structseg.session.work.maps import samples_of

Volumes = npt.NDArray[np.float64]


class SpreadWork(CountingWork):
    """Counts volumes over samples, in small steps."""

    def __init__(self, renderer: Renderer, voxel_volume_ml: float, ledger: Ledger) -> None:
        super().__init__(renderer, voxel_volume_ml, ledger)
        self._counted: tuple[tuple[Noise, ...], VolumeDistribution] | None = None
        self._delivered: VolumeSpread | None = None
        # Voxels of each class in the mean, in so many slabs: they depend on no control.
        self._voxels_of_mean = np.zeros(renderer.distribution.n_classes)
        self._n_counted = 0

    def steps(self, generation: int, request: Request) -> Iterator[Result | None]:
        """The volumes of all samples; None stands for a step with nothing to deliver yet."""
        if not self._ledger.wants(Part.SPREAD, request):
            return
        spread = yield from self._lattice(request)
        weights = request.controls.weights_of(self._renderer.distribution)
        rows = []
        for row in spread.volumes_ml(weights):
            rows.append(row)
            yield None
        self._ledger.note(Part.SPREAD, request)
        self._delivered = VolumeSpread(generation, np.stack(rows), spread.exact, request)
        yield self._delivered

    def with_exact(self, generation: int, request: Request, shown: Volumes) -> Iterator[Result]:
        """The same once more, if the sample that is shown was only estimated."""
        known, sample = self._delivered, request.controls.sample
        is_one = not request.controls.latent and 0 < sample <= request.n_samples
        if known is None or known.exact or not is_one or self._ledger.wants(Part.SPREAD, request):
            return
        if np.array_equal(known.volumes_ml[sample - 1], shown):
            return
        volumes = known.volumes_ml.copy()
        volumes[sample - 1] = shown
        self._delivered = VolumeSpread(generation, volumes, exact=False, request=request)
        yield self._delivered

    def _lattice(self, request: Request) -> Generator[None, None, VolumeDistribution]:
        """The samples on a lattice, and beside it the exact volumes of the mean."""
        distribution, noises = self._renderer.distribution, samples_of(request, self._renderer)
        if self._counted is None or self._counted[0] != noises:
            spread = VolumeDistribution(distribution, noises, self._voxel_volume_ml)
            self._counted = (noises, spread)
            yield None
        spread = self._counted[1]
        if not spread.exact:
            for region in list(slabs(distribution.spatial_shape, SLAB_VOXELS))[self._n_counted :]:
                labels = argmax_labels(distribution.mean(region), None, ()).cpu().numpy()
                self._voxels_of_mean += class_volumes(labels, distribution.n_classes, 1)
                self._n_counted += 1
                yield None
            spread.mean_ml = self._voxels_of_mean * self._voxel_volume_ml
        return spread
