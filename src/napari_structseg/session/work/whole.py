"""A whole labelling on demand: what is saved is the labels of one request, never a mixture."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from concurrent.futures import Future

import numpy as np
from psygnal import Signal

from napari_structseg.errors import Cancelled
from napari_structseg.render.rendering import LabelArray, Renderer
from napari_structseg.session.messages import Request
from napari_structseg.session.work.refined import RefinedWork

_CANCELLED = "Computing the whole segmentation was cancelled."


class WholeLabels(Future[LabelArray]):
    """The labels of the whole image that were asked for, ``(*spatial)``, uint8.

    It ends with the labels, with the error that prevented them, or with :class:`Cancelled`.
    Signals and callbacks come in the engine's thread.

    Parameters
    ----------
    request
        Its controls say which labels.
    """

    progressed = Signal(int, int)
    """Emitted with what is done, and of how much; the unit differs from one labelling to another,
    and only the last call has both alike."""

    def __init__(self, request: Request) -> None:
        super().__init__()
        self.request = request
        self._stop = threading.Event()
        self._steps: Iterator[None] | None = None

    def cancel(self) -> bool:
        """Stop after the current step; the result is :class:`Cancelled` then.

        Returns
        -------
        bool
            Whether it was not finished yet.
        """
        self._stop.set()
        return not self.done()

    def advance(self, renderer: Renderer, refined: RefinedWork | None) -> bool:
        """One more step, in the engine's thread; True once all are done.

        Parameters
        ----------
        renderer
            Of the distribution.
        refined
            Where an MRF refines these labels, what computes them.
        """
        if self._stop.is_set():
            self.give_up()
            return True
        if self._steps is None:
            self._steps = self._plain(renderer) if refined is None else self._refined(refined)
        try:
            next(self._steps)
        except StopIteration:
            return True
        return False

    def give_up(self) -> None:
        """End it without labels."""
        if not self.done():
            self.set_exception(Cancelled(_CANCELLED))

    def _plain(self, renderer: Renderer) -> Iterator[None]:
        labels = np.empty(renderer.distribution.spatial_shape, np.uint8)
        done, total = 0, math.prod(renderer.distribution.spatial_shape)
        for region, slab in renderer.volume_labels(self.request.controls):
            labels[region] = slab
            done += slab.size
            self.progressed.emit(done, total)
            yield
        self.set_result(labels)

    def _refined(self, work: RefinedWork) -> Iterator[None]:
        result: LabelArray | None = None
        for done, total, labels in work.whole(self.request):
            result = labels
            self.progressed.emit(done, total)
            yield
        if result is None:
            raise AssertionError("the last step has the labels")
        self.set_result(result)
