"""What the engine does for the hypotheses: samples on a lattice, their distances, their modes."""

from __future__ import annotations

import math
from collections.abc import Generator, Hashable, Iterator
from dataclasses import dataclass, field

import numpy as np

from napari_structseg.controls import MEAN, Controls
from napari_structseg.distributions import region_shape
from napari_structseg.distributions.one_thread import one_thread
from napari_structseg.evaluation.overlaps import pairwise_overlap
from napari_structseg.render.clusters import FloatArray
from napari_structseg.render.hypotheses import Hypotheses, find_hypotheses
from napari_structseg.render.lattice import Lattice, lattice_region
from napari_structseg.render.rendering import LabelArray, Renderer
from napari_structseg.render.summaries import noises_of
from napari_structseg.session.messages import (
    Modes,
    ModeThumbnails,
    Request,
    Result,
    SampleModes,
)
from napari_structseg.session.resolve import Part, alone, of_samples
from napari_structseg.session.work.counting import CountingWork
from napari_structseg.session.work.ledger import Ledger
from napari_structseg.session.work.overlays import thumbnails
from napari_structseg.session.work.refined_samples import RefinedSamples

# Offsets that are kept, 64 MiB: a class scale that moves draws no sample again.
_KEPT_VALUES = 1 << 24
# Samples compared with all others between two looks at whether a newer request has come.
_ROWS = 16


@dataclass(frozen=True, slots=True, eq=False)
class _Compared:
    """Samples with the distances between them, and the modes that were found in these."""

    key: Hashable
    distances: FloatArray
    volumes_ml: FloatArray
    exact: bool
    found: dict[Modes, Hypotheses] = field(default_factory=dict)

    def grouped(self, modes: Modes) -> Hypotheses:
        if modes not in self.found:
            number = None if modes is Modes.AUTO else int(modes)
            self.found[modes] = find_hypotheses(
                self.distances, self.volumes_ml, number, exact=self.exact
            )
        return self.found[modes]


class HypothesisWork(CountingWork):
    """Groups samples into modes, in small steps, and keeps what the next request needs again."""

    def __init__(self, renderer: Renderer, voxel_volume_ml: float, ledger: Ledger) -> None:
        super().__init__(renderer, voxel_volume_ml, ledger)
        self._lattice: tuple[Hashable, Lattice] | None = None
        self._labels: tuple[Hashable, list[LabelArray]] | None = None
        # Of samples of the model alone, and of those that an MRF or a CRF has refined.
        self._compared: _Compared | None = None
        self._refined: _Compared | None = None

    def steps(self, generation: int, request: Request) -> Iterator[Result | None]:
        """The modes, if they are wanted, and their representatives on the visible slice.

        They are those of the model alone; where those of refined samples are there, nothing is to
        be done. None stands for a step with nothing to deliver yet. Steps that are done when a
        newer request takes over are not done again for one that needs them.
        """
        is_there = request.controls.is_coupled and not self._ledger.wants(Part.MODES, request)
        if request.modes is Modes.NONE or is_there:
            return
        key, as_alone = samples_key(request.controls, request.n_grouped), alone(request)
        if self._compared is None or self._compared.key != key:
            self._compared = yield from self._compare(key, request)
        hypotheses = self._compared.grouped(request.modes)
        if self._ledger.wants(Part.MODES, as_alone):
            self._ledger.note(Part.MODES, as_alone)
            yield SampleModes(generation, hypotheses, request.controls)
        if self._ledger.wants(Part.MODE_THUMBNAILS, as_alone):
            region = request.view.region(self._renderer.distribution.spatial_shape)
            samples = [mode.representative for mode in hypotheses.modes]
            pictures = yield from thumbnails(self._renderer, request, region, samples)
            self._ledger.note(Part.MODE_THUMBNAILS, as_alone)
            yield ModeThumbnails(generation, pictures, request.view)

    def refined(
        self, generation: int, request: Request, samples: RefinedSamples
    ) -> Iterator[Result | None]:
        """The modes of samples that an MRF has refined, all of which are there."""
        if self._ledger.wants(Part.MODES, request):
            key = of_samples(request), request.n_grouped
            if self._refined is None or self._refined.key != key:
                self._refined = yield from self._compare_refined(key, request, samples)
            hypotheses = self._refined.grouped(request.modes)
            self._ledger.note(Part.MODES, request)
            yield SampleModes(generation, hypotheses, request.controls, refined=True)

    def representatives(self, request: Request) -> list[int]:
        """The samples that stand for the modes that :meth:`refined` has delivered."""
        if self._refined is None:
            raise AssertionError("samples are grouped once they are compared")
        return [mode.representative for mode in self._refined.grouped(request.modes).modes]

    def _compare(self, key: Hashable, request: Request) -> Generator[None, None, _Compared]:
        """Draw the samples and measure the distances between them."""
        controls, distribution = request.controls, self._renderer.distribution
        drawn = noises_of(controls.seed, request.n_grouped)
        noises = tuple(controls.tempered(noise, distribution) for noise in drawn)
        if self._lattice is None or self._lattice[0] != noises:
            self._lattice = (noises, Lattice(distribution, self._max_voxels(len(noises))))
        lattice = self._lattice[1]
        if self._labels is None or self._labels[0] != key:
            self._labels = (key, [])
        labels = self._labels[1]
        weights = controls.weights_of(distribution)
        for noise in noises[len(labels) :]:
            labels.append(lattice.labels(noise, weights).reshape(-1))
            yield None
        compared = yield from self._measure(key, labels, lattice.voxels_per_point)
        self._labels = None
        return compared

    def _compare_refined(
        self, key: Hashable, request: Request, samples: RefinedSamples
    ) -> Generator[None, None, _Compared]:
        """The same of refined samples, on the same lattice."""
        shape = self._renderer.distribution.spatial_shape
        region = lattice_region(shape, self._max_voxels(request.n_grouped))
        labels = []
        for sample in range(1, request.n_grouped + 1):
            labels.append(samples.read(sample, region).reshape(-1))
            yield None
        voxels_per_point = math.prod(shape) / math.prod(region_shape(shape, region))
        return (yield from self._measure(key, labels, voxels_per_point))

    def _measure(
        self, key: Hashable, labels: list[LabelArray], voxels_per_point: float
    ) -> Generator[None, None, _Compared]:
        every, n_classes = np.stack(labels), self._renderer.distribution.n_classes
        rows, sizes = [], []
        for start in range(0, len(every), _ROWS):
            with one_thread():
                overlap = pairwise_overlap(every[start : start + _ROWS], every, n_classes)
            rows.append(overlap.distances())
            sizes.append(overlap.first.T)
            yield None
        volumes_ml = np.concatenate(sizes) * np.float64(self._voxel_volume_ml * voxels_per_point)
        return _Compared(key, np.concatenate(rows), volumes_ml, voxels_per_point == 1)

    def _max_voxels(self, n_samples: int) -> int:
        return max(_KEPT_VALUES // (self._renderer.distribution.n_classes * n_samples), 1)


def samples_key(controls: Controls, n_samples: int, *, refined: bool = False) -> Hashable:
    """What samples of one distribution depend on, not which is shown.

    Parameters
    ----------
    controls
        The sliders.
    n_samples
        How many samples.
    refined
        Whether the settings of the MRF count, too.
    """
    if refined:
        return controls.model_copy(update={"sample": MEAN, "latent": ()}), n_samples
    return controls.seed, controls.temperature, controls.class_scale, n_samples
