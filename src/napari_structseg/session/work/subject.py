"""The work on one distribution: the model's own, or the one that strokes have conditioned."""

from __future__ import annotations

from napari_structseg.distributions import (
    LogitDistribution,
    Region,
    SampledDistribution,
    Strokes,
)
from napari_structseg.distributions.conditioning.corrected import Corrected
from napari_structseg.distributions.conditioning.explanation import Explanation
from napari_structseg.distributions.conditioning.settings import DEFAULT, Conditioning
from napari_structseg.errors import InputError
from napari_structseg.image import Image
from napari_structseg.priors import MarkovPrior
from napari_structseg.refine.graph_cut.cut import MOST_HERE
from napari_structseg.refine.graph_cut.solver import CRFSolver
from napari_structseg.render.rendering import LabelArray, Renderer
from napari_structseg.session.messages import Request
from napari_structseg.session.work.hypotheses import HypothesisWork
from napari_structseg.session.work.ledger import Ledger
from napari_structseg.session.work.maps import MapWork
from napari_structseg.session.work.places import PlaceWork
from napari_structseg.session.work.plain import PlainWork
from napari_structseg.session.work.refined import (
    RefinedWork,
    refined_by_cuts,
    refined_by_mean_field,
)
from napari_structseg.session.work.refined_samples import RefinedSamples
from napari_structseg.session.work.refined_views import RefinedViews
from napari_structseg.session.work.sample_solvers import (
    CutsOfSamples,
    MeanFieldOfSamples,
    SampleSolver,
)
from napari_structseg.session.work.spread import SpreadWork


class Subject:
    """A distribution, and everything that is worked out of it, with what is kept of that.

    Parameters
    ----------
    distribution
        p(eta | x).
    voxel_volume_ml
        Volume of a voxel in mL.
    prior
        The MRF that refines the labels where the controls say so; None: there is none.
    ledger
        What has been delivered, of any subject.
    strokes
        What was said of the image; None: nothing.
    plain
        Renders the distribution before that.
    image
        The image on the grid of the distribution; None: it is not at hand.
    """

    def __init__(
        self,
        distribution: LogitDistribution,
        voxel_volume_ml: float,
        prior: MarkovPrior | None,
        ledger: Ledger,
        *,
        strokes: Strokes | None = None,
        plain: Renderer | None = None,
        image: Image | None = None,
    ) -> None:
        self.distribution = distribution
        self.strokes = strokes
        self._prior = prior
        self._voxel_volume_ml = voxel_volume_ml
        self.renderer = Renderer(distribution, plain)
        self.plain = PlainWork(self.renderer, voxel_volume_ml, ledger)
        self.maps = MapWork(self.renderer, ledger)
        self.spread = SpreadWork(self.renderer, voxel_volume_ml, ledger)
        self.hypotheses = HypothesisWork(self.renderer, voxel_volume_ml, ledger)
        self.places = PlaceWork(self.renderer, voxel_volume_ml, ledger)
        self._refined: RefinedWork | None = None
        self._image = image
        self._solver = CRFSolver(strokes, most_here=MOST_HERE)
        self._cut: RefinedWork | None = None
        self._ledger = ledger
        # Of samples that the MRF refines, and of those that the CRF cuts.
        self._views: dict[bool, tuple[RefinedSamples, RefinedViews]] = {}

    @property
    def refined(self) -> RefinedWork | None:
        """The work of the MRF; None: there is no MRF.

        Raises
        ------
        ConfigError
            If the MRF is for other classes or dimensions.
        """
        if self._refined is None and self._prior is not None:
            self._refined = refined_by_mean_field(
                self.distribution, self._prior, self._voxel_volume_ml
            )
        return self._refined

    @property
    def cut(self) -> RefinedWork:
        """The work of the CRF."""
        if self._cut is None:
            self._cut = refined_by_cuts(
                self.distribution, self._voxel_volume_ml, self._image, self._solver
            )
        return self._cut

    def refined_views(self, request: Request) -> RefinedViews | None:
        """What is seen of refined samples; None: nothing refines them."""
        cuts = request.controls.cuts
        for others, (samples, _) in self._views.items():
            if others != cuts:
                samples.let_go()
        if cuts not in self._views:
            solver: SampleSolver
            if cuts:
                solver = CutsOfSamples(self.distribution, self._image, self.strokes)
            elif self._prior is not None:
                solver = MeanFieldOfSamples(self.distribution, self._prior)
            else:
                return None
            samples = RefinedSamples(solver, self.distribution.spatial_shape, self._shown)
            views = RefinedViews(
                self.renderer, self._voxel_volume_ml, self._ledger, samples, self.hypotheses
            )
            self._views[cuts] = samples, views
        return self._views[cuts][1]

    def end_outdated(self, request: Request) -> None:
        """End what is computed of samples that are no longer looked at."""
        for samples, _ in self._views.values():
            samples.end_outdated(request)

    def stop(self) -> None:
        """End what is computed in processes of their own."""
        self._solver.forget()
        for samples, _ in self._views.values():
            samples.let_go()

    @property
    def explanation(self) -> Explanation | None:
        """How well the strokes are explained; None: there are none."""
        distribution = self.distribution
        return distribution.explanation if isinstance(distribution, Corrected) else None

    def drop_refined(self) -> None:
        """Let go of what MRF and CRF have computed, which is as large as several images."""
        self._refined = self._cut = None
        self.stop()

    def forget_refined(self) -> None:
        """What MRF or CRF have delivered is no longer there."""
        for work in (self._refined, self._cut):
            if work is not None:
                work.forget()

    def _shown(self, request: Request, region: Region) -> LabelArray | None:
        """Labels of a region as they are shown, if MRF or CRF have refined them."""
        work = self._cut if request.controls.cuts else self._refined
        return None if work is None else work.shown(request, region)


