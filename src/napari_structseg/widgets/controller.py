"""Between the state of a viewer, what was computed in it, and the docks that show both.

Over 300 lines: what is shown, kept and loading changes together, in one place that alone emits
what the docks follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from napari.components import ViewerModel
from napari.layers import Image as ImageLayer
from psygnal import Signal

from napari_structseg.errors import MemoryLimitError, StructSegError
from napari_structseg.io.model_files import shipped_models
from napari_structseg.prediction.other_prior import OtherPrior, WantedPrior
from napari_structseg.session.messages import Request, Result
from napari_structseg.session.resolve import resolve
from napari_structseg.session.state import ExplorerState
from napari_structseg.widgets.carried_over import CarriedOver
from napari_structseg.widgets.exploration import Exploration
from napari_structseg.widgets.keeping import Keeping
from napari_structseg.widgets.threads.background import Background
from napari_structseg.widgets.viewer.sources import image_layer_of, source_layers

_NOT_SEGMENTED = "This slice was not marked: nothing is segmented here"
_LOOKS = frozenset({"display.hidden_classes", "display.class_opacity"})
# Of the display, what belongs to a model and not to the window.
_SEEN = ("show", "changes", "stop_when_converged", "hidden_classes", "class_opacity", "latent_axes")
_ASKED_BY = ("controls.", "display.", "correction.")


class Controller:
    """Asks for what the state says, for one viewer, and tells all docks what comes of it.

    It alone writes to layers and talks to engines. Signals are emitted in the main thread:
    ``adopted(exploration or None, is_continued)`` when something else is shown; ``asked(request)``;
    ``received(results)`` after what belongs on layers is there; ``rested()`` when everything asked
    for is there; ``said(text)``; ``failed(error)``, or None where what failed works now.

    Parameters
    ----------
    viewer
        Nothing in it is changed but the plugin's own layers.
    state
        What the user has chosen.
    """

    adopted = Signal(object, bool)
    asked = Signal(object)
    received = Signal(object)
    rested = Signal()
    said = Signal(str)
    failed = Signal(object)

    def __init__(self, viewer: ViewerModel, state: ExplorerState) -> None:
        self.viewer = viewer
        self.state = state
        self.current: Exploration | None = None
        self._loading: Background[OtherPrior] | None = None
        # The last one, until it is told to whoever waits.
        self.error: Exception | None = None
        self.failed.connect(self._remember)
        self.keeping = Keeping(viewer, self.said.emit, self.failed.emit)
        # Results of other images: choosing one of these brings them back.
        self._kept: list[Exploration] = []
        self._chosen: ImageLayer | None = None
        # Until somebody chooses one, the image is the one that was opened last, unless one runs.
        self.is_running = False
        self._is_following = False
        self._is_by_hand = False
        self._carried = CarriedOver(state)
        self._is_adopting = False
        self._was_outside = False
        # Of an image, and a model that still has to run on it: what was chosen of it before.
        self._expected: tuple[ImageLayer, str, ExplorerState] | None = None
        # Told first, before any panel: what was typed for another model or image is forgotten.
        state.source.events.model.connect(self._forget_window)
        state.source.events.image.connect(self._forget_window)
        state.source.events.image.connect(self._forget_spacing)
        state.settled.connect(self._on_settled)
        for emitter in self._dims_events():
            emitter.connect(self._on_dims)
        for emitter in self._list_events():
            emitter.connect(self._on_layers)
        if state.source.model is None:
            state.source.model = next(iter(shipped_models()), None)
        self._on_layers()

    @property
    def image_layer(self) -> ImageLayer | None:
        """The image layer that is chosen."""
        return image_layer_of(self.viewer, self.state.source)

    @property
    def is_loading(self) -> bool:
        """Whether the prior of another model is being read."""
        return self._loading is not None

    @property
    def wanted_prior(self) -> WantedPrior | None:
        """The prior of another model that is chosen, and what for; None: there is none."""
        return self._carried.wanted_prior

    @property
    def request(self) -> Request | None:
        """What the state asks for now; None: nothing was computed yet."""
        return None if self.current is None else resolve(self.state, self.current.scene)

    @property
    def unsaved(self) -> list[Exploration]:
        """Results with a labelling chosen by hand that is in no file; the one shown comes first."""
        results = (self.current, *self._kept)
        return [one for one in results if one is not None and one.is_unsaved]

    @property
    def oldest_first(self) -> list[Exploration]:
        """All results, in the order in which they make room for another; the one shown is last."""
        return [*self._kept, *([] if self.current is None else [self.current])]

    def let_go(self, exploration: Exploration) -> None:
        """Close a result; what was chosen by hand stays as a layer, see :class:`Keeping`."""
        if exploration is not self.current:
            self._kept.remove(exploration)
            self.keeping.leave(exploration)
            return
        self.keeping.replace(exploration)
        exploration.layers.remove()
        self.show_nothing()

    def close(self, *, leaves_layers: bool) -> None:
        """Let go of the viewer and stop all work, for good.

        Parameters
        ----------
        leaves_layers
            Whether the viewer goes on: what is shown in it becomes ordinary layers, see
            :meth:`Keeping.leave`.
        """
        self.state.settled.disconnect(self._on_settled)
        if self._loading is not None:
            self._loading.close()
        for events, hear in (
            (self._dims_events(), self._on_dims),
            (self._list_events(), self._on_layers),
        ):
            for emitter in events:
                emitter.disconnect(hear)
        if self._chosen is not None:
            self._chosen.events.name.disconnect(self._on_layers)
        for exploration in (self.current, *self._kept):
            if exploration is None:
                continue
            if leaves_layers:
                self.keeping.leave(exploration)
            else:
                exploration.close()
        self.current = self._chosen = None
        self._kept = []

    def adopt(self, exploration: Exploration, *, is_continued: bool) -> None:
        """Show something else, the state made to fit it.

        Parameters
        ----------
        exploration
            What is shown from now on.
        is_continued
            Whether it is what was shown before, grown.
        """
        self.current = exploration
        self._is_adopting = True
        with self.state.together():
            self._carried.fit_state(exploration, is_continued=is_continued)
            if exploration.left_with is not None:
                # It is shown again as it was left.
                self.state.controls.take(exploration.left_with)
                exploration.left_with = None
            self._take_expected(exploration)
        self._is_adopting = False
        self._show_looks()
        exploration.start(self._receive, self.failed.emit, self.rested.emit)
        self.adopted.emit(exploration, is_continued)
        self.look(restore=True)

    def expect(self, layer: ImageLayer, model: str, before: ExplorerState) -> None:
        """When a model has run on an image, choose what was chosen of it before."""
        self._expected = layer, model, before

    def show_nothing(self) -> None:
        """Empty the panels."""
        self.current = None
        self.adopted.emit(None, False)

    def set_aside(self) -> None:
        """Hide what is shown, until its image is chosen again."""
        if self.current is not None:
            self.current.left_with = self.state.controls.frozen()
            self.current.stop()
            self.current.layers.hide()
            self._kept.append(self.current)
            self.show_nothing()

    def look(self, *, restore: bool) -> None:
        """Ask for a picture of what the state says.

        Parameters
        ----------
        restore
            Whether layers that the user deleted come back.
        """
        request = self.request
        if self.current is not None and request is not None:
            self.current.look(request, restore=restore)
            self.asked.emit(request)

    def carry_over(
        self, exploration: Exploration, read: OtherPrior | Exception | None
    ) -> str | None:
        """Refine with the prior that is chosen, see :class:`CarriedOver`; an error is told."""
        try:
            return self._carried.carry_over(exploration, read, self.current)
        except (StructSegError, MemoryError, RuntimeError) as error:
            self.failed.emit(error)
            return None

    def _on_settled(self, touched: frozenset[str]) -> None:
        if self._is_adopting:
            return
        if "source.image" in touched:
            self._on_image()
        if "source.prior" in touched:
            self._on_prior()
        if _LOOKS & touched:
            self._show_looks()
        if any(name.startswith(_ASKED_BY) for name in touched):
            self.look(restore=True)

    def _take_expected(self, exploration: Exploration) -> None:
        run, expected = exploration.run, self._expected
        if expected is None or run is None or expected[:2] != (exploration.layer, run.model):
            return
        self._expected, (_, _, before) = None, expected
        self.state.controls.take(before.controls.frozen())
        self.state.display.update({name: getattr(before.display, name) for name in _SEEN})

    def _show_looks(self) -> None:
        """Draw each class as much as the state says."""
        if self.current is not None:
            opacities = self.state.display.opacities(self.current.spec.n_classes)
            self.current.layers.set_opacities(opacities)

    def _on_image(self) -> None:
        """Hide the results of another image; bring back those of the one chosen."""
        layer = self.image_layer
        self._is_by_hand = not self._is_following
        if self._chosen is not None:
            self._chosen.events.name.disconnect(self._on_layers)
        self._chosen = layer
        if layer is None:
            return
        layer.events.name.connect(self._on_layers)
        if self.current is not None and self.current.layer is not layer:
            self.set_aside()
        kept = next((one for one in self._kept if one.layer is layer), None)
        if kept is not None and self.current is None:
            self._kept.remove(kept)
            kept.layers.bring_back()
            self.adopt(kept, is_continued=False)

    def _on_prior(self) -> None:
        """Refine with the prior of another model, or with the model's own."""
        exploration, model = self.current, self.state.source.prior
        if exploration is None or model == exploration.prior_model:
            return
        if self._loading is not None:
            self._loading.close()
            self._loading = None
        if model is None:
            self._take_prior(exploration, None)
            return
        # Weights are read from a file: not in the thread that paints.
        self.said.emit("Loading the MRF…")
        self._loading = Background(
            partial(exploration.open_prior, model), partial(self._take_prior, exploration)
        )

    def _take_prior(self, exploration: Exploration, other: OtherPrior | Exception | None) -> None:
        """Refine with a prior that was read, if it is still wanted."""
        self._loading = None
        if exploration is not self.current:
            return
        before = exploration.spec
        if isinstance(other, Exception):
            self._refuse_prior(exploration, other)
            return
        try:
            exploration.take_prior(other)
        except MemoryLimitError as error:
            self._refuse_prior(exploration, error)
            return
        self.failed.emit(None)
        self.said.emit("")
        if other is not None and other.spec.class_names != exploration.spec.class_names:
            self.said.emit(f"Classes by order: {', '.join(other.spec.class_names)}")
        if exploration.spec != before:
            # A probability map has taken the names of the prior's classes.
            exploration.layers.set_classes(exploration.spec.classes)
        self.adopt(exploration, is_continued=exploration.spec == before)

    def _refuse_prior(self, exploration: Exploration, error: Exception) -> None:
        """Say why a prior cannot be used; the state names the one that is."""
        self.failed.emit(error)
        self.state.source.prior = exploration.prior_model

    def _on_layers(self, event: Any = None) -> None:  # noqa: ANN401 -- napari's events are untyped
        """Keep the choice of an image to what there is; let go of what is gone."""
        images = source_layers(self.viewer)
        chosen = self._chosen if self._chosen in images else None
        was_by_hand = self._is_by_hand and chosen is not None
        if event is not None and event.type == "inserted" and not self.is_running:
            chosen = event.value if event.value in images and not was_by_hand else chosen
        if chosen is None and images:
            chosen = images[-1]
        self._is_following = True
        self.state.source.image = None if chosen is None else chosen.name
        self._is_following = False
        # A new name of the same layer is no other choice.
        self._is_by_hand = was_by_hand
        for exploration in (self.current, *self._kept):
            if exploration is not None and self._is_gone(exploration):
                exploration.close()
                if exploration is self.current:
                    self.show_nothing()
                    self.said.emit("The image was closed")
                else:
                    self._kept.remove(exploration)

    def _is_gone(self, exploration: Exploration) -> bool:
        """Whether neither an image nor anything shown of it is in the viewer."""
        shown = (exploration.layer, *exploration.layers.all)
        return not any(layer in self.viewer.layers for layer in shown)

    def _remember(self, error: Exception | None) -> None:
        self.error = error

    def _forget_window(self, _name: object = None) -> None:
        self.state.source.intensity_window = None

    def _forget_spacing(self, _name: object = None) -> None:
        self.state.source.spacing = None

    def _on_dims(self, _event: object = None) -> None:
        # The user moved to another slice: nothing to bring deleted layers back for.
        self.look(restore=False)
        is_outside = self.current is not None and not self.current.is_in_view()
        if is_outside or self._was_outside:
            self.said.emit(_NOT_SEGMENTED if is_outside else "")
        self._was_outside = is_outside

    def _receive(self, results: Sequence[Result]) -> None:
        self.received.emit(results)

    def _dims_events(self) -> tuple[Any, ...]:
        events = self.viewer.dims.events
        return events.point, events.order, events.ndisplay

    def _list_events(self) -> tuple[Any, ...]:
        events = self.viewer.layers.events
        return events.inserted, events.removed
