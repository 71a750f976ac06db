"""Labellings outlive what they were chosen from: nothing unsaved goes with a result."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from weakref import WeakSet

from napari.components import ViewerModel

from napari_structseg.controls import MEAN, Controls
from napari_structseg.session.messages import Request
from napari_structseg.session.work.whole import WholeLabels
from napari_structseg.widgets.exploration import Exploration
from napari_structseg.widgets.threads.inbox import Inbox
from napari_structseg.widgets.viewer.kept_layer import add_kept_layer
from napari_structseg.widgets.viewer.segmentation import Labels

logger = logging.getLogger(__name__)

_Take = Callable[[Exploration, Request, WholeLabels], None]


class Keeping:
    """Closes results, and keeps what would be lost with them as layers of napari.

    A labelling has to be computed in full before it can be kept. That happens in the background,
    also after the dock was closed.

    Parameters
    ----------
    viewer
        Where layers are added.
    say, fail
        Called in the main thread with what was kept, and with what prevented it.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        say: Callable[[str], object],
        fail: Callable[[Exception], object],
    ) -> None:
        self._viewer = viewer
        self._say = say
        self._fail = fail
        self._n_waiting = 0
        self._inbox: Inbox[Callable[[], None]] = Inbox(self._receive)
        # Those that were kept here and are in no file yet.
        self._unsaved: WeakSet[Labels] = WeakSet()

    def is_busy(self) -> bool:
        """Whether a labelling is still being computed."""
        return self._n_waiting > 0

    @property
    def unsaved_layers(self) -> list[Labels]:
        """Layers of the viewer that were kept and are in no file yet."""
        return [layer for layer in self._viewer.layers if layer in self._unsaved]

    def replace(self, exploration: Exploration) -> None:
        """Close a result that something else is shown in the place of.

        A labelling that was chosen by hand and is not saved becomes a layer of its own.
        """
        if exploration.is_complete and exploration.is_unsaved:
            self._compute(exploration, self._add_layer)
        else:
            exploration.close()

    def leave(self, exploration: Exploration) -> None:
        """Close a result whose layers stay: the segmentation becomes an ordinary layer, whole."""
        segmentation = exploration.layers.segmentation
        if segmentation not in self._viewer.layers or not exploration.is_complete:
            exploration.close()
            return
        if exploration.is_unsaved:
            self._watch(segmentation)
        segmentation.editable = True
        if exploration.is_painted:
            exploration.close()
        else:
            work = self._compute(exploration, self._complete_layer)
            # Until it is whole, whoever saves it waits.
            segmentation.whole = lambda: exploration.on_image(work.result())

    def _compute(self, exploration: Exploration, take: _Take) -> WholeLabels:
        request, engine = exploration.wanted, exploration.engine
        if request is None:
            raise AssertionError("what was shown was asked for")
        exploration.stop()
        exploration.let_go_of_layers()
        self._n_waiting += 1
        work = engine.whole_labels(request)

        def on_done(_work: object) -> None:
            engine.close()
            self._inbox.put(partial(self._take, take, exploration, request, work))

        work.add_done_callback(on_done)
        return work

    def _receive(self, calls: Sequence[Callable[[], None]]) -> None:
        for call in calls:
            call()

    def _take(
        self, take: _Take, exploration: Exploration, request: Request, work: WholeLabels
    ) -> None:
        """Keep a labelling; what its worker has met is shown."""
        self._n_waiting -= 1
        error = work.exception()
        if isinstance(error, Exception):
            logger.error("a labelling could not be kept", exc_info=error)
            self._fail(error)
            return
        take(exploration, request, work)

    def _add_layer(self, exploration: Exploration, request: Request, work: WholeLabels) -> None:
        run = exploration.run
        model = exploration.spec.name
        layer = add_kept_layer(
            self._viewer,
            exploration.layers,
            exploration.on_image(work.result()),
            exploration.spec.classes,
            f"{exploration.image.name} · {model} · {in_words(request.controls)}",
            {
                "model": model if run is None else run.model,
                "prior": exploration.prior_model,
                "controls": request.controls.model_dump(mode="json"),
            },
        )
        self._watch(layer)
        self._say(f"Kept as a layer: {layer.name}")

    @staticmethod
    def _complete_layer(exploration: Exploration, _request: Request, work: WholeLabels) -> None:
        segmentation = exploration.layers.segmentation
        segmentation.whole = None
        segmentation.data[...] = exploration.on_image(work.result())
        segmentation.refresh(extent=False, highlight=False)

    def _watch(self, layer: Labels) -> None:
        self._unsaved.add(layer)
        layer.saved = partial(self._unsaved.discard, layer)


def in_words(controls: Controls) -> str:
    """Which labelling controls choose, in a few words."""
    if controls.latent:
        return "latent position"
    return "mean" if controls.sample == MEAN else f"sample {controls.sample}"
