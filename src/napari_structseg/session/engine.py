"""The rendering engine: one worker that always answers the newest request.

Order of work: the visible slice; what is drawn over it; then, once no new request has come for
a moment, the thumbnails, the distribution of volumes, the modes of the samples, and the rest of
the volume, slab by slab. Between steps a newer request takes over, and whatever is still valid is
kept.
"""

from __future__ import annotations

import logging
import threading

from psygnal import EmitLoopError, Signal, SignalInstance

from napari_structseg.distributions import LogitDistribution
from napari_structseg.errors import StructSegError
from napari_structseg.image import Image
from napari_structseg.priors import MarkovPrior
from napari_structseg.session.messages import Request, Result, SliceLabels
from napari_structseg.session.queue import RequestQueue
from napari_structseg.session.work.steps import Work
from napari_structseg.session.work.whole import WholeLabels

logger = logging.getLogger(__name__)

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
    spacing
        Voxel size along each axis in mm: how far strokes reach; None: the same along all axes.
    image
        What was segmented, on the grid of the distribution: the edges that a CRF sees.
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
        spacing: tuple[float, ...] | None = None,
        image: Image | None = None,
        slice_only: bool = False,
        synchronous: bool = False,
    ) -> None:
        self.distribution = distribution
        self._work = Work(distribution, voxel_volume_ml, prior, slice_only, spacing, image=image)
        self._queue = RequestQueue()
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
        generation = self._queue.put(request)
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
        self._queue.put_whole(labels)
        self._answer_here()
        return labels

    def invalidate(self) -> None:
        """Forget what was already delivered, so that the next request delivers it again."""
        self._work.redeliver = True

    @property
    def worker(self) -> threading.Thread | None:
        """The thread that renders; None: whoever asks does."""
        return self._thread

    def is_idle(self) -> bool:
        """Whether everything asked for is done."""
        return self._queue.is_idle()

    def join(self, timeout: float | None = None) -> bool:
        """Wait until idle; False if ``timeout`` seconds were not enough.

        Once closed, that is when the worker has ended: no result comes after.
        """
        is_idle = self._queue.wait_idle(timeout)
        ends = self._queue.is_closed and is_idle
        if ends and self._thread is not None and self._thread is not threading.current_thread():
            # It still has to let go of its tensors, which must not happen while Python ends.
            self._thread.join(timeout)
            return not self._thread.is_alive()
        return is_idle

    def close(self) -> None:
        """Stop the worker after its current step, without waiting for it."""
        self._queue.close()

    def _answer_here(self) -> None:
        """Without a thread, answer all there is."""
        # What a listener asks for while it is told a result waits until it returns.
        if self._thread is None and not self._queue.is_busy():
            while self._answer_next():
                pass

    def _loop(self) -> None:
        while self._queue.wait():
            self._answer_next()
        self._queue.give_up()
        self._work.stop()

    def _answer_next(self) -> bool:
        """Answer the newest request, or go on with a whole labelling; False if there is nothing."""
        taken = self._queue.take()
        if taken is None:
            if self._queue.is_closed:
                self._queue.give_up()
            return False
        try:
            if isinstance(taken, WholeLabels):
                finished = self._go_on_with(taken)
            else:
                finished = self._answer(*taken)
        except Exception as error:  # noqa: BLE001 -- at the top of a thread: it must live on
            finished = True
            # What was interrupted half-way cannot be continued.
            self.invalidate()
            self._tell(error)
        finally:
            self._queue.put_down()
        if finished and self.is_idle() and not self._queue.is_closed:
            self._emit(self.idle)
        return True

    def _tell(self, error: Exception) -> None:
        """Log an error, with its traceback unless it is one that says what to do, and emit it."""
        if not isinstance(error, StructSegError):
            logger.error("rendering failed", exc_info=error)
        if not self._queue.is_closed:
            self._emit(self.failed, error)

    @staticmethod
    def _emit(signal: SignalInstance, *said: object) -> None:
        """Emit from the top of the thread, where an error of a listener can go no further."""
        try:
            signal.emit(*said)
        except EmitLoopError:
            logger.exception("a listener failed")

    def _go_on_with(self, whole: WholeLabels) -> bool:
        """Work on a whole labelling until it is done (True) or a request takes over (False)."""
        try:
            while not self._work.whole(whole):
                if self._queue.is_superseded():
                    return False
        except Exception as error:  # noqa: BLE001 -- whoever waits for the labels is told
            if not whole.done():
                whole.set_exception(error)
        self._queue.finish(whole)
        return True

    def _answer(self, generation: int, request: Request) -> bool:
        """Deliver results until all are out (True) or a newer request takes over (False)."""
        is_something_shown = False
        for result in self._work.visible(generation, request):
            # Of an MRF's iterations one is shown, at least, before a newer request is taken.
            is_between = result is None or _is_growing(result)
            if result is not None and not self._queue.is_closed:
                self.result.emit(result)
                is_something_shown = True
            may_stop = is_something_shown and is_between and self._queue.is_superseded()
            if self._queue.is_closed or may_stop or self._queue.has_moved_on(request.view):
                return False
        # In 3-D display the whole volume is what is visible: a pass over it is not given up,
        # or a moving slider would never show one.
        if request.view.volume and not self._work.refines(request):
            for result in self._work.volume(generation, request):
                if self._queue.is_closed:
                    return False
                if result is not None:
                    self.result.emit(result)
        if not self._has_settled() or self._queue.makes_way(generation, request):
            return False
        for step in self._work.background(generation, request):
            if step is not None and not self._queue.is_closed:
                self.result.emit(step)
            if self._queue.is_superseded() or self._queue.makes_way(generation, request):
                return False
        return True

    def _has_settled(self) -> bool:
        """Whether no newer request comes for a moment."""
        seconds = 0 if self._thread is None else SETTLE_SECONDS
        return not self._queue.is_superseded_within(seconds)


def _is_growing(result: Result) -> bool:
    """Whether more iterations of the MRF are to come."""
    return isinstance(result, SliceLabels) and not result.is_final
