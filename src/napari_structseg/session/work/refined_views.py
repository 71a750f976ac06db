"""What is seen of samples that an MRF or a CRF has refined; until then it is of the model alone.

Every part is delivered once the samples that it needs are there, in small steps: first what needs
a slice of a few samples, then what needs all of many.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from napari_structseg.controls import MEAN
from napari_structseg.distributions import Region, whole
from napari_structseg.errors import MemoryLimitError
from napari_structseg.render.disputed import Disagreement
from napari_structseg.render.local_hypotheses import grouped_here
from napari_structseg.render.rendering import LabelArray, Renderer
from napari_structseg.render.summaries import class_volumes
from napari_structseg.session.messages import (
    Disputed,
    HypothesesHere,
    Lines,
    LineSet,
    ModeThumbnails,
    RefinedProgress,
    Request,
    Result,
    Show,
    Thumbnails,
    VolumeSpread,
)
from napari_structseg.session.resolve import LINES, Part
from napari_structseg.session.work.counting import CountingWork
from napari_structseg.session.work.hypotheses import HypothesisWork
from napari_structseg.session.work.ledger import Ledger
from napari_structseg.session.work.overlays import (
    contours_of_frequency,
    outlines_of_labels,
    plane_shape,
    thinning,
)
from napari_structseg.session.work.refined_samples import RefinedSamples

Steps = Iterator[Result | None]

_PLANE = 2


class RefinedViews(CountingWork):
    """Delivers what is wanted of refined samples.

    Parameters
    ----------
    renderer, voxel_volume_ml, ledger
        See :class:`CountingWork`.
    samples
        Refines them.
    hypotheses
        Groups them.
    """

    def __init__(
        self,
        renderer: Renderer,
        voxel_volume_ml: float,
        ledger: Ledger,
        samples: RefinedSamples,
        hypotheses: HypothesisWork,
    ) -> None:
        super().__init__(renderer, voxel_volume_ml, ledger)
        self._samples = samples
        self._hypotheses = hypotheses
        self._shape = renderer.distribution.spatial_shape
        self._n_classes = renderer.distribution.n_classes

    def steps(self, generation: int, request: Request) -> Steps:
        """Everything that is wanted; None stands for a step with nothing to deliver yet.

        Samples that are refined are kept when a newer request takes over. Where memory is short, it
        says so, and what is there stays.
        """
        is_stochastic = self._renderer.distribution.is_stochastic
        try:
            if request.show in LINES:
                yield from self._lines(generation, request)
            yield from self._thumbnails(generation, request)
            if request.cuts_slices and len(self._shape) > _PLANE:
                # Everything else needs whole samples, and these are not to be cut.
                self._samples.let_go()
                return
            if is_stochastic:
                yield from self._spread(generation, request)
                yield from self._disputed(generation, request)
            yield from self._here(generation, request)
            if is_stochastic:
                yield from self._modes(generation, request)
        except MemoryLimitError as error:
            known = self._samples.n_known(request, request.n_grouped)
            yield RefinedProgress(generation, known, request.n_grouped, request, str(error))
        self._samples.let_go()

    def _lines(self, generation: int, request: Request) -> Steps:
        if not self._ledger.wants(Part.OVERLAY, request):
            return
        region = request.view.region(self._shape)
        is_contours = request.show is Show.CONTOURS
        numbers = list(range(1, 1 + (request.n_samples if is_contours else request.n_outlines)))
        chosen = request.controls.sample
        if not is_contours and chosen not in (MEAN, *numbers):
            numbers.append(chosen)
        yield from self._samples.slices(request, region, numbers)
        read = [self._samples.read(number, region) for number in numbers]
        sets: tuple[LineSet, ...]
        if is_contours:
            frequency = np.stack(
                [np.mean([one == label for one in read], axis=0) for label in self._labels]
            )
            sets = contours_of_frequency(frequency.astype(np.float32), request, region)
        else:
            position = self._samples.shown(request, region) if request.controls.latent else None
            if position is not None:
                numbers.append(MEAN)
                read.append(position)
            sets = tuple(
                line
                for number, labels in zip(numbers, read, strict=True)
                for line in outlines_of_labels(labels, self._n_classes, request, region, number)
            )
        self._ledger.note(Part.OVERLAY, request)
        yield Lines(generation, request.show, sets, refined=True)

    def _thumbnails(self, generation: int, request: Request) -> Steps:
        if not self._ledger.wants(Part.THUMBNAILS, request):
            return
        region = request.view.region(self._shape)
        is_stochastic = self._renderer.distribution.is_stochastic
        numbers = range(1 + request.n_thumbnails * is_stochastic)
        yield from self._samples.slices(request, region, numbers)
        pictures = {number: self._picture(number, request, region) for number in numbers}
        self._ledger.note(Part.THUMBNAILS, request)
        yield Thumbnails(generation, pictures, request.view, refined=True)

    def _spread(self, generation: int, request: Request) -> Steps:
        if not self._ledger.wants(Part.REFINED_SPREAD, request):
            return
        yield from self._whole(generation, request, request.n_samples)
        rows = []
        for labels in self._every(whole(self._shape), request.n_samples):
            rows.append(class_volumes(labels, self._n_classes, self._voxel_volume_ml))
            yield None
        self._ledger.note(Part.REFINED_SPREAD, request)
        yield VolumeSpread(generation, np.stack(rows), exact=True, request=request, refined=True)

    def _disputed(self, generation: int, request: Request) -> Steps:
        if not self._ledger.wants(Part.DISPUTED, request):
            return
        n = request.n_samples
        yield from self._whole(generation, request, n)
        disagreement = Disagreement(
            self._shape,
            self._n_classes,
            n,
            lambda region: self._every(region, n),
            self._voxel_volume_ml,
        )
        yield from disagreement.steps()
        self._ledger.note(Part.DISPUTED, request)
        regions = tuple(disagreement.regions())
        yield Disputed(generation, regions, disagreement.exact, request, refined=True)

    def _here(self, generation: int, request: Request) -> Steps:
        if request.here is None or not self._ledger.wants(Part.HERE, request):
            return
        n = request.n_grouped if self._renderer.distribution.is_stochastic else 1
        yield from self._whole(generation, request, n)
        found = grouped_here(
            lambda region: np.stack(list(self._every(region, n))),
            self._n_classes,
            request.here,
            self._voxel_volume_ml,
        )
        self._ledger.note(Part.HERE, request)
        yield HypothesesHere(generation, found, request, refined=True)

    def _modes(self, generation: int, request: Request) -> Steps:
        parts = (Part.MODES, Part.MODE_THUMBNAILS)
        if not any(self._ledger.wants(part, request) for part in parts):
            return
        yield from self._whole(generation, request, request.n_grouped)
        yield from self._hypotheses.refined(generation, request, self._samples)
        region = request.view.region(self._shape)
        pictures = {}
        for number in self._hypotheses.representatives(request):
            pictures[number] = self._picture(number, request, region)
            yield None
        self._ledger.note(Part.MODE_THUMBNAILS, request)
        yield ModeThumbnails(generation, pictures, request.view)

    def _whole(self, generation: int, request: Request, n: int) -> Steps:
        """Refine samples 1 to n, and tell how many are there."""
        told = None
        for sample in range(1, n + 1):
            known = self._samples.n_known(request, n)
            if known not in (told, n):
                yield RefinedProgress(generation, known, n, request)
            told = known
            yield from self._samples.whole(request, [sample])
        if told not in (None, n):
            yield RefinedProgress(generation, n, n, request)

    @property
    def _labels(self) -> range:
        return range(self._n_classes)

    def _every(self, region: Region, n: int) -> Iterator[LabelArray]:
        """Labels of samples 1 to n in a region."""
        return (self._samples.read(sample, region) for sample in range(1, n + 1))

    def _picture(self, sample: int, request: Request, region: Region) -> LabelArray:
        labels = self._samples.read(sample, region)
        step = thinning(labels.shape, request)
        thinned = labels[tuple(slice(0, size, step) for size in labels.shape)]
        return thinned.reshape(plane_shape(request.view, thinned.shape))
