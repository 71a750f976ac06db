"""The rendering engine: one worker that always answers the newest request.

Order of work: the visible slice; what is drawn over it; then, once no new request has come for
a moment, the thumbnails, the distribution of volumes, the modes of the samples, and the rest of
the volume, slab by slab. Between steps a newer request takes over, and whatever is still valid is
kept.
"""

from __future__ import annotations

import logging
import threading
from collections import deque

from psygnal import EmitLoopError, Signal, SignalInstance

from napari_structseg.distributions import LogitDistribution
from napari_structseg.errors import StructSegError
from napari_structseg.priors import MarkovPrior
from napari_structseg.session.messages import Request, Result, SliceLabels, View
from napari_structseg.session.whole import WholeLabels
from napari_structseg.session.work import Work

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
        self._work = Work(distribution, voxel_volume_ml, prior, slice_only)
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
        except Exception as error:  # noqa: BLE001 -- at the top of a thread: it must live on
            finished = True
            # What was interrupted half-way cannot be continued.
            self.invalidate()
            self._tell(error)
        finally:
            with self._condition:
                self._busy = False
                self._condition.notify_all()
        if finished and self.is_idle() and not self._closed:
            self._emit(self.idle)
        return True

    def _tell(self, error: Exception) -> None:
        """Log an error, with its traceback unless it is one that says what to do, and emit it."""
        if not isinstance(error, StructSegError):
            logger.error("rendering failed", exc_info=error)
        if not self._closed:
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
            for result in self._work.volume(generation, request):
                if self._closed:
                    return False
                if result is not None:
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


def _is_growing(result: Result) -> bool:
    """Whether more iterations of the MRF are to come."""
    return isinstance(result, SliceLabels) and not result.is_final
