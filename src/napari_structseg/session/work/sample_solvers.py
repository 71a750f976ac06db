"""What refines samples, with solvers beside that of what is shown: it need not begin again."""

from __future__ import annotations

import math
from typing import Protocol

from napari_structseg.controls import Controls
from napari_structseg.devices import free_memory
from napari_structseg.distributions import LogitDistribution, Strokes
from napari_structseg.image import Image
from napari_structseg.memory import check_memory
from napari_structseg.priors import MarkovPrior
from napari_structseg.refine.graph_cut.cut import MOST_HERE
from napari_structseg.refine.graph_cut.solver import CRFSolver
from napari_structseg.refine.logits import ChosenLogits
from napari_structseg.refine.mean_field import MeanFieldSolver
from napari_structseg.refine.refinement import refinement_bytes
from napari_structseg.refine.solver import Solution
from napari_structseg.session.messages import Request


class SampleSolver(Protocol):
    """Refines one sample after the other."""

    def solution(self, request: Request, sample: int) -> Solution:
        """That of a sample, 0 is the mean, under the settings of a request.

        Raises
        ------
        MemoryLimitError
            If it takes more memory than there is.
        """
        ...

    def needs_whole(self, request: Request) -> bool:
        """Whether even the labels of a slice are known only with those of the whole image."""
        ...

    def let_go(self) -> None:
        """Free what it takes, as large as several images, and end what is under way."""
        ...


class MeanFieldOfSamples:
    """By mean field with an MRF.

    Parameters
    ----------
    distribution
        p(eta | x).
    prior
        The MRF.
    """

    def __init__(self, distribution: LogitDistribution, prior: MarkovPrior) -> None:
        self._distribution = distribution
        self._prior = prior
        self._solver: MeanFieldSolver | None = None
        self._logits: ChosenLogits | None = None
        self._axis = 0

    def solution(self, request: Request, sample: int) -> Solution:
        """See :meth:`SampleSolver.solution`."""
        if self._axis != request.view.axis:
            # It would go on along the axis before, on which a slice is a part of every slab.
            self.let_go()
            self._axis = request.view.axis
        if self._solver is None or self._logits is None:
            shape = self._distribution.spatial_shape
            check_memory(
                refinement_bytes(self._distribution.n_classes, shape),
                f"Refining samples of {math.prod(shape):,} voxels beside what is shown",
                free_memory(self._distribution.device),
            )
            self._solver = MeanFieldSolver(self._prior)
            self._logits = ChosenLogits(self._distribution)
        controls = of_sample(request, sample)
        return self._solver.solve(
            self._logits.problem(controls),
            controls,
            self._axis,
            until_converged=request.stop_when_converged,
        )

    def needs_whole(self, request: Request) -> bool:
        """Only the whole image says whether it has converged."""
        return request.stop_when_converged

    def let_go(self) -> None:
        """See :meth:`SampleSolver.let_go`."""
        self._solver = self._logits = None


class CutsOfSamples:
    """By the graph cut of a CRF, which asks for memory before each cut.

    Parameters
    ----------
    distribution
        p(eta | x).
    image
        The image on its grid; None: it is not at hand.
    strokes
        Voxels whose class is given; None: none are.
    """

    def __init__(
        self, distribution: LogitDistribution, image: Image | None, strokes: Strokes | None
    ) -> None:
        self._distribution = distribution
        self._image = image
        self._solver = CRFSolver(strokes, most_here=MOST_HERE)
        self._logits: ChosenLogits | None = None

    def solution(self, request: Request, sample: int) -> Solution:
        """See :meth:`SampleSolver.solution`."""
        if self._logits is None:
            self._logits = ChosenLogits(self._distribution, self._image)
        controls = of_sample(request, sample)
        return self._solver.solve(self._logits.problem(controls), controls.crf)

    def needs_whole(self, request: Request) -> bool:
        """A slice's own cut is none of the volume: it counts where slices alone are looked at."""
        return not request.cuts_slices

    def let_go(self) -> None:
        """See :meth:`SampleSolver.let_go`."""
        self._solver.forget()
        self._logits = None


def of_sample(request: Request, sample: int) -> Controls:
    """The controls of a request, with another sample chosen."""
    return request.controls.model_copy(update={"sample": sample, "latent": ()})
