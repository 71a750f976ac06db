"""The steps behind a request, in the order in which they are worth most to who looks."""

from __future__ import annotations

from collections.abc import Iterator

from napari_structseg.distributions import LatentDistribution, LogitDistribution, slabs
from napari_structseg.errors import InputError
from napari_structseg.image import Image
from napari_structseg.priors import MarkovPrior
from napari_structseg.render.rendering import SLAB_VOXELS
from napari_structseg.render.summaries import SUMMARY_SLAB_VOXELS
from napari_structseg.session.messages import (
    ClassVolumes,
    Request,
    Result,
    SlabLabels,
    SliceLabels,
    StrokesExplained,
    Thumbnails,
)
from napari_structseg.session.resolve import KEYS, Part, alone
from napari_structseg.session.work.ledger import Ledger
from napari_structseg.session.work.overlays import latent_space, thumbnails
from napari_structseg.session.work.refined import RefinedWork
from napari_structseg.session.work.subject import Subject, Subjects
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
    spacing
        Voxel size along each axis in mm: how far strokes reach; None: the same along all axes.
    image
        What was segmented, on the grid of the distribution: the edges that a CRF sees.
    """

    def __init__(
        self,
        distribution: LogitDistribution,
        voxel_volume_ml: float,
        prior: MarkovPrior | None,
        slice_only: bool,
        spacing: tuple[float, ...] | None = None,
        *,
        image: Image | None = None,
    ) -> None:
        self._slice_only = slice_only
        shape = distribution.spatial_shape
        self._ledger = Ledger(
            {
                Part.VOLUME: slabs(shape, SLAB_VOXELS),
                Part.MAP: slabs(shape, SUMMARY_SLAB_VOXELS),
            }
        )
        self._subjects = Subjects(
            distribution, voxel_volume_ml, prior, self._ledger, spacing, image=image
        )
        # A whole labelling goes on with its own strokes, whatever is asked for meanwhile.
        self._whole: tuple[WholeLabels, Subject] | None = None
        self.redeliver = False

    def refines(self, request: Request) -> bool:
        """Whether an MRF or a CRF has a say: not before the whole distribution is there."""
        controls = request.controls
        by_mrf = self._subjects.has_prior and controls.refines
        return (by_mrf or controls.cuts) and not self._slice_only

    def stop(self) -> None:
        """End what is computed in processes of their own."""
        self._subjects.stop()

    def _subject(self, request: Request) -> Subject:
        """What the request is about; a distribution that is still growing is not conditioned."""
        return self._subjects.given(None if self._slice_only else request.strokes)

    def whole(self, labels: WholeLabels) -> bool:
        """One more step of a whole labelling; True once it is done."""
        if self._slice_only:
            raise InputError(
                "The whole image is expected to be segmented, but the model is still running. "
                "Wait until it has finished."
            )
        if self._whole is None or self._whole[0] is not labels:
            self._whole = labels, self._subject(labels.request)
        subject = self._whole[1]
        is_done = labels.advance(subject.renderer, self._refined(subject, labels.request))
        if is_done:
            self._whole = None
        return is_done

    def _refined(self, subject: Subject, request: Request) -> RefinedWork | None:
        """The work of the MRF or the CRF, if it has a say."""
        if not self.refines(request):
            return None
        self._subjects.drop_refined_of_others(subject)
        return subject.cut if request.controls.cuts else subject.refined

    def visible(self, generation: int, request: Request) -> Iterator[Result | None]:
        """The visible slice and what is drawn over it.

        The slice comes for every request: it takes milliseconds, and says which request is seen.
        """
        if self.redeliver:
            self.redeliver = False
            self._ledger.forget()
            self._subjects.forget_refined()
        subject = self._subject(request)
        subject.end_outdated(request)
        refined = self._refined(subject, request)
        if refined is not None:
            # Whoever shows a range has to let go of it: it is none of what the MRF refined.
            self._ledger.forget(Part.SPREAD)
            yield from self._noted(refined.visible(generation, request), request)
        else:
            # What a refinement delivered is no longer what is there.
            self._subjects.forget_refined()
            yield from subject.plain.visible(generation, request)
        explanation = subject.explanation
        if explanation is not None and self._ledger.wants(Part.STROKES, request):
            self._ledger.note(Part.STROKES, request)
            yield StrokesExplained(generation, explanation, request)
        yield from subject.maps.visible(generation, request)

    def volume(self, generation: int, request: Request) -> Iterator[Result | None]:
        """The labels of the whole image, as far as others are there, and their volumes."""
        if self._slice_only:
            return
        subject = self._subject(request)
        refined = self._refined(subject, request)
        if refined is not None:
            yield from self._noted(refined.volume(generation, request), request)
        else:
            yield from subject.plain.volume(generation, request)

    def background(self, generation: int, request: Request) -> Iterator[Result | None]:
        """Everything else, in small steps; None is a step with nothing to deliver yet."""
        subject = self._subject(request)
        distribution = subject.distribution
        if not self._slice_only:
            yield from subject.places.here(generation, request)
        if self._ledger.wants_alone(Part.THUMBNAILS, request):
            samples = range(1 + request.n_thumbnails * distribution.is_stochastic)
            region = request.view.region(distribution.spatial_shape)
            pictures = yield from thumbnails(subject.renderer, request, region, samples)
            self._ledger.note(Part.THUMBNAILS, alone(request))
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
            yield from subject.spread.steps(generation, request)
            yield from subject.places.paths(generation, request)
            yield from subject.hypotheses.steps(generation, request)
        yield from self.volume(generation, request)
        if distribution.is_stochastic and not self.refines(request):
            yield from subject.spread.with_exact(generation, request, subject.plain.volumes_ml())
        yield from subject.maps.volume(generation, request)
        yield from subject.places.disputed(generation, request)
        views = subject.refined_views(request) if self.refines(request) else None
        if views is not None:
            # Last of all: minutes of work, for all samples of a brain.
            yield from views.steps(generation, request)

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
