"""What the engine does for the hypotheses: samples on a lattice, their distances, their modes."""

from __future__ import annotations

from collections.abc import Hashable, Iterator

import numpy as np

from napari_structseg.controls import Controls
from napari_structseg.distributions.one_thread import one_thread
from napari_structseg.evaluation.overlaps import pairwise_overlap
from napari_structseg.render.clusters import FloatArray
from napari_structseg.render.hypotheses import Hypotheses, find_hypotheses
from napari_structseg.render.lattice import Lattice
from napari_structseg.render.rendering import LabelArray, Renderer
from napari_structseg.render.summaries import noises_of
from napari_structseg.session.messages import (
    Modes,
    ModeThumbnails,
    Request,
    Result,
    SampleModes,
)
from napari_structseg.session.resolve import Part
from napari_structseg.session.work.counting import CountingWork
from napari_structseg.session.work.ledger import Ledger
from napari_structseg.session.work.overlays import thumbnails

# Offsets that are kept, 64 MiB: a class scale that moves draws no sample again.
_KEPT_VALUES = 1 << 24
# Samples compared with all others between two looks at whether a newer request has come.
_ROWS = 16


class HypothesisWork(CountingWork):
    """Groups samples into modes, in small steps, and keeps what the next request needs again."""

    def __init__(self, renderer: Renderer, voxel_volume_ml: float, ledger: Ledger) -> None:
        super().__init__(renderer, voxel_volume_ml, ledger)
        self._lattice: tuple[Hashable, Lattice] | None = None
        self._labels: tuple[Hashable, list[LabelArray]] | None = None
        self._compared: tuple[Hashable, FloatArray, FloatArray] | None = None
        self._found: tuple[Hashable, Hypotheses] | None = None

    def steps(self, generation: int, request: Request) -> Iterator[Result | None]:
        """The modes, if they are wanted, and their representatives on the visible slice.

        None stands for a step with nothing to deliver yet. Steps that are done when a newer
        request takes over are not done again for one that needs them.
        """
        if request.modes is Modes.NONE:
            return
        key = samples_key(request.controls, request.n_grouped)
        if self._compared is None or self._compared[0] != key:
            yield from self._compare(key, request)
        hypotheses = self._group((key, request.modes), request.modes)
        if self._ledger.wants(Part.MODES, request):
            self._ledger.note(Part.MODES, request)
            yield SampleModes(generation, hypotheses, request.controls)
        if self._ledger.wants(Part.MODE_THUMBNAILS, request):
            self._ledger.note(Part.MODE_THUMBNAILS, request)
            region = request.view.region(self._renderer.distribution.spatial_shape)
            samples = [mode.representative for mode in hypotheses.modes]
            pictures = thumbnails(self._renderer, request, region, samples)
            yield ModeThumbnails(generation, pictures, request.view)

    def _compare(self, key: Hashable, request: Request) -> Iterator[None]:
        """Draw the samples and measure the distances between them."""
        controls, distribution = request.controls, self._renderer.distribution
        drawn = noises_of(controls.seed, request.n_grouped)
        noises = tuple(controls.tempered(noise, distribution) for noise in drawn)
        if self._lattice is None or self._lattice[0] != noises:
            kept = _KEPT_VALUES // (distribution.n_classes * len(noises))
            self._lattice = (noises, Lattice(distribution, max(kept, 1)))
        lattice = self._lattice[1]
        if self._labels is None or self._labels[0] != key:
            self._labels = (key, [])
        labels = self._labels[1]
        weights = controls.weights_of(distribution)
        for noise in noises[len(labels) :]:
            labels.append(lattice.labels(noise, weights).reshape(-1))
            yield None
        every = np.stack(labels)
        rows, sizes = [], []
        for start in range(0, len(every), _ROWS):
            with one_thread():
                overlap = pairwise_overlap(every[start : start + _ROWS], every, lattice.n_classes)
            rows.append(overlap.distances())
            sizes.append(overlap.first.T)
            yield None
        voxel_ml = np.float64(self._voxel_volume_ml * lattice.voxels_per_point)
        self._compared = (key, np.concatenate(rows), np.concatenate(sizes) * voxel_ml)
        self._labels = None

    def _group(self, key: Hashable, modes: Modes) -> Hypotheses:
        if self._compared is None or self._lattice is None:
            raise AssertionError("samples are grouped once they are compared")
        if self._found is None or self._found[0] != key:
            _, distances, volumes_ml = self._compared
            number = None if modes is Modes.AUTO else int(modes)
            exact = self._lattice[1].exact
            hypotheses = find_hypotheses(distances, volumes_ml, number, exact=exact)
            self._found = (key, hypotheses)
        return self._found[1]


def samples_key(controls: Controls, n_samples: int) -> Hashable:
    """What samples of one distribution depend on: not which is shown, nor the MRF."""
    return controls.seed, controls.temperature, controls.class_scale, n_samples
