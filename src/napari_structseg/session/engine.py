"""The rendering engine: one worker that always answers the newest request.

Order of work: the visible slice; what is drawn over it; then, once no new request has come for
a moment, the thumbnails, the distribution of volumes, the modes of the samples, and the rest of
the volume, slab by slab. Between steps a newer request takes over, and whatever is still valid is
kept.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Hashable, Iterator

import numpy as np
from psygnal import Signal

from napari_structseg.controls import MEAN, Controls
from napari_structseg.distributions import (
    LatentDecoder,
    LogitDistribution,
    Noise,
    Region,
    SliceStack,
)
from napari_structseg.errors import InputError, StructSegError
from napari_structseg.priors import MarkovPrior
from napari_structseg.render.rendering import LabelArray, Renderer
from napari_structseg.render.summaries import (
    SampleSummary,
    VolumeDistribution,
    class_volumes,
    noises_of,
    summarise_volume,
)
from napari_structseg.session.hypotheses import HypothesisWork
from napari_structseg.session.messages import (
    ClassVolumes,
    Lines,
    MapRegion,
    Request,
    Result,
    Show,
    SlabLabels,
    SliceLabels,
    Thumbnails,
    View,
    VolumeSpread,
)
from napari_structseg.session.overlays import (
    contour_sets,
    latent_space,
    map_values,
    outline_sets,
    summarise_visible,
    thumbnails,
)
from napari_structseg.session.refined import refined_by_mean_field
from napari_structseg.session.whole import WholeLabels

# How long no request must have come before anything but the visible slice is worked on: while
# a slider moves, the processor belongs to the slice and to painting it.
SETTLE_SECONDS = 0.06


class Engine:
    """Renders one distribution for one window.

    Parameters
    ----------
    distribution
        p(eta | x).
    voxel_volume_ml
        Volume of a voxel in mL.
    prior
        Refines the labels where the controls say so; None: there is none.
    slice_only
        Work on the visible slice alone: for a distribution that is still growing.
    synchronous
        Answer inside :meth:`request`, without a thread: for scripts and tests.
    """

    result = Signal(object)
    failed = Signal(object)
    idle = Signal()

    def __init__(
        self,
        distribution: LogitDistribution,
        voxel_volume_ml: float,
        *,
        prior: MarkovPrior | None = None,
        slice_only: bool = False,
        synchronous: bool = False,
    ) -> None:
        self.distribution = distribution
        self._work = _Work(distribution, voxel_volume_ml, prior, slice_only)
        self._condition = threading.Condition()
        self._pending: tuple[int, Request] | None = None
        # The newest request, where it made way for whole labellings: the slice is there.
        self._waiting: tuple[int, Request] | None = None
        self._whole: deque[WholeLabels] = deque()
        self._generation = 0
        self._busy = False
        self._closed = False
        self._thread: threading.Thread | None = None
        if not synchronous:
            self._thread = threading.Thread(target=self._loop, name="structseg-render", daemon=True)
            self._thread.start()

    def request(self, request: Request) -> int:
        """Ask for a picture. The newest request wins.

        Returns
        -------
        int
            Its generation: results that carry it, or a larger one, answer it.
        """
        with self._condition:
            self._generation += 1
            generation = self._generation
            if self._closed:
                return generation
            self._pending = (generation, request)
            self._waiting = None
            self._condition.notify_all()
        self._answer_here()
        return generation

    def whole_labels(self, request: Request) -> WholeLabels:
        """Ask for the labels of the whole image, to save or to hand on.

        They are those of the controls of the request, whatever is asked for meanwhile. They come
        after the visible slice of newer requests, and before everything else.

        Parameters
        ----------
        request
            What to label: its controls, and whether mean field stops once converged.

        Returns
        -------
        WholeLabels
            A future: ``result()`` waits, ``cancel()`` gives up, ``progressed`` tells how far it
            is, ``add_done_callback()`` calls back in the engine's thread.
        """
        labels = WholeLabels(request)
        with self._condition:
            is_closed = self._closed
            if not is_closed:
                self._whole.append(labels)
                self._condition.notify_all()
        if is_closed:
            labels.give_up()
        self._answer_here()
        return labels

    def invalidate(self) -> None:
        """Forget what was already delivered, so that the next request delivers it again."""
        with self._condition:
            self._work.redeliver = True

    @property
    def worker(self) -> threading.Thread | None:
        """The thread that renders; None: whoever asks does."""
        return self._thread

    def is_idle(self) -> bool:
        """Whether everything asked for is done."""
        with self._condition:
            return self._is_idle()

    def join(self, timeout: float | None = None) -> bool:
        """Wait until idle; False if ``timeout`` seconds were not enough.

        Once closed, that is when the worker has ended: no result comes after.
        """
        with self._condition:
            is_idle = self._condition.wait_for(self._is_idle, timeout)
            ends = self._closed and is_idle
        if ends and self._thread is not None and self._thread is not threading.current_thread():
            # It still has to let go of its tensors, which must not happen while Python ends.
            self._thread.join(timeout)
            return not self._thread.is_alive()
        return is_idle

    def close(self) -> None:
        """Stop the worker after its current step, without waiting for it."""
        with self._condition:
            self._closed = True
            self._pending = self._waiting = None
            self._condition.notify_all()

    def _is_idle(self) -> bool:
        return not self._busy and self._has_nothing()

    def _has_nothing(self) -> bool:
        return self._pending is None and self._waiting is None and not self._whole

    def _answer_here(self) -> None:
        """Without a thread, answer all there is."""
        # What a listener asks for while it is told a result waits until it returns.
        with self._condition:
            answer_here = self._thread is None and not self._busy
        while answer_here and self._answer_pending():
            pass

    def _loop(self) -> None:
        is_open = True
        while is_open:
            with self._condition:
                self._condition.wait_for(lambda: self._closed or not self._has_nothing())
                is_open = not self._closed
            self._answer_pending()

    def _give_up_whole_labels(self) -> None:
        """Once closed, tell those who still wait for labels."""
        with self._condition:
            given_up = list(self._whole)
            self._whole.clear()
            self._condition.notify_all()
        for labels in given_up:
            labels.give_up()

    def _answer_pending(self) -> bool:
        """Answer the newest request, or go on with a whole labelling; False if there is nothing."""
        if self._closed:
            self._give_up_whole_labels()
            return False
        with self._condition:
            newest = self._pending
            whole = self._whole[0] if newest is None and self._whole else None
            if newest is None and whole is None:
                newest, self._waiting = self._waiting, None
            if newest is None and whole is None:
                return False
            self._pending = None
            self._busy = True
        try:
            if newest is not None:
                finished = self._answer(*newest)
            elif whole is not None:
                finished = self._go_on_with(whole)
        except (StructSegError, MemoryError, RuntimeError) as error:
            # Of torch's own errors, running out of memory is the one to expect here.
            finished = True
            # What was interrupted half-way cannot be continued.
            self.invalidate()
            if not self._closed:
                self.failed.emit(error)
        finally:
            with self._condition:
                self._busy = False
                self._condition.notify_all()
        if finished and self.is_idle() and not self._closed:
            self.idle.emit()
        return True

    def _go_on_with(self, whole: WholeLabels) -> bool:
        """Work on a whole labelling until it is done (True) or a request takes over (False)."""
        try:
            while not self._work.whole(whole):
                if self._superseded():
                    return False
        except Exception as error:  # noqa: BLE001 -- whoever waits for the labels is told
            if not whole.done():
                whole.set_exception(error)
        with self._condition:
            if self._whole and self._whole[0] is whole:
                self._whole.popleft()
        return True

    def _answer(self, generation: int, request: Request) -> bool:
        """Deliver results until all are out (True) or a newer request takes over (False)."""
        is_something_shown = False
        for result in self._work.visible(generation, request):
            # Of a prior's iterations one is shown, at least, before a newer request is taken.
            is_between = result is None or _is_growing(result)
            if result is not None and not self._closed:
                self.result.emit(result)
                is_something_shown = True
            may_stop = is_something_shown and is_between and self._superseded()
            if self._closed or may_stop or self._moved_on(request.view):
                return False
        # In 3-D display the whole volume is what is visible: a pass over it is not given up,
        # or a moving slider would never show one.
        if request.view.volume and not self._work.refines(request):
            for result in self._work.volume(generation, request.controls):
                if self._closed:
                    return False
                self.result.emit(result)
        if not self._settled() or self._makes_way(generation, request):
            return False
        for step in self._work.background(generation, request):
            if step is not None and not self._closed:
                self.result.emit(step)
            if self._superseded() or self._makes_way(generation, request):
                return False
        return True

    def _makes_way(self, generation: int, request: Request) -> bool:
        """Whether a whole labelling comes first: the request waits and is answered again."""
        with self._condition:
            if self._whole and self._pending is None and not self._closed:
                self._waiting = (generation, request)
                return True
            return False

    def _moved_on(self, view: View) -> bool:
        """Whether the newest request is for another slice: what is drawn over this one can go."""
        with self._condition:
            return self._pending is not None and self._pending[1].view != view

    def _superseded(self) -> bool:
        with self._condition:
            return self._closed or self._pending is not None

    def _settled(self) -> bool:
        if self._thread is None:
            return not self._superseded()
        with self._condition:
            newer = self._condition.wait_for(
                lambda: self._closed or self._pending is not None, SETTLE_SECONDS
            )
        return not newer


class _Work:
    """The steps behind a request, and what of them is already done.

    Used by one thread at a time.
    """

    def __init__(
        self,
        distribution: LogitDistribution,
        voxel_volume_ml: float,
        prior: MarkovPrior | None,
        slice_only: bool,
    ) -> None:
        self._refined = None
        if prior is not None:
            self._refined = refined_by_mean_field(distribution, prior, voxel_volume_ml)
        self._renderer = Renderer(distribution)
        self._hypotheses = HypothesisWork(self._renderer, voxel_volume_ml)
        self._voxel_volume_ml = voxel_volume_ml
        self._slice_only = slice_only
        self._delivered: dict[str, Hashable] = {}
        self._volume_pass: tuple[Controls, Iterator[tuple[Region, LabelArray]]] | None = None
        self._counted = np.zeros(distribution.n_classes)
        self._done = 0
        self._pass_seconds = 0.0
        self._map_pass: tuple[Hashable, Iterator[tuple[Region, SampleSummary]]] | None = None
        self._map_done = 0
        self._spread: tuple[Hashable, VolumeDistribution] | None = None
        self.redeliver = False

    @property
    def _shape(self) -> tuple[int, ...]:
        return self._renderer.spatial_shape

    @property
    def _is_stochastic(self) -> bool:
        return self._renderer.distribution.is_stochastic

    def refines(self, request: Request) -> bool:
        """Whether a prior has a say: not before the whole distribution is there."""
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
        """The visible slice and what is drawn over it."""
        if self.redeliver:
            self.redeliver = False
            self._delivered.clear()
            self._hypotheses.redeliver()
            self._forget_refined()
            self._volume_pass = self._map_pass = None
        region = request.view.region(self._shape)
        if self._refined is not None and self.refines(request):
            yield from self._refined.visible(generation, request)
        else:
            self._forget_refined()
            started = time.perf_counter()
            labels = self._renderer.visible_labels(request.controls, region)
            yield SliceLabels(generation, region, labels, time.perf_counter() - started)
        key = _overlay_key(request)
        if request.show is Show.LABELS or self._delivered.get("overlay") == key:
            return
        overlay: Lines | MapRegion
        if request.show in (Show.OUTLINES, Show.CONTOURS):
            trace = outline_sets if request.show is Show.OUTLINES else contour_sets
            overlay = Lines(generation, request.show, trace(self._renderer, request, region))
        else:
            values = map_values(summarise_visible(self._renderer, request, region), request.show)
            total = math.prod(self._shape)
            overlay = MapRegion(generation, request.show, region, values, 0, total)
        self._delivered["overlay"] = key
        yield overlay

    def _forget_refined(self) -> None:
        """What a solver delivered is no longer what is there."""
        if self._refined is not None:
            self._refined.forget()

    def background(self, generation: int, request: Request) -> Iterator[Result | None]:
        """Everything else, in small steps; None is a step with nothing to deliver yet."""
        region = request.view.region(self._shape)
        key = (_spread_key(request), request.view, request.n_thumbnails, request.thumbnail_size)
        if request.n_thumbnails and self._delivered.get("thumbnails") != key:
            n_samples = request.n_thumbnails if self._is_stochastic else 0
            pictures = thumbnails(self._renderer, request, region, range(n_samples + 1))
            self._delivered["thumbnails"] = key
            yield Thumbnails(generation, pictures, request.view)
        if self._slice_only:
            return
        distribution = self._renderer.distribution
        if (
            isinstance(distribution, LatentDecoder | SliceStack)
            and distribution.n_latents
            and "latent" not in self._delivered
        ):
            self._delivered["latent"] = True
            yield latent_space(distribution, generation)
        if self._is_stochastic:
            yield from self._volume_spread(generation, request)
            yield from self._hypotheses.steps(generation, request)
        if self._refined is not None and self.refines(request):
            # The layer is no longer what a pass without the prior left there.
            self._volume_pass = None
            yield from self._refined.volume(generation, request)
        else:
            yield from self.volume(generation, request.controls)
        if request.view.volume and request.show in (Show.ENTROPY, Show.AGREEMENT):
            yield from self._map_volume(generation, request)

    def volume(self, generation: int, controls: Controls) -> Iterator[Result]:
        """Labels of the whole image, continued where an interrupted pass stopped."""
        if self._slice_only:
            return
        if self._volume_pass is None or self._volume_pass[0] != controls:
            self._volume_pass = (controls, self._renderer.volume_labels(controls))
            self._counted[:] = 0
            self._done = 0
            self._pass_seconds = 0.0
            self._delivered.pop("volumes", None)
        total = math.prod(self._shape)
        started = time.perf_counter()
        for region, labels in self._volume_pass[1]:
            self._counted += class_volumes(labels, len(self._counted), self._voxel_volume_ml)
            self._done += labels.size
            self._pass_seconds += time.perf_counter() - started
            yield SlabLabels(generation, region, labels, self._done, total)
            started = time.perf_counter()
        if self._delivered.get("volumes") != controls:
            self._delivered["volumes"] = controls
            yield ClassVolumes(generation, self._counted.copy(), self._pass_seconds)

    def _volume_spread(self, generation: int, request: Request) -> Iterator[Result | None]:
        key = _spread_key(request)
        if self._delivered.get("spread") == key:
            return
        lattice_key = self._noises(request)
        if self._spread is None or self._spread[0] != lattice_key:
            spread = VolumeDistribution(
                self._renderer.distribution, lattice_key, self._voxel_volume_ml
            )
            self._spread = (lattice_key, spread)
            yield None
        spread = self._spread[1]
        rows = []
        for row in spread.volumes_ml(request.controls.weights_of(self._renderer.distribution)):
            rows.append(row)
            yield None
        self._delivered["spread"] = key
        yield VolumeSpread(generation, np.stack(rows), spread.exact)

    def _noises(self, request: Request) -> tuple[Noise, ...]:
        """All samples of the series that the request counts, as the distribution sees them."""
        controls, distribution = request.controls, self._renderer.distribution
        drawn = noises_of(controls.seed, request.n_samples)
        return tuple(controls.tempered(noise, distribution) for noise in drawn)

    def _map_volume(self, generation: int, request: Request) -> Iterator[Result]:
        key = (_spread_key(request), request.show)
        total = math.prod(self._shape)
        if self._map_pass is None or self._map_pass[0] != key:
            distribution = self._renderer.distribution
            weights = request.controls.weights_of(distribution)
            regions = summarise_volume(distribution, self._noises(request), weights)
            self._map_pass = (key, regions)
            self._map_done = 0
        for region, summary in self._map_pass[1]:
            values = map_values(summary, request.show)
            self._map_done += values.size
            yield MapRegion(generation, request.show, region, values, self._map_done, total)


def _is_growing(result: Result) -> bool:
    """Whether more iterations of a prior are to come."""
    return isinstance(result, SliceLabels) and not result.is_final


def _spread_key(request: Request) -> Hashable:
    """What all samples together depend on: everything but the choice of one."""
    controls = request.controls.model_copy(update={"sample": MEAN, "latent": ()})
    return controls, request.n_samples


def _overlay_key(request: Request) -> Hashable:
    return _spread_key(request), request.view, request.show, request.n_outlines
