"""Samples as an MRF refines them: computed once, for all that looks at several of them.

Thumbnails and lines need one slice of a few samples; hypotheses, disputed regions and the range of
volumes need all of many. What one of them has brought about is there for the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator

from napari_structseg.devices import free_memory
from napari_structseg.distributions import LogitDistribution, Region, whole
from napari_structseg.errors import MemoryLimitError
from napari_structseg.memory import check_memory
from napari_structseg.priors import MarkovPrior
from napari_structseg.refine.logits import ChosenLogits
from napari_structseg.refine.mean_field import MeanFieldSolver
from napari_structseg.refine.refinement import refinement_bytes
from napari_structseg.refine.solver import Solution, Step
from napari_structseg.render.packed_labels import PackedLabels
from napari_structseg.render.rendering import LabelArray
from napari_structseg.session.messages import Request
from napari_structseg.session.resolve import of_samples

# Compressed labels of all samples together. Sixty samples of a brain take a tenth of it.
KEPT_BYTES = 1 << 28

Shown = Callable[[Request, Region], LabelArray | None]


class RefinedSamples:
    """Labels of samples after the MRF, in small steps, beside what is shown.

    Sample 0 is the mean. A slice is computed with as little of the rest of the image as its
    iterations need, so that it is exactly that of the whole image. There is a solver of its own:
    what is shown need not begin again.

    Parameters
    ----------
    distribution
        p(eta | x).
    prior
        The MRF.
    shown
        Labels of a region as they are shown, where the MRF has refined them; None: it has not yet.
    kept_bytes
        Memory that compressed labels of all samples may take.
    """

    def __init__(
        self,
        distribution: LogitDistribution,
        prior: MarkovPrior,
        shown: Shown,
        *,
        kept_bytes: int = KEPT_BYTES,
    ) -> None:
        self._distribution = distribution
        self._prior = prior
        self.shown = shown
        self._kept_bytes = kept_bytes
        self._shape = distribution.spatial_shape
        # All of the following is of one setting of all that samples depend on.
        self._key: Hashable = None
        self._packed: dict[int, PackedLabels] = {}
        self._view: Region | None = None
        self._slices: dict[int, LabelArray] = {}
        self._refused: MemoryLimitError | None = None
        self._solver: MeanFieldSolver | None = None
        self._logits: ChosenLogits | None = None
        self._axis = 0

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
                solution = self._solve(request, sample)
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
            if labels is None and request.stop_when_converged:
                # Only the whole image says whether it has converged.
                yield from self.whole(request, [sample])
                continue
            if labels is None:
                solution = self._solve(request, sample)
                while not solution.is_ready(region):
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

    def let_go(self) -> None:
        """Free what a mean field takes, as large as several images; labels are kept."""
        self._solver = self._logits = None

    def _begin(self, request: Request) -> None:
        key = of_samples(request)
        if key != self._key:
            self.let_go()
            self._key, self._packed, self._slices, self._refused = key, {}, {}, None

    def _shown_of(self, request: Request, sample: int, region: Region) -> LabelArray | None:
        controls = request.controls
        is_shown = not controls.latent and controls.sample == sample
        return self.shown(request, region) if is_shown else None

    def _solve(self, request: Request, sample: int) -> Solution:
        if self._axis != request.view.axis:
            # It would go on along the axis before, on which a slice is a part of every slab.
            self.let_go()
            self._axis = request.view.axis
        if self._solver is None or self._logits is None:
            check_memory(
                refinement_bytes(self._distribution.n_classes, self._shape),
                f"Refining samples of {math.prod(self._shape):,} voxels beside what is shown",
                free_memory(self._distribution.device),
            )
            self._solver = MeanFieldSolver(self._prior)
            self._logits = ChosenLogits(self._distribution)
        controls = request.controls.model_copy(update={"sample": sample, "latent": ()})
        return self._solver.solve(
            self._logits.problem(controls),
            controls,
            self._axis,
            until_converged=request.stop_when_converged,
        )

    def _keep(self, sample: int, labels: LabelArray) -> Iterator[None]:
        packed = PackedLabels(self._shape)
        yield from packed.pack(labels)
        total = packed.n_bytes + sum(one.n_bytes for one in self._packed.values())
        if total > self._kept_bytes:
            self._refused = MemoryLimitError(
                f"Labels of all samples together were expected to take at most "
                f"{self._kept_bytes:,} "
                f"bytes, but those of {len(self._packed) + 1} samples take {total:,}. Look at a "
                "part of the image, or at 0 iterations."
            )
            raise self._refused
        self._packed[sample] = packed
