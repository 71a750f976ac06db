"""Graph cuts on a distribution, for the command line, for scripts and for evaluation.

The dock goes through :mod:`napari_structseg.session.work.refined` step by step; both use one
solver.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from napari_structseg.controls import Controls
from napari_structseg.distributions import LogitDistribution, Strokes, whole
from napari_structseg.errors import Cancelled, InputError
from napari_structseg.image import Image
from napari_structseg.refine.graph_cut.solver import CRFSolver
from napari_structseg.refine.logits import ChosenLogits
from napari_structseg.render.rendering import LabelArray


class CutLabels:
    """The labels of least energy of a distribution's mean, samples or latent positions.

    Parameters
    ----------
    distribution
        p(eta | x), of any kind.
    image
        What was segmented, on the grid of the distribution.
    strokes
        Voxels whose class is given; None: none are.
    by
        Which library computes flows: ``scipy``, ``pymaxflow`` or ``auto``; the labels are the same.

    Raises
    ------
    InputError
        If image or strokes are of another shape.
    """

    def __init__(
        self,
        distribution: LogitDistribution,
        image: Image,
        strokes: Strokes | None = None,
        by: str = "auto",
    ) -> None:
        shape = tuple(distribution.spatial_shape)
        given = {"An image": image.spatial_shape, "Strokes": strokes.shape if strokes else shape}
        for what, found in given.items():
            if tuple(found) != shape:
                raise InputError(
                    f"{what} of shape {shape}, as the distribution, was expected for a graph cut, "
                    f"but the shape is {tuple(found)}. Take the part that was segmented."
                )
        self._chosen = ChosenLogits(distribution, image)
        self._solver = CRFSolver(strokes, by)

    def render_volume(
        self, controls: Controls, cancelled: Callable[[], bool] | None = None
    ) -> LabelArray:
        """Labels of the whole image under ``controls.crf``, ``(*spatial)``, uint8.

        Raises
        ------
        Cancelled
            When ``cancelled`` said so, between expansions.
        InputError
            If the logits are not finite.
        MemoryLimitError
            If the graph would not fit into memory.
        """
        problem = self._chosen.problem(controls)
        everything, solution = whole(problem.shape), self._solver.solve(problem, controls.crf)
        with torch.inference_mode():
            while not solution.is_done:
                if cancelled is not None and cancelled():
                    self._solver.forget()
                    raise Cancelled("The graph cut was cancelled.")
                solution.advance(everything)
            return solution.labels(everything)
