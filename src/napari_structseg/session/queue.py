"""What an engine is asked for: of pictures the newest counts, whole labellings keep their turn."""

from __future__ import annotations

import threading
from collections import deque

from napari_structseg.session.messages import Request, View
from napari_structseg.session.work.whole import WholeLabels

Numbered = tuple[int, Request]


class RequestQueue:
    """Requests between those who ask, in any thread, and the one that answers."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._pending: Numbered | None = None
        # The newest request, where it made way for whole labellings: the slice is there.
        self._waiting: Numbered | None = None
        self._whole: deque[WholeLabels] = deque()
        self._generation = 0
        self._is_busy = False
        self._is_closed = False

    # --- for those who ask

    def put(self, request: Request) -> int:
        """Ask for a picture in place of the last one; the number of the request."""
        with self._condition:
            self._generation += 1
            if not self._is_closed:
                self._pending = (self._generation, request)
                self._waiting = None
                self._condition.notify_all()
            return self._generation

    def put_whole(self, labels: WholeLabels) -> None:
        """Ask for a whole labelling; once closed, it is given up at once."""
        with self._condition:
            is_closed = self._is_closed
            if not is_closed:
                self._whole.append(labels)
                self._condition.notify_all()
        if is_closed:
            labels.give_up()

    def close(self) -> None:
        """Take nothing more."""
        with self._condition:
            self._is_closed = True
            self._pending = self._waiting = None
            self._condition.notify_all()

    @property
    def is_closed(self) -> bool:
        """Whether nothing more is taken."""
        return self._is_closed

    def is_busy(self) -> bool:
        """Whether something is being answered."""
        with self._condition:
            return self._is_busy

    def is_idle(self) -> bool:
        """Whether everything asked for is done."""
        with self._condition:
            return not self._is_busy and self._is_empty()

    def wait_idle(self, timeout: float | None) -> bool:
        """Wait until idle; False if ``timeout`` seconds were not enough."""
        with self._condition:
            return self._condition.wait_for(lambda: not self._is_busy and self._is_empty(), timeout)

    # --- for the one that answers

    def wait(self) -> bool:
        """Wait until something is asked for; False once closed."""
        with self._condition:
            self._condition.wait_for(lambda: self._is_closed or not self._is_empty())
            return not self._is_closed

    def take(self) -> Numbered | WholeLabels | None:
        """What to work on next, until :meth:`put_down`; None: there is nothing.

        A whole labelling stays in the queue until :meth:`finish` says that it is done.
        """
        with self._condition:
            if self._is_closed:
                return None
            taken: Numbered | WholeLabels | None = self._pending
            self._pending = None
            if taken is None and self._whole:
                taken = self._whole[0]
            if taken is None:
                taken, self._waiting = self._waiting, None
            self._is_busy = taken is not None
            return taken

    def put_down(self) -> None:
        """Nothing is being answered now."""
        with self._condition:
            self._is_busy = False
            self._condition.notify_all()

    def finish(self, labels: WholeLabels) -> None:
        """A whole labelling is done."""
        with self._condition:
            if self._whole and self._whole[0] is labels:
                self._whole.popleft()

    def give_up(self) -> None:
        """Once closed, tell those who still wait for labels."""
        with self._condition:
            given_up = list(self._whole)
            self._whole.clear()
            self._condition.notify_all()
        for labels in given_up:
            labels.give_up()

    def is_superseded(self) -> bool:
        """Whether a newer request has come, or the queue is closed."""
        with self._condition:
            return self._is_closed or self._pending is not None

    def is_superseded_within(self, seconds: float) -> bool:
        """Whether that is so before a moment is over."""
        with self._condition:
            return self._condition.wait_for(
                lambda: self._is_closed or self._pending is not None, seconds
            )

    def has_moved_on(self, view: View) -> bool:
        """Whether the newest request is for another slice: what is drawn over this one can go."""
        with self._condition:
            return self._pending is not None and self._pending[1].view != view

    def makes_way(self, generation: int, request: Request) -> bool:
        """Whether a whole labelling comes first: the request waits and is answered again."""
        with self._condition:
            if self._whole and self._pending is None and not self._is_closed:
                self._waiting = (generation, request)
                return True
            return False

    def _is_empty(self) -> bool:
        return self._pending is None and self._waiting is None and not self._whole
