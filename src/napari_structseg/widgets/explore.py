"""The Explore dock: choose, browse, adjust, look."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from napari.components import ViewerModel
from qtpy.QtCore import QEvent
from qtpy.QtGui import QCloseEvent
from qtpy.QtWidgets import QWidget

from napari_structseg.controls import Controls
from napari_structseg.errors import StructSegError
from napari_structseg.prediction.other_prior import fitting_priors
from napari_structseg.prediction.specs import Spec
from napari_structseg.session.engine import Engine
from napari_structseg.session.messages import (
    Modes,
    ModeThumbnails,
    Result,
    Show,
    Thumbnails,
)
from napari_structseg.session.runner import RunOutcome
from napari_structseg.widgets.dock_layout import DockLayout
from napari_structseg.widgets.exploration import N_OUTLINES, Exploration, Wanted, are_alike
from napari_structseg.widgets.panels.source_panel import RunState
from napari_structseg.widgets.shortcuts import BoundShortcuts
from napari_structseg.widgets.threads.job import Job
from napari_structseg.widgets.viewer.layers import ResultLayers
from napari_structseg.widgets.viewer.viewing import current_view, image_of_layer

logger = logging.getLogger(__name__)

_NOT_SEGMENTED = "This slice was not marked: nothing is segmented here"


class ExploreWidget(DockLayout):
    """The dock. It alone knows the viewer, the session and the panels.

    Parameters
    ----------
    napari_viewer
        The viewer it is docked in. napari's menus go by this name.
    """

    def __init__(self, napari_viewer: ViewerModel, parent: QWidget | None = None) -> None:
        super().__init__(napari_viewer, parent)
        self._viewer = napari_viewer
        self._job: Job | None = None
        self._exploration: Exploration | None = None
        # What to go back to when a run that has shown its first slice does not finish.
        self._previous: Exploration | None = None
        self._thumbnails: Thumbnails | None = None
        self._mode_thumbnails: ModeThumbnails | None = None
        self._spec: Spec | None = None
        self._is_closed = False
        self._keys = BoundShortcuts(napari_viewer, self)
        self._connect()

    @property
    def engine(self) -> Engine | None:
        """What renders; None before the first result."""
        return None if self._exploration is None else self._exploration.engine

    @property
    def layers(self) -> ResultLayers | None:
        """The plugin's layers; None before the first result."""
        return None if self._exploration is None else self._exploration.layers

    @property
    def controls(self) -> Controls:
        """The state of the sliders."""
        return Controls(
            seed=self.strip.seed,
            sample=self.strip.sample,
            temperature=self.spread.temperature,
            class_scale=self.spread.class_scale,
            latent=self.latent.position,
            iterations=self.neighbours.iterations,
            mrf_strength=self.neighbours.strength,
            damping=self.neighbours.damping,
            update_rule=self.neighbours.update_kind,
            nudges=self.neighbours.nudges,
        )

    def is_exploring(self) -> bool:
        """Whether there is a distribution to look at."""
        return self._exploration is not None

    def is_busy(self) -> bool:
        """Whether a run is on, or anything is still to be computed or painted."""
        if self._job is not None:
            return True
        return self._exploration is not None and self._exploration.is_busy()

    def run(self) -> None:
        """Run the chosen model on the chosen image."""
        layer, model = self.source.image_layer, self.source.model
        if self._job is not None or layer is None or model is None:
            return
        self.banner.dismiss()
        try:
            image = image_of_layer(layer)
            roi, window = self.source.roi, self.source.chosen_window
        except StructSegError as error:
            self._show_error(error)
            return
        first = current_view(self._viewer.dims, layer).region(image.spatial_shape)
        self._job = Job(
            model,
            image,
            layer,
            device=self.source.device,
            first=first,
            roi=roi,
            window=window,
        )
        self.source.set_state(RunState.RUNNING)
        self.status.say("Loading the model…")
        self._job.start(self)

    def cancel(self) -> None:
        """Stop the run after its current step."""
        if self._job is not None:
            self._job.run.cancel()
            self.source.set_state(RunState.CANCELLING)
            self.status.say("Cancelling…")

    def on_progress(self, done: int, total: int) -> None:
        """Show how far the run is."""
        self.source.show_progress(done, total)
        if self.source.state is RunState.RUNNING:
            self.status.say(f"Segmenting: {done} of {total} tiles")

    def on_first(self, outcome: RunOutcome) -> None:
        """Show the visible slice while the run goes on."""
        self._explore(outcome, is_complete=False)

    def on_finished(self, outcome: RunOutcome) -> None:
        """Show everything."""
        self._explore(outcome, is_complete=True)
        if self._previous is not None:
            self._previous.close()
            self._previous = None
        self._end_job(f"Segmented in {outcome.seconds:.1f} s")

    def on_failed(self, error: Exception) -> None:
        """Say why; what was there before comes back."""
        self._go_back()
        self._end_job("")
        self._show_error(error)

    def on_cancelled(self) -> None:
        """What was there before the run comes back."""
        self._go_back()
        self._end_job("Cancelled")

    def shut_down(self) -> None:
        """Let go of the viewer and stop all work, for good. The layers stay."""
        if self._is_closed:
            return
        self._is_closed = True
        self._keys.unbind()
        self.source.disconnect_viewer()
        self.view_row.disconnect_viewer()
        for emitter in self._dims_events():
            emitter.disconnect(self._on_dims)
        self._viewer.dims.events.order.disconnect(self._show_thumbnails)
        self._viewer.layers.events.removed.disconnect(self._on_layer_removed)
        if self._job is not None:
            self._job.close()
        for exploration in (self._exploration, self._previous):
            if exploration is not None:
                exploration.layer.events.contrast_limits.disconnect(self._show_thumbnails)
                exploration.close()
        self._job = self._exploration = self._previous = None

    def closeEvent(self, event: QCloseEvent | None) -> None:
        """Shut down where the dock is a window of its own."""
        self.shut_down()
        super().closeEvent(event)

    def event(self, event: QEvent | None) -> bool:
        """Shut down when napari takes the dock out of its window: it never comes back."""
        if event is not None and event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.shut_down()
            self.deleteLater()
        return bool(super().event(event))

    def _connect(self) -> None:
        self.source.run_requested.connect(self.run)
        self.source.cancel_requested.connect(self.cancel)
        self.source.image_chosen.connect(self._show_state)
        self.strip.sample_chosen.connect(self._on_sample)
        self.strip.seed_chosen.connect(self._look)
        self.strip.extended.connect(self._look)
        self.latent.moved.connect(self._on_latent)
        self.latent.sample_chosen.connect(self.strip.select)
        self.hypotheses.sample_chosen.connect(self.strip.select)
        self.hypotheses.modes_chosen.connect(self._look)
        self.hypotheses_section.header.toggled.connect(self._look)
        self.show_panel.show_chosen.connect(self._look)
        self.spread.changed.connect(self._on_spread)
        self.neighbours.changed.connect(self._on_neighbours)
        self.neighbours.prior_chooser.chosen.connect(self._on_prior)
        self.neighbours.changes_chosen.connect(self._look)
        for emitter in self._dims_events():
            emitter.connect(self._on_dims)
        self._viewer.dims.events.order.connect(self._show_thumbnails)
        self._viewer.layers.events.removed.connect(self._on_layer_removed)
        # A bound method would be disconnected before the signal comes.
        self.destroyed.connect(lambda: self.shut_down())  # noqa: PLW0108

    def _dims_events(self) -> tuple[Any, ...]:
        events = self._viewer.dims.events
        return events.point, events.order, events.ndisplay

    def _explore(self, outcome: RunOutcome, *, is_complete: bool) -> None:
        """Look at a distribution that a run has given, or is still giving."""
        job, old = self._job, self._exploration
        if job is None:
            return
        is_continued = old is not None and old.run is job.run
        layers = None if old is None else old.layers
        if old is not None and is_continued:
            old.close()
        elif old is not None:
            old.stop()
            self._previous = old
        spec = outcome.spec
        if layers is None or not layers.fit(job.layer, job.image):
            if layers is not None:
                layers.remove()
            layers = ResultLayers(self._viewer, job.layer, spec.classes, job.image.geometry)
        elif not is_continued:
            layers.set_classes(spec.classes)
        exploration = Exploration(
            self._viewer, job.run, outcome, job.image, job.layer, layers, is_complete=is_complete
        )
        if old is not None and exploration.goes_on_from(old):
            exploration.take_names(old)
            self._use_prior(exploration, old.prior_model)
        self._adopt(exploration, is_continued=is_continued)

    def _go_back(self) -> None:
        """Drop what an unfinished run has shown."""
        job, current, previous = self._job, self._exploration, self._previous
        if job is None or current is None or current.run is not job.run:
            return
        current.close()
        self._previous = None
        if previous is None:
            current.layers.remove()
            self._exploration = None
            self._show_state()
            return
        if previous.layers is not current.layers:
            current.layers.remove()
        previous.layers.set_classes(previous.spec.classes)
        self._adopt(previous, is_continued=False)

    def _adopt(self, exploration: Exploration, *, is_continued: bool) -> None:
        """Show an exploration in the panels and in the viewer."""
        spec, is_stochastic = exploration.spec, exploration.is_stochastic
        self._exploration = exploration
        is_new = self._spec is None or not are_alike(spec, self._spec)
        self._spec = spec
        if is_new:
            self.strip.reset()
            self.spread.set_classes(spec.classes, is_stochastic=is_stochastic)
            self.show_panel.set_classes(
                spec.classes, n_outlines=N_OUTLINES, is_stochastic=is_stochastic
            )
        if is_new or exploration.prior_model != self.neighbours.prior_chooser.choice:
            self._set_prior(exploration)
        elif not is_continued:
            self._show_prior(exploration)
        if not is_continued:
            self._thumbnails = self._mode_thumbnails = None
            self.strip.set_model(spec.classes, is_stochastic=is_stochastic)
            self.latent.set_model(exploration.engine.distribution.n_latents)
            self.hypotheses.set_model(
                spec.classes, exploration.measure, is_stochastic=is_stochastic
            )
            self.spread.set_measure(exploration.measure)
            self.spread.forget_volumes()
            self.status.forget_times()
        exploration.start(self._receive, self._show_error, self.status.show_times)
        exploration.layer.events.contrast_limits.connect(self._show_thumbnails)
        self._show_state()
        self._look()

    def _set_prior(self, exploration: Exploration) -> None:
        """Set the sliders of another prior to their defaults."""
        self.neighbours.set_model(exploration.spec.classes, iterations=exploration.iterations)
        self._show_prior(exploration)

    def _show_prior(self, exploration: Exploration) -> None:
        """Show the weights of a prior, and list those that fit."""
        prior = exploration.prior
        self.neighbours.show_compatibility(
            None if prior is None else prior.compatibility().cpu().numpy()
        )
        self.show_iterations()
        others = [model for model in self.source.models if model != exploration.run.model]
        self.neighbours.prior_chooser.offer(
            fitting_priors(others, exploration.spec), has_own=exploration.spec.prior is not None
        )
        self.neighbours.prior_chooser.show_choice(exploration.prior_model)

    def _use_prior(self, exploration: Exploration, model: str | None) -> bool:
        """Refine with another prior; False, and nothing changes, where it cannot be used."""
        if model == exploration.prior_model:
            return True
        try:
            exploration.use_prior(model)
        except (StructSegError, MemoryError, RuntimeError) as error:
            self._show_error(error)
            return False
        return True

    def _on_prior(self, model: str | None) -> None:
        """Refine with the prior of another model, or with the model's own."""
        exploration = self._exploration
        if exploration is None or model == exploration.prior_model:
            return
        if not self._use_prior(exploration, model):
            return
        self.banner.dismiss()
        if exploration.spec != self._spec:
            # A probability map has taken the names of the prior's classes.
            exploration.layers.set_classes(exploration.spec.classes)
            self._adopt(exploration, is_continued=False)
            return
        other = exploration.other_prior
        if other is not None and other.spec.class_names != exploration.spec.class_names:
            self.status.say(f"Classes by order: {', '.join(other.spec.class_names)}")
        self._set_prior(exploration)
        exploration.start(self._receive, self._show_error, self.status.show_times)
        self._look()

    def _end_job(self, says: str) -> None:
        self._job = None
        self.source.set_state(RunState.READY)
        self.status.say(says)

    def _show_error(self, error: Exception) -> None:
        if isinstance(error, StructSegError):
            self.banner.show_error(str(error))
            return
        logger.error("computing failed", exc_info=error)
        what = "The memory ran out." if isinstance(error, MemoryError) else str(error)
        self.banner.show_error(
            f"The computation failed: {what} Try the CPU as device, or a smaller image; if it "
            "goes on, please report it with the log that napari prints."
        )

    def _show_state(self) -> None:
        self.show_state(is_exploring=self.is_exploring())

    def _look(self, _changed: object = None) -> None:
        """Ask for a picture of what the sliders say."""
        self._ask(restore=True)

    def _on_dims(self, _event: object = None) -> None:
        # The user moved to another slice: nothing to bring deleted layers back for.
        self._ask(restore=False)
        if self._exploration is not None and not self._exploration.is_in_view():
            self.status.say(_NOT_SEGMENTED)
        elif self.status.hint.text() == _NOT_SEGMENTED:
            self.status.say("")

    def _ask(self, *, restore: bool) -> None:
        if self._exploration is None:
            return
        wanted = Wanted(
            self.controls,
            self.show_panel.chosen,
            self.strip.n_samples,
            changes=self.neighbours.changes,
            stop_when_converged=self.neighbours.stops_when_converged,
            modes=self.hypotheses.modes if self.hypotheses_section.is_open else Modes.NONE,
        )
        self.latent.show_controls(wanted.controls, self.strip.n_samples)
        self.hypotheses.show_controls(wanted.controls)
        self.spread.say_refined(
            wanted.controls.refines
            and self._exploration.prior is not None
            and self._exploration.is_stochastic
        )
        shown = self._exploration.look(wanted, restore=restore)
        if shown is not wanted.show:
            name = wanted.show.value.capitalize()
            self.status.say(f"{name} are drawn on slices; 3-D shows labels")

    def _on_latent(self) -> None:
        self.strip.step_aside()
        self.status.say("A position in the latent space; double-click it for the mean")
        self._look()

    def _on_sample(self, sample: int) -> None:
        self.latent.let_go()
        self.status.say("The mean" if sample == 0 else f"Sample {sample} of seed {self.strip.seed}")
        self._look()

    def _on_spread(self) -> None:
        is_mean = self.strip.sample == 0 and not self.latent.position
        if is_mean and self.show_panel.chosen is Show.LABELS and not self.spread.is_default:
            self.strip.select(1)
            self.status.say("The mean has no spread: sample 1 is shown")
        else:
            self._look()

    def _on_neighbours(self) -> None:
        self.show_iterations()
        self._look()

    def _on_layer_removed(self, event: Any) -> None:  # noqa: ANN401 -- napari's events are untyped
        if self._job is not None and event.value is self._job.layer:
            self.cancel()
            self.status.say("The image was closed: its run is cancelled")
        elif self._job is None:
            self._forget_what_is_gone()

    def _forget_what_is_gone(self) -> None:
        """Let go of a distribution once neither its image nor anything shown of it is there."""
        exploration, layers = self._exploration, self._viewer.layers
        if exploration is None:
            return
        if not any(layer in layers for layer in (exploration.layer, *exploration.layers.all)):
            exploration.layer.events.contrast_limits.disconnect(self._show_thumbnails)
            exploration.close()
            self._exploration = None
            self._show_state()
            self.status.say("The image was closed")

    def _receive(self, results: Sequence[Result]) -> None:
        """Show results in the panels; the layers have them already."""
        for result in results:
            if isinstance(result, Thumbnails):
                self._thumbnails = result
                self._show_thumbnails()
            elif isinstance(result, ModeThumbnails):
                self._mode_thumbnails = result
                self._show_thumbnails()
            else:
                self.show_result(result)

    def _show_thumbnails(self, _event: object = None) -> None:
        if self._exploration is None:
            return
        if self._thumbnails is not None:
            self.strip.set_samples(*self._exploration.pictures_of(self._thumbnails))
        if self._mode_thumbnails is not None:
            self.hypotheses.show_slices(*self._exploration.pictures_of(self._mode_thumbnails))


# As the manifest calls it. napari looks for the viewer among the parameters of a class, not of
# a function.
make_explore_widget = ExploreWidget
