"""Runs of models in one viewer: one at a time, and what comes of it."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from psygnal import Signal

from napari_structseg.devices import resolve_device
from napari_structseg.errors import MemoryLimitError, StructSegError
from napari_structseg.image import Image
from napari_structseg.session.engine import Engine
from napari_structseg.session.making_room import held_bytes, n_to_close
from napari_structseg.session.runner import RunOutcome
from napari_structseg.widgets.controller import Controller
from napari_structseg.widgets.exploration import Exploration
from napari_structseg.widgets.panels.source_panel import RunState
from napari_structseg.widgets.swapping import Swapping
from napari_structseg.widgets.threads.background import Background
from napari_structseg.widgets.threads.job import Job
from napari_structseg.widgets.viewer.layers import ResultLayers
from napari_structseg.widgets.viewer.marking import marked_roi
from napari_structseg.widgets.viewer.specs import spec_of
from napari_structseg.widgets.viewer.viewing import current_view, image_of_layer

# Longer than computing a whole labelling takes.
_TIMEOUT_SECONDS = 600.0
# A slice that grows during a run is not drawn more often than this: it takes time from the run.
_REDRAW_SECONDS = 0.25


class Runs:
    """Starts runs as the state says, and hands over what they give.

    ``changed(state)`` says what the Run button does next, ``progressed(done, total)`` how many
    steps are done; both in the main thread.

    Parameters
    ----------
    controller
        Shows what a run gives.
    swapping
        Holds a result that can come back by undo; it is the first to make room.
    """

    changed = Signal(object)
    progressed = Signal(int, int)

    def __init__(self, controller: Controller, swapping: Swapping) -> None:
        self._controller, self._swapping = controller, swapping
        self.job: Job | None = None
        self.state = RunState.READY
        # What to go back to when a run that has shown its first slice does not finish.
        self._previous: Exploration | None = None
        self._replaces = False
        self._make_job: Callable[[], Job] | None = None
        # Waits for results that have to make room for the run, which happens once for a run.
        self._room: Background[None] | None = None
        self._has_made_room = False
        # What the run has shown before its end, and when that was drawn last.
        self._growing: RunOutcome | None = None
        self._drawn = 0.0
        controller.viewer.layers.events.removed.connect(self._on_layer_removed)

    @property
    def unsaved(self) -> list[Exploration]:
        """What the run replaces when it is done, if that is unsaved work."""
        previous = self._previous
        return [previous] if previous is not None and previous.is_unsaved else []

    def start(self, *, replace: bool = False) -> bool:
        """Run the chosen model on the chosen image; False if that cannot be begun.

        Parameters
        ----------
        replace
            Whether a labelling that was chosen by hand and is not saved goes with the result that
            the run replaces; otherwise it is kept as a layer.
        """
        controller, source = self._controller, self._controller.state.source
        layer, model = controller.image_layer, source.model
        if self.job is not None or layer is None or model is None:
            return False
        try:
            image = _with_typed_spacing(image_of_layer(layer), source.spacing)
            spec = spec_of(model)
            is_of_slices = spec is not None and spec.dimensions == 2 and layer.ndim == 3
            roi = marked_roi(controller.viewer, layer, source) if is_of_slices else None
        except StructSegError as error:
            controller.failed.emit(error)
            return False
        uses_window = spec is not None and spec.intensity.kind == "window"
        can_augment = spec is not None and spec.kind == "point" and roi is None
        self._make_job = partial(
            Job,
            model,
            image,
            layer,
            device=source.device,
            first=current_view(controller.viewer.dims, layer).region(image.spatial_shape),
            roi=roi,
            window=source.intensity_window if uses_window else None,
            precision=source.precision,
            members_as=source.members_as,
            augment=source.augment if can_augment else (),
            wanted_prior=controller.wanted_prior,
        )
        self.job = self._make_job()
        self._replaces = replace
        self._has_made_room = False
        self._set_state(RunState.RUNNING)
        controller.said.emit("Loading the model…")
        self.job.start(self)
        return True

    def cancel(self) -> None:
        """Stop the run after its current step."""
        if self.job is not None:
            self.job.run.cancel()
            self._set_state(RunState.CANCELLING)
            self._controller.said.emit("Cancelling…")

    def close(self, *, leaves_layers: bool) -> None:
        """Stop the run, without waiting, and tell nobody; see :meth:`Controller.close`."""
        self._controller.viewer.layers.events.removed.disconnect(self._on_layer_removed)
        if self._room is not None:
            self._room.close()
        if self.job is not None:
            self.job.close()
        if self._previous is not None and leaves_layers:
            self._controller.keeping.replace(self._previous)
        elif self._previous is not None:
            self._previous.close()
        self.job = self._previous = None

    def on_progress(self, done: int, total: int) -> None:
        """Say how far the run is; draw a slice that the user has moved to."""
        self.progressed.emit(done, total)
        if self.state is RunState.RUNNING:
            self._controller.said.emit(f"Segmenting: {done} of {total} steps")
        self._follow_view()

    def on_first(self, outcome: RunOutcome) -> None:
        """Show the visible slice while the run goes on."""
        self._growing, self._drawn = outcome, time.monotonic()
        self._explore(outcome, is_complete=False)

    def on_finished(self, outcome: RunOutcome) -> None:
        """Show everything."""
        self._explore(outcome, is_complete=True)
        previous, current = self._previous, self._controller.current
        self._previous = None
        if previous is not None and current is not None:
            # Another run of the same gives the same labels again.
            if self._replaces or current.is_of_same_source(previous):
                previous.close()
            else:
                self._controller.keeping.replace(previous)
        self._end(f"Segmented in {outcome.seconds:.1f} s")

    def on_failed(self, error: Exception) -> None:
        """Make room for the run where memory is short; otherwise say why, and go back."""
        if isinstance(error, MemoryLimitError) and self._make_room(error.missing_bytes):
            return
        self._go_back()
        self._end("")
        self._controller.failed.emit(error)

    def on_cancelled(self) -> None:
        """What was there before the run comes back."""
        self._go_back()
        self._end("Cancelled")

    def _make_room(self, missing_bytes: int | None) -> bool:
        """Close the oldest results, and begin again; False if that would not help."""
        if self.job is None or missing_bytes is None or self._has_made_room:
            return False
        device = resolve_device(self.job.run.device)
        held = self._swapping.held
        oldest_first = [*([] if held is None else [held]), *self._controller.oldest_first]
        results = [one for one in oldest_first if one.device == device]
        sizes = [held_bytes(one.engine.distribution) for one in results]
        closed = results[: n_to_close(missing_bytes, sizes)]
        if not closed:
            return False
        self._has_made_room = True
        self._controller.said.emit("Memory is short: closing older results…")
        for one in closed:
            if one is held:
                self._swapping.let_go()
            else:
                self._controller.let_go(one)
        engines = [one.engine for one in closed]
        self._room = Background(partial(_join, engines), self._on_room)
        return True

    def _on_room(self, _outcome: Exception | None) -> None:
        """Begin again what was found to be too large."""
        self._room = None
        if self.job is None or self._make_job is None:
            return
        if self.state is RunState.CANCELLING:
            self.on_cancelled()
            return
        # What refers to each other is let go of at once, not when Python finds the time.
        gc.collect()
        self.job = self._make_job()
        self.job.start(self)

    def _explore(self, outcome: RunOutcome, *, is_complete: bool) -> None:
        """Look at a distribution that the run has given, or is still giving."""
        job, controller = self.job, self._controller
        if job is None:
            return
        if job.layer in controller.viewer.layers:
            # Whatever was chosen meanwhile: what has been asked for is shown.
            controller.state.source.image = job.layer.name
        old = controller.current
        is_continued = old is not None and old.run is job.run
        if old is not None and is_continued:
            old.close()
        elif old is not None:
            old.left_with = controller.state.controls.frozen()
            old.stop()
            self._previous = old
        layers, spec = None if old is None else old.layers, outcome.spec
        if layers is None or not layers.fit(job.layer, job.image):
            if layers is not None:
                layers.remove()
            layers = ResultLayers(controller.viewer, job.layer, spec.classes, job.image.geometry)
        elif not is_continued:
            layers.set_classes(spec.classes)
        exploration = Exploration(
            controller.viewer,
            job.run,
            outcome,
            job.image,
            job.layer,
            layers,
            is_complete=is_complete,
        )
        if old is not None and exploration.is_of_same_source(old):
            exploration.unsaved = old.unsaved
        unread = controller.carry_over(exploration, outcome.other_prior)
        controller.adopt(exploration, is_continued=is_continued)
        if unread is not None:
            # It was chosen since the run began: it is read like any that is chosen now.
            controller.state.source.prior = unread

    def _follow_view(self) -> None:
        """Draw what there is of a slice that the user has moved to while the run goes on.

        The slice that was visible first is final. Of any other one, more is known with each piece,
        and what was computed of it before is out of date: an engine of its own begins again.
        """
        job, controller, now = self.job, self._controller, time.monotonic()
        current, growing = controller.current, self._growing
        if job is None or growing is None or current is None or current.run is not job.run:
            return
        region = current_view(controller.viewer.dims, job.layer).region(job.image.spatial_shape)
        is_due = now - self._drawn > _REDRAW_SECONDS and not current.is_busy()
        if is_due and region != job.first:
            self._drawn = now
            self._explore(growing, is_complete=False)

    def _go_back(self) -> None:
        """Drop what an unfinished run has shown."""
        current, previous = self._controller.current, self._previous
        self._previous = None
        if self.job is None or current is None or current.run is not self.job.run:
            return
        current.close()
        if previous is None:
            current.layers.remove()
            self._controller.show_nothing()
            return
        if previous.layers is not current.layers:
            current.layers.remove()
        previous.layers.set_classes(previous.spec.classes)
        self._controller.adopt(previous, is_continued=False)

    def _end(self, says: str) -> None:
        self.job = self._growing = None
        self._set_state(RunState.READY)
        self._controller.said.emit(says)

    def _set_state(self, state: RunState) -> None:
        self.state = state
        self._controller.is_running = state is not RunState.READY
        self.changed.emit(state)

    def _on_layer_removed(self, event: Any) -> None:  # noqa: ANN401 -- napari's events are untyped
        if self.job is not None and event.value is self.job.layer:
            self.cancel()
            self._controller.said.emit("The image was closed: its run is cancelled")


def _join(engines: list[Engine]) -> None:
    """Wait until engines have ended, and let go of them."""
    while engines:
        engines.pop().join(_TIMEOUT_SECONDS)


def _with_typed_spacing(image: Image, typed: tuple[float, ...] | None) -> Image:
    """An image with the voxel size that the user has typed, where it does not say its own."""
    if image.has_spacing or typed is None or len(typed) != image.ndim:
        return image
    return image.with_spacing(typed)