class Subjects:
    """The distribution without strokes, and the one with those that were asked for last.

    What is kept of the former outlasts strokes: once they are removed, it is there at once. The MRF
    keeps what it computed of one of them only.

    Parameters
    ----------
    distribution, voxel_volume_ml, prior, ledger
        As of :class:`Subject`.
    spacing
        Voxel size along each axis in mm: how far strokes reach; None: the same along all axes.
    image
        The image on the grid of the distribution; None: it is not at hand.
    """

    def __init__(
        self,
        distribution: LogitDistribution,
        voxel_volume_ml: float,
        prior: MarkovPrior | None,
        ledger: Ledger,
        spacing: tuple[float, ...] | None = None,
        *,
        image: Image | None = None,
    ) -> None:
        self._image = image
        self._settings = DEFAULT if spacing is None else Conditioning.on_grid(spacing)
        self._voxel_volume_ml = voxel_volume_ml
        self._prior = prior
        self._ledger = ledger
        self.unconditioned = Subject(distribution, voxel_volume_ml, prior, ledger, image=image)
        # It says whether the MRF fits the distribution.
        self.has_prior = self.unconditioned.refined is not None
        self._conditioned: Subject | None = None

    def given(self, strokes: Strokes | None) -> Subject:
        """The distribution given strokes.

        Raises
        ------
        InputError
            If they are of another image, or nothing can be made of strokes.
        """
        if strokes is None or not len(strokes):
            return self.unconditioned
        if self._conditioned is None or self._conditioned.strokes != strokes:
            plain = self.unconditioned.distribution
            if not isinstance(plain, SampledDistribution):
                raise InputError(
                    f"A distribution that strokes can condition was expected, but this one is a "
                    f"{type(plain).__name__}. Remove the strokes."
                )
            # The old one goes first: two of them would need twice the memory.
            if self._conditioned is not None:
                self._conditioned.stop()
            self._conditioned = None
            self._conditioned = Subject(
                plain.conditioned(strokes, self._settings),
                self._voxel_volume_ml,
                self._prior,
                self._ledger,
                strokes=strokes,
                plain=self.unconditioned.renderer,
                image=self._image,
            )
        return self._conditioned

    def drop_refined_of_others(self, subject: Subject) -> None:
        """The MRF refines this one now."""
        for other in (self.unconditioned, self._conditioned):
            if other is not None and other is not subject:
                other.drop_refined()

    def stop(self) -> None:
        """End what is computed in processes of their own."""
        for subject in (self.unconditioned, self._conditioned):
            if subject is not None:
                subject.stop()

    def forget_refined(self) -> None:
        """Others have written labels meanwhile."""
        for subject in (self.unconditioned, self._conditioned):
            if subject is not None:
                subject.forget_refined()
