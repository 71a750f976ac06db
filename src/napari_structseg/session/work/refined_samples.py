"""Samples as an MRF or a CRF refines them: computed once, for all that looks at several of them.

Thumbnails and lines need one slice of a few samples; hypotheses, disputed regions and the range of
volumes need all of many. What one of them has brought about is there for the others.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator

from napari_structseg.distributions import Region, whole
from napari_structseg.errors import MemoryLimitError
from napari_structseg.refine.solver import Step
from napari_structseg.render.packed_labels import PackedLabels
from napari_structseg.render.rendering import LabelArray
from napari_structseg.session.messages import Request
from napari_structseg.session.resolve import of_samples
from napari_structseg.session.work.sample_solvers import SampleSolver

# Compressed labels of all samples together. Sixty samples of a brain take a tenth of it.
KEPT_BYTES = 1 << 28

Shown = Callable[[Request, Region], LabelArray | None]


class RefinedSamples:
    """Labels of samples after the MRF or the CRF, in small steps, beside what is shown.

    Sample 0 is the mean. Of mean field a slice is computed with as little of the rest of the image
    as its iterations need, so that it is exactly that of the whole image; a cut is of the whole
    image, unless slices alone are looked at.

    Parameters
    ----------
    solver
        Refines them.
    shape
        Of the image.
    shown
        Labels of a region as they are shown, where they are refined; None: they are not yet.
    kept_bytes
        Memory that compressed labels of all samples may take.
    """

    def __init__(
        self,
        solver: SampleSolver,
        shape: tuple[int, ...],
        shown: Shown,
        *,
        kept_bytes: int = KEPT_BYTES,
    ) -> None:
        self._solver = solver
        self.shown = shown
        self._kept_bytes = kept_bytes
        self._shape = shape
        # All of the following is of one setting of all that samples depend on.
        self._key: Hashable = None
        self._packed: dict[int, PackedLabels] = {}
        self._view: Region | None = None
        self._slices: dict[int, LabelArray] = {}
        self._refused: MemoryLimitError | None = None

    def n_known(self, request: Request, n_samples: int) -> int:
        """How many of the first samples (from 1) are there as a whole."""
        if self._key != of_samples(request):
            return 0
        return sum(sample in self._packed for sample in range(1, n_samples + 1))

    def whole(self, request: Request, samples: Iterable[int]) -> Iterator[None]:
        """Refine samples of the whole image, as far as they are not there.

        Raises
        ------
        MemoryLimitError
            If that takes more memory than there is, or than compressed labels may.
        """
        self._begin(request)
        everything = whole(self._shape)
        for sample in samples:
            if sample in self._packed:
                continue
            if self._refused is not None:
                raise self._refused
            labels = self._shown_of(request, sample, everything)
            if labels is None:
                solution = self._solver.solution(request, sample)
                while not solution.is_done:
                    solution.advance(everything)
                    yield
                labels = solution.labels(everything)
            yield from self._keep(sample, labels)

    def slices(self, request: Request, region: Region, samples: Iterable[int]) -> Iterator[None]:
        """Refine the visible slice of samples, as far as it is not there.

        Parameters
        ----------
        request
            What samples of; it is looked along the axis of its view.
        region
            The slice.
        samples
            Which of them.

        Raises
        ------
        MemoryLimitError
            As of :meth:`whole`.
        """
        self._begin(request)
        if self._view != region:
            self._view, self._slices = region, {}
        for sample in samples:
            if sample in self._packed or sample in self._slices:
                continue
            labels = self._shown_of(request, sample, region)
            if labels is None and self._solver.needs_whole(request):
                yield from self.whole(request, [sample])
                continue
            if labels is None:
                solution = self._solver.solution(request, sample)
                while not (solution.is_ready(region) or solution.is_preliminary(region)):
                    if solution.advance(region) is Step.NOTHING:
                        break
                    yield
                labels = solution.labels(region)
                if solution.is_done:
                    yield from self._keep(sample, solution.labels(whole(self._shape)))
            self._slices[sample] = labels
            yield

    def read(self, sample: int, region: Region) -> LabelArray:
        """Labels of a sample that is there, ``(*region)``, uint8."""
        if sample in self._packed:
            return self._packed[sample].read(region)
        if self._view != region:
            raise AssertionError("a sample is read once it is refined")
        return self._slices[sample]

    def end_outdated(self, request: Request) -> None:
        """End what is under way of other samples than a request asks for."""
        if self._key is not None and of_samples(request) != self._key:
            self.let_go()

    def let_go(self) -> None:
        """Free what a solver takes, as large as several images; labels are kept."""
        self._solver.let_go()

    def _begin(self, request: Request) -> None:
        key = of_samples(request)
        if key != self._key:
            self.let_go()
            self._key, self._packed, self._slices, self._refused = key, {}, {}, None

    def _shown_of(self, request: Request, sample: int, region: Region) -> LabelArray | None:
        controls = request.controls
        is_shown = not controls.latent and controls.sample == sample
        return self.shown(request, region) if is_shown else None

    def _keep(self, sample: int, labels: LabelArray) -> Iterator[None]:
        packed = PackedLabels(self._shape)
        yield from packed.pack(labels)
        total = packed.n_bytes + sum(one.n_bytes for one in self._packed.values())
        if total > self._kept_bytes:
            self._refused = MemoryLimitError(
                f"Labels of all samples together were expected to take at most "
                f"{self._kept_bytes:,} "
                f"bytes, but those of {len(self._packed) + 1} samples take {total:,}. Look at a "
                "part of the image, or at the model alone."
            )
            raise self._refused
        self._packed[sample] = packed
