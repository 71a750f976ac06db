"""What a solver of the refinement stage is: from logits to labels that agree with each other.

Mean field with an MRF is one solver (:mod:`napari_structseg.refine.mean_field`), the graph cut of
a CRF (:mod:`napari_structseg.refine.graph_cut.solver`) another. The session knows this protocol and
no solver. What every solver must fulfil is tested by ``napari_structseg.testing.solvers``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from napari_structseg.distributions import Region
from napari_structseg.priors.contrast import Costs, CRFSpec, Edges, features
from napari_structseg.refine.changes import Changes
from napari_structseg.refine.convergence import Convergence
from napari_structseg.refine.logits import Problem
from napari_structseg.render.rendering import LabelArray

SettingsT_contra = TypeVar("SettingsT_contra", contravariant=True)


class Step(Enum):
    """What one step of a solver has done."""

    VISIBLE = "all of the visible region is one stage further: worth showing"
    PARTLY = "some of the visible region is further: worth showing now and then"
    ELSEWHERE = "nothing that is visible has changed"
    NOTHING = "there is nothing left to do"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the labels of the whole image are.

    Attributes
    ----------
    reached, target
        Stages that the whole image has, and how many will be computed: iterations of mean field,
        sweeps, 0 or 1 for a solver that gives everything at once.
    is_converged
        Whether more stages than ``reached`` are not computed since they would change nothing.
    convergence
        Curves over the stages; None for a solver without any.
    share
        How much of what was asked for is computed, from 0 to 1.
    """

    reached: int
    target: int
    is_converged: bool = False
    convergence: Convergence | None = None
    share: float = 0.0


@dataclass(frozen=True, slots=True)
class EnergyTerms:
    """The energy of labels, split into its terms, each with its weight.

    Attributes
    ----------
    unary
        What the labels cost by the model.
    smooth
        What pairs of different labels cost whatever the image.
    contrast
        What they cost besides where the image is the same at both.
    n_voxels
        Of so many voxels: of a slice, or of the whole image.
    """

    unary: float
    smooth: float
    contrast: float
    n_voxels: int

    @property
    def total(self) -> float:
        """The sum of the three."""
        return self.unary + self.smooth + self.contrast

    @classmethod
    def of(cls, labels: LabelArray, costs: Costs, edges: Edges, spec: CRFSpec) -> EnergyTerms:
        """Those of a CRF, see :func:`napari_structseg.priors.contrast.features`."""
        unary, smooth, contrast = spec.weights * features(labels, costs, edges, spec.scale)
        return cls(float(unary), float(smooth), float(contrast), labels.size)


class Solution(Protocol):
    """The labels of one problem under one set of settings, as far as they are computed.

    A solution stays usable while others of the same solver are worked on; it may have to begin
    again then. Everything is called from one thread at a time.
    """

    def advance(self, visible: Region) -> Step:
        """Do a small step: first what the visible region needs, then the rest of the image.

        A step takes milliseconds, so that a newer request need not wait. Once
        :attr:`is_done`, a few more steps may prepare what is likely to be asked for next; at
        the end comes :attr:`Step.NOTHING`.

        Parameters
        ----------
        visible
            What the user looks at: a slice, or the whole image.

        Raises
        ------
        InputError
            If the logits are not finite, or the solution leaves the finite numbers.
        """
        ...

    def is_ready(self, region: Region) -> bool:
        """Whether the labels of a region are at the last stage that was asked for."""
        ...

    def is_preliminary(self, region: Region) -> bool:
        """Whether a region has labels to look at until it is ready, which may take long.

        A solver that works slice by slice towards the final labels has none.
        """
        ...

    @property
    def is_done(self) -> bool:
        """Whether the labels of the whole image are the final ones."""
        ...

    def labels(self, region: Region) -> LabelArray:
        """Labels of a region at the last stage they have, ``(*region)``, uint8, a copy.

        Before the first stage they are those of the largest logit.
        """
        ...

    def changed(self, region: Region, since: Changes) -> npt.NDArray[np.bool_]:
        """Where :meth:`labels` differ from those of the largest logit, or of the stage before."""
        ...

    def cancel(self) -> None:
        """Give up what is under way of the whole image; it begins again with the next step."""
        ...

    def progress(self) -> Progress:
        """How far the whole image is."""
        ...

    def energy(self, region: Region) -> EnergyTerms | None:
        """The energy of the labels of a region or, once done, of the whole image; None: unknown."""
        ...

    def probabilities(self, region: Region) -> npt.NDArray[np.float32] | None:
        """Probabilities that belong to the final labels, ``(K, *region)``; None: it has none.

        They sum to one over classes. To be asked for when :attr:`is_done`.
        """
        ...


class Solver(Protocol[SettingsT_contra]):
    """Makes labels from logits, with settings of its own.

    A solver is bound to what it couples the labels with (an MRF, the edges of an image) and keeps
    what it has computed, so that the next settings start from there.
    """

    def solve(
        self,
        problem: Problem,
        settings: SettingsT_contra,
        axis: int = 0,
        *,
        until_converged: bool = False,
    ) -> Solution:
        """Begin, or go on with, the solution of a problem. Nothing large is computed here.

        Parameters
        ----------
        problem
            Logits and image.
        settings
            The solver's own.
        axis
            The axis that is looked along: its slices should come one by one.
        until_converged
            End where further stages would change nothing.

        Raises
        ------
        ConfigError
            If the solver does not fit the problem or the settings.
        """
        ...

    def required_bytes(self, n_classes: int, shape: tuple[int, ...]) -> int:
        """Memory that a solution needs at most beside the logits' own."""
        ...
