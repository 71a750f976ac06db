"""The steps behind a request, in the order in which they are worth most to who looks."""

from __future__ import annotations

from collections.abc import Iterator

from napari_structseg.distributions import LatentDistribution, LogitDistribution, slabs
from napari_structseg.errors import InputError
from napari_structseg.priors import MarkovPrior
from napari_structseg.render.rendering import SLAB_VOXELS, Renderer
from napari_structseg.render.summaries import SUMMARY_SLAB_VOXELS
from napari_structseg.session.messages import (
    ClassVolumes,
    Request,
    Result,
    SlabLabels,
    SliceLabels,
    Thumbnails,
)
from napari_structseg.session.resolve import KEYS, Part
from napari_structseg.session.work.hypotheses import HypothesisWork
from napari_structseg.session.work.ledger import Ledger
from napari_structseg.session.work.maps import MapWork
from napari_structseg.session.work.overlays import latent_space, thumbnails
from napari_structseg.session.work.places import PlaceWork
from napari_structseg.session.work.plain import PlainWork
from napari_structseg.session.work.refined import RefinedWork, refined_by_mean_field
from napari_structseg.session.work.spread import SpreadWork
from napari_structseg.session.work.whole import WholeLabels


class Work:
    """What an engine does, step by step, and what of it is already delivered.

    Used by one thread at a time.

    Parameters
    ----------
    distribution
        p(eta | x).
    voxel_volume_ml
        Volume of a voxel in mL.
    prior
        The MRF that refines the labels where the controls say so; None: there is none.
    slice_only
        Work on the visible slice alone: for a distribution that is still growing.
    """

    def __init__(
        self,
        distribution: LogitDistribution,
        voxel_volume_ml: float,
        prior: MarkovPrior | None,
        slice_only: bool,
    ) -> None:
        self._distribution = distribution
        self._slice_only = slice_only
        shape = distribution.spatial_shape
        self._ledger = Ledger(
            {
                Part.VOLUME: slabs(shape, SLAB_VOXELS),
                Part.MAP: slabs(shape, SUMMARY_SLAB_VOXELS),
            }
        )
        self._renderer = Renderer(distribution)
        self._plain = PlainWork(self._renderer, voxel_volume_ml, self._ledger)
        self._refined: RefinedWork | None = None
        if prior is not None:
            self._refined = refined_by_mean_field(distribution, prior, voxel_volume_ml)
        self._maps = MapWork(self._renderer, self._ledger)
        self._spread = SpreadWork(self._renderer, voxel_volume_ml, self._ledger)
        self._hypotheses = HypothesisWork(self._renderer, voxel_volume_ml, self._ledger)
        self._places = PlaceWork(self._renderer, voxel_volume_ml, self._ledger)
        self.redeliver = False

    def refines(self, request: Request) -> bool:
        """Whether an MRF has a say: not before the whole distribution is there."""
        return self._refined is not None and request.controls.refines and not self._slice_only

    def whole(self, labels: WholeLabels) -> bool:
        """One more step of a whole labelling; True once it is done."""
        if self._slice_only:
            raise InputError(
                "The whole image is expected to be segmented, but the model is still running. "
                "Wait until it has finished."
            )
        refines = self.refines(labels.request)
        return labels.advance(self._renderer, self._refined if refines else None)

    def visible(self, generation: int, request: Request) -> Iterator[Result | None]:
        """The visible slice and what is drawn over it.

        The slice comes for every request: it takes milliseconds, and says which request is seen.
        """
        if self.redeliver:
            self.redeliver = False
            self._ledger.forget()
            if self._refined is not None:
                self._refined.forget()
        if self._refined is not None and self.refines(request):
            # Whoever shows a range has to let go of it: it is none of what the MRF refined.
            self._ledger.forget(Part.SPREAD)
            yield from self._noted(self._refined.visible(generation, request), request)
        else:
            if self._refined is not None:
                # What a refinement delivered is no longer what is there.
                self._refined.forget()
            yield from self._plain.visible(generation, request)
        yield from self._maps.visible(generation, request)

    def volume(self, generation: int, request: Request) -> Iterator[Result | None]:
        """The labels of the whole image, as far as others are there, and their volumes."""
        if self._slice_only:
            return
        if self._refined is not None and self.refines(request):
            yield from self._noted(self._refined.volume(generation, request), request)
        else:
            yield from self._plain.volume(generation, request)

    def background(self, generation: int, request: Request) -> Iterator[Result | None]:
        """Everything else, in small steps; None is a step with nothing to deliver yet."""
        distribution = self._distribution
        if not self._slice_only:
            yield from self._places.here(generation, request)
        if self._ledger.wants(Part.THUMBNAILS, request):
            samples = range(1 + request.n_thumbnails * distribution.is_stochastic)
            region = request.view.region(distribution.spatial_shape)
            pictures = thumbnails(self._renderer, request, region, samples)
            self._ledger.note(Part.THUMBNAILS, request)
            yield Thumbnails(generation, pictures, request.view)
        if self._slice_only:
            return
        if (
            distribution.n_latents
            and isinstance(distribution, LatentDistribution)
            and self._ledger.wants(Part.LATENT, request)
        ):
            self._ledger.note(Part.LATENT, request)
            yield latent_space(distribution, generation)
        if distribution.is_stochastic:
            yield from self._spread.steps(generation, request)
            yield from self._hypotheses.steps(generation, request)
        yield from self.volume(generation, request)
        if distribution.is_stochastic and not self.refines(request):
            yield from self._spread.with_exact(generation, request, self._plain.volumes_ml())
        yield from self._maps.volume(generation, request)
        yield from self._places.disputed(generation, request)

    def _noted(self, results: Iterator[Result | None], request: Request) -> Iterator[Result | None]:
        """Results of a refinement, with what they write noted in the ledger."""
        for result in results:
            if isinstance(result, SliceLabels | SlabLabels):
                self._ledger.slabs[Part.VOLUME].touch(result.region, KEYS[Part.VOLUME](request))
            if isinstance(result, ClassVolumes):
                if self._ledger.wants(Part.CLASS_VOLUMES, request):
                    self._ledger.note(Part.CLASS_VOLUMES, request)
                    yield result
            else:
                yield result
