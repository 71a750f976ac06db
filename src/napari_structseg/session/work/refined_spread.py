"""The range of volumes over samples that an MRF has refined: one mean field for each sample."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator

import numpy as np
import numpy.typing as npt

from napari_structseg.devices import free_memory
from napari_structseg.distributions import LogitDistribution, whole
from napari_structseg.errors import MemoryLimitError
from napari_structseg.memory import check_memory
from napari_structseg.priors import MarkovPrior
from napari_structseg.refine.logits import ChosenLogits
from napari_structseg.refine.mean_field import MeanFieldSolver
from napari_structseg.refine.refinement import refinement_bytes
from napari_structseg.refine.solver import Solution
from napari_structseg.render.summaries import class_volumes
from napari_structseg.session.messages import (
    RefinedSpreadProgress,
    Request,
    Result,
    VolumeSpread,
)
from napari_structseg.session.resolve import Part, of_refined_samples
from napari_structseg.session.work.ledger import Ledger


class RefinedSpreadWork:
    """Counts volumes over refined samples, in small steps, beside what is shown.

    It has a solver of its own: what is shown need not begin again. The solver is let go of once
    all samples are counted, and whenever other samples are wanted.

    Parameters
    ----------
    distribution
        p(eta | x).
    prior
        The MRF.
    voxel_volume_ml
        Volume of a voxel in mL.
    ledger
        What has been delivered.
    """

    def __init__(
        self,
        distribution: LogitDistribution,
        prior: MarkovPrior,
        voxel_volume_ml: float,
        ledger: Ledger,
    ) -> None:
        self._distribution = distribution
        self._prior = prior
        self._voxel_volume_ml = voxel_volume_ml
        self._ledger = ledger
        self._key: Hashable = None
        self._rows: list[npt.NDArray[np.float64]] = []
        self._solver: MeanFieldSolver | None = None
        self._logits: ChosenLogits | None = None
        # Of the sample that is being refined.
        self._solution: Solution | None = None

    def steps(self, generation: int, request: Request) -> Iterator[Result | None]:
        """The volumes of all samples; None stands for a step with nothing to deliver yet.

        Samples that are counted are kept when a newer request takes over, and so is the one that
        is being refined.
        """
        if not self._ledger.wants(Part.REFINED_SPREAD, request):
            return
        key = of_refined_samples(request)
        if key != self._key:
            self.let_go()
            self._key, self._rows = key, []
        total, everything = request.n_samples, whole(self._distribution.spatial_shape)
        try:
            self._check_memory(total)
        except MemoryLimitError as error:
            self._ledger.note(Part.REFINED_SPREAD, request)
            yield RefinedSpreadProgress(generation, 0, total, request, str(error))
            return
        while len(self._rows) < total:
            yield RefinedSpreadProgress(generation, len(self._rows), total, request)
            if self._solution is None:
                self._solution = self._begin(request, len(self._rows) + 1)
            while not self._solution.is_done:
                self._solution.advance(everything)
                yield None
            labels = self._solution.labels(everything)
            self._solution = None
            n_classes = self._distribution.n_classes
            self._rows.append(class_volumes(labels, n_classes, self._voxel_volume_ml))
        self.let_go()
        self._ledger.note(Part.REFINED_SPREAD, request)
        yield RefinedSpreadProgress(generation, total, total, request)
        volumes = np.stack(self._rows[:total])
        yield VolumeSpread(generation, volumes, exact=True, request=request, refined=True)

    def let_go(self) -> None:
        """Free what a mean field takes, as large as several images; counted samples are kept."""
        self._solver = self._logits = self._solution = None

    def _begin(self, request: Request, sample: int) -> Solution:
        if self._solver is None or self._logits is None:
            self._solver = MeanFieldSolver(self._prior)
            self._logits = ChosenLogits(self._distribution)
        controls = request.controls.model_copy(update={"sample": sample, "latent": ()})
        return self._solver.solve(
            self._logits.problem(controls),
            controls,
            0,
            until_converged=request.stop_when_converged,
        )

    def _check_memory(self, total: int) -> None:
        if self._solver is None and len(self._rows) < total:
            shape = self._distribution.spatial_shape
            check_memory(
                refinement_bytes(self._distribution.n_classes, shape),
                f"Refining samples of {math.prod(shape):,} voxels beside what is shown",
                free_memory(self._distribution.device),
            )
