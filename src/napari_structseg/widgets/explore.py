"""The Explore dock: choose, browse, adjust, look.

Over 300 lines: the dock connects every panel to the controller, and keeps nothing that a panel
could keep.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from napari.components import ViewerModel
from qtpy.QtWidgets import QFileDialog, QWidget

from napari_structseg.controls import Controls
from napari_structseg.distributions import DomainCheck, region_shape
from napari_structseg.errors import StructSegError
from napari_structseg.prediction.specs import Spec, are_alike
from napari_structseg.session.engine import Engine
from napari_structseg.session.messages import ModeThumbnails, Request, Result, Thumbnails
from napari_structseg.session.state import LatentPosition, Mean, Sample
from napari_structseg.widgets.binding import follow
from napari_structseg.widgets.close_guard import CloseGuard
from napari_structseg.widgets.dock_layout import DockLayout
from napari_structseg.widgets.exploration import Exploration
from napari_structseg.widgets.panels.save_dialog import formats_of, open_save_dialog, suggested_name
from napari_structseg.widgets.parts.measure import Measure, measure_of
from napari_structseg.widgets.sessions import join, state_of
from napari_structseg.widgets.shortcuts import SHORTCUTS, BoundShortcuts
from napari_structseg.widgets.threads.at_exit import delete_closed_windows_at_exit
from napari_structseg.widgets.viewer.layers import ResultLayers
from napari_structseg.widgets.viewer.pictures import pictures_of
from napari_structseg.widgets.viewer.specs import fitting_priors

_N_OUTLINES = 5


class ExploreWidget(DockLayout):
    """The dock: a view of the state of its viewer, and of what was computed there.

    Several docks of one viewer show the same.

    Parameters
    ----------
    napari_viewer
        The viewer it is docked in. napari's menus go by this name.
    """

    def __init__(self, napari_viewer: ViewerModel, parent: QWidget | None = None) -> None:
        # First of all the session, which is told of changes before the panels are.
        self._session = join(napari_viewer, self)
        recovery = self._session.correcting.recovery
        super().__init__(napari_viewer, state_of(napari_viewer), recovery, parent)
        self._viewer = napari_viewer
        self._controller = self._session.controller
        self._thumbnails: Thumbnails | None = None
        self._mode_thumbnails: ModeThumbnails | None = None
        # What the rows and the sliders are for.
        self._spec: Spec | None = None
        self._prior_model: str | None = None
        self._domain: DomainCheck | None = None
        self._contrast: Any = None
        self._is_closed = False
        self.save_dialog: QFileDialog | None = None
        self._keys = BoundShortcuts(napari_viewer, self, SHORTCUTS, self.is_exploring)
        self._guard = CloseGuard(self, self._session.unsaved, self._save_unsaved)
        delete_closed_windows_at_exit()
        self._connect()
        self.source.set_state(self._session.runs.state)
        if self._exploration is not None:
            self._on_adopted(self._exploration, is_continued=False)
        self._show_state()

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
        """The controls of the picture: those chosen, as far as there is a use for them."""
        request = self._controller.request
        return self.state.controls.frozen() if request is None else request.controls

    def is_exploring(self) -> bool:
        """Whether there is a distribution to look at."""
        return self._exploration is not None

    def is_busy(self) -> bool:
        """Whether a run is on, or anything is still to be computed or painted."""
        return not self._is_closed and (
            self._session.is_busy() or self.source.window_row.is_reading
        )

    def run(self) -> None:
        """Run the chosen model on the chosen image."""
        self.banner.dismiss()
        self._session.runs.start()

    def reset(self) -> None:
        """Every slider of every panel back to its default, as one change."""
        with self.state.together():
            self.spread.reset()
            self.neighbours.reset()

    def undo(self) -> None:
        """Take back the last action, of sliders or by hand."""
        self._session.undoing.step("undo")

    def redo(self) -> None:
        """Take back the last undo."""
        self._session.undoing.step("redo")

    def save(self) -> None:
        """Ask where to save what is chosen, and save it there."""
        exploration = self._exploration
        if exploration is not None:
            path = exploration.layer.source.path
            name = suggested_name(exploration.image.name, self.state.controls)
            folder = None if path is None else Path(path).parent
            self.save_dialog = open_save_dialog(
                self, name, folder, formats_of(exploration.image, with_report=True), self._save_as
            )

    def shut_down(self, *, leaves_layers: bool = True) -> None:
        """Let go of the viewer, for good; with its last dock, all work stops.

        Parameters
        ----------
        leaves_layers
            Whether the viewer goes on without the dock: then its layers become ordinary ones,
            with the whole labelling that was chosen.
        """
        if self._is_closed:
            return
        self._is_closed = True
        self._keys.unbind()
        self.source.disconnect_viewer()
        self.view_row.disconnect_viewer()
        self._viewer.dims.events.order.disconnect(self._show_thumbnails)
        self._watch_contrast(None)
        self._leave(leaves_layers=leaves_layers)
        for dock in self._session.docks:
            if isinstance(dock, ExploreWidget):
                # They have lost the letters and the keys that they shared with this one.
                dock.view_row.letters.update()
                dock._keys.bind()

    @property
    def _exploration(self) -> Exploration | None:
        return None if self._is_closed else self._controller.current

    def _connect(self) -> None:
        controller, runs = self._controller, self._session.runs
        self.source.run_requested.connect(self.run)
        self.source.cancel_requested.connect(runs.cancel)
        self.spread.said.connect(self.status.say)
        self.status.save_requested.connect(self.save)
        for signal, hear in (
            (controller.adopted, self._on_adopted),
            (controller.asked, self._on_asked),
            (controller.received, self._receive),
            (controller.failed, self._show_error),
            (controller.said, self.status.say),
            (controller.rested, self.status.show_times),
            (runs.changed, self.source.set_state),
            (runs.progressed, self.source.show_progress),
            (self.state.controls.events.chosen, self._say_chosen),
            (self.state.controls.events.iterations, self._say_iterations),
            (self.state.controls.events.coupling, self._say_iterations),
            (self.state.source.events.image, self._show_state),
            (self.state.source.events.spacing, self._show_measure),
        ):
            follow(self, signal, hear)
        self._viewer.dims.events.order.connect(self._show_thumbnails)
        # A bound method would be disconnected before the signal comes.
        self.destroyed.connect(lambda: self.shut_down(leaves_layers=False))

    def _on_adopted(self, exploration: Exploration | None, is_continued: bool) -> None:
        """Show in the panels what was computed of another image, or by another model."""
        self._watch_contrast(exploration)
        if exploration is None:
            self._show_domain(None)
            self._show_state()
            return
        spec, is_stochastic = exploration.spec, exploration.is_stochastic
        measure = self._measure(exploration)
        is_new = self._spec is None or not are_alike(spec, self._spec)
        if is_new:
            self.spread.set_classes(
                spec.classes, is_stochastic=is_stochastic, calibration=spec.calibration
            )
            self.show_panel.set_classes(
                spec.classes, n_outlines=_N_OUTLINES, is_stochastic=is_stochastic
            )
        if is_new or exploration.prior_model != self._prior_model:
            self.neighbours.set_model(spec.classes, iterations=exploration.iterations, crf=spec.crf)
        self._spec, self._prior_model = spec, exploration.prior_model
        self._show_prior(exploration)
        self._show_domain(exploration.domain)
        if not is_continued:
            self._thumbnails = self._mode_thumbnails = None
            self.strip.set_model(spec.classes, is_stochastic=is_stochastic)
            self.latent.set_model(exploration.engine.distribution.n_latents)
            self.hypotheses.set_model(spec.classes, measure, is_stochastic=is_stochastic)
            self.spread.set_measure(measure)
            self.spread.forget_volumes()
            self.status.forget_times()
        self._show_state()

    def _show_domain(self, domain: DomainCheck | None) -> None:
        """Say that the model was not made for the image, before any volume of it is shown."""
        message = "" if domain is None else domain.message
        self.spread.set_doubt(message)
        self.hypotheses.set_doubt(message)
        if not message:
            self.domain_banner.dismiss()
        elif domain is not self._domain:
            self.domain_banner.show_error(message)
        # What was dismissed stays so.
        self._domain = domain

    def _measure(self, exploration: Exploration) -> Measure:
        sizes = region_shape(exploration.image.spatial_shape, exploration.region)
        return measure_of(exploration.image, sizes, self.state.source.spacing)

    def _show_measure(self, _spacing: object = None) -> None:
        """Write sizes in another unit: the user has typed a voxel size."""
        if self._exploration is not None:
            measure = self._measure(self._exploration)
            self.spread.set_measure(measure)
            self.hypotheses.set_measure(measure)

    def _show_prior(self, exploration: Exploration) -> None:
        """Show the weights of a prior, and list those that fit."""
        prior, spec = exploration.prior, exploration.spec
        self.neighbours.show_compatibility(
            None if prior is None else prior.compatibility().cpu().numpy()
        )
        self._say_iterations()
        own = None if exploration.run is None else exploration.run.model
        others = [model for model in self.source.models if model != own]
        self.neighbours.prior_chooser.offer(
            fitting_priors(others, spec), has_own=spec.prior is not None
        )

    def _on_asked(self, request: Request) -> None:
        self.spread.show_request(request)
        self._say_alone(request)
        wanted = self.state.display.show
        if request.show is not wanted:
            name = wanted.value.capitalize()
            self.status.say(f"{name} are drawn on slices; 3-D shows labels")

    def _save_unsaved(self) -> None:
        """Ask where to save a labelling that is in no file yet."""
        unsaved = self._controller.unsaved
        if unsaved and unsaved[0] is not self._exploration:
            self.state.source.image = unsaved[0].layer.name
        if unsaved:
            self.save()
        else:
            self.status.say("Save the layer with File ▸ Save Selected Layers…")

    def _save_as(self, path: str, *, keep_patient: bool = False) -> None:
        try:
            self._session.saving.save(path, keep_patient=keep_patient)
        except StructSegError as error:
            self._show_error(error)

    def _show_state(self, _changed: object = None) -> None:
        shown = self._exploration
        self.status.save_button.setEnabled(shown is not None and shown.is_complete)
        self.show_state(is_exploring=self.is_exploring())

    def _say_chosen(self, chosen: Mean | Sample | LatentPosition) -> None:
        if isinstance(chosen, Sample):
            says = f"Sample {chosen.number} of seed {self.state.controls.seed}"
        elif isinstance(chosen, Mean):
            says = "The mean"
        elif self.latent.n_latents:
            says = "A position in the latent space; double-click it for the mean"
        else:
            says = "A position between smaller and larger"
        self.status.say(says)

    def _say_iterations(self, _iterations: object = None) -> None:
        controls = self.controls
        by_mrf = controls.coupling == "mrf"
        self.show_iterations(controls.iterations if by_mrf else 0, cuts=controls.cuts)

    def _receive(self, results: Sequence[Result]) -> None:
        """Show results in the panels; the layers have them already."""
        for result in results:
            if isinstance(result, Thumbnails):
                self._thumbnails = result
                self._show_thumbnails()
                self._say_alone(self._controller.request)
            elif isinstance(result, ModeThumbnails):
                self._mode_thumbnails = result
                self._show_thumbnails()
            else:
                self.show_result(result)

    def _say_alone(self, request: Request | None) -> None:
        """Say whether the pictures leave out an MRF that refines the segmentation."""
        shown = self._exploration
        if shown is not None and request is not None:
            is_refined = self._thumbnails is not None and self._thumbnails.refined
            is_alone = request.controls.is_coupled and not is_refined
            has_prior = shown.prior is not None or request.controls.cuts
            self.strip.say_alone(has_prior=has_prior, is_alone=is_alone)
            self.show_panel.show_request(request, has_prior=has_prior)
            self.hypotheses.show_request(request)

    def _show_thumbnails(self, _event: object = None) -> None:
        shown = self._exploration
        if shown is None:
            return
        place = (self._viewer.dims, shown.image, shown.layer, shown.region)
        if self._thumbnails is not None:
            self.strip.set_samples(*pictures_of(self._thumbnails, *place))
        if self._mode_thumbnails is not None:
            self.hypotheses.show_slices(*pictures_of(self._mode_thumbnails, *place))

    def _watch_contrast(self, exploration: Exploration | None) -> None:
        """Draw thumbnails again when the contrast of their image changes."""
        if self._contrast is not None:
            self._contrast.disconnect(self._show_thumbnails)
        self._contrast = None if exploration is None else exploration.layer.events.contrast_limits
        if self._contrast is not None:
            self._contrast.connect(self._show_thumbnails)


# As the manifest calls it. napari looks for the viewer among the parameters of a class, not of
# a function.
make_explore_widget = ExploreWidget
