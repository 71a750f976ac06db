"""One image's distribution while it is looked at: its engine, its layers, and what it answers.

Over 300 lines, half of them what is asked of it: engine, painter and layers of one image live and
end together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from napari.components import ViewerModel
from napari.layers import Image as ImageLayer

from napari_structseg.controls import Controls
from napari_structseg.devices import free_memory
from napari_structseg.distributions import LogitDistribution, whole
from napari_structseg.errors import InputError
from napari_structseg.image import Image
from napari_structseg.memory import check_memory
from napari_structseg.models import ClassSpec
from napari_structseg.prediction.other_prior import OtherPrior, open_prior
from napari_structseg.prediction.region_of_interest import embedded, image_inside
from napari_structseg.prediction.specs import MapSpec
from napari_structseg.refine.changes import Changes
from napari_structseg.refine.refinement import refinement_bytes
from napari_structseg.session.engine import Engine
from napari_structseg.session.messages import Request, Result, SliceLabels
from napari_structseg.session.placement import view_inside
from napari_structseg.session.resolve import Scene
from napari_structseg.session.runner import ModelRun, RunOutcome
from napari_structseg.session.unsaved import Unsaved
from napari_structseg.widgets.threads.at_exit import rest_at_exit
from napari_structseg.widgets.threads.inbox import Inbox
from napari_structseg.widgets.viewer.layers import ResultLayers
from napari_structseg.widgets.viewer.painter import Painter
from napari_structseg.widgets.viewer.pictures import THUMBNAIL_SIZE
from napari_structseg.widgets.viewer.viewing import current_view

# A slice is mostly there before this. Waiting for it lets the moved slider and the slice be
# painted together: with OpenGL in the window, Qt composes all of it for every repaint.
_PATIENCE_SECONDS = 0.015


class Exploration:
    """Asks an engine for what the user wants to see, and paints what comes back.

    Parameters
    ----------
    viewer
        Where it is painted.
    run
        Where the distribution came from; None: it was handed over.
    outcome
        What the run gave.
    image, layer
        What it ran on.
    layers
        To paint on.
    is_complete
        Whether the run has finished; else only the visible slice is shown.
    """

    def __init__(  # noqa: PLR0917 -- what the dock has when a run gives something
        self,
        viewer: ViewerModel,
        run: ModelRun | None,
        outcome: RunOutcome,
        image: Image,
        layer: ImageLayer,
        layers: ResultLayers,
        *,
        is_complete: bool,
    ) -> None:
        self._viewer = viewer
        self.run = run
        self.given = self.spec = outcome.spec
        self.image = image
        self.region = whole(image.spatial_shape) if outcome.region is None else outcome.region
        self._is_part = outcome.region is not None
        self.layer = layer
        self.layers = layers
        self._own_prior = outcome.prior
        self.path = outcome.path
        self.is_complete = is_complete
        self.domain = outcome.domain
        self.other_prior: OtherPrior | None = None
        self.prior = outcome.prior
        self.is_stochastic = outcome.distribution.is_stochastic
        self.engine = self._make_engine(outcome.distribution)
        self._painter = Painter(layers, outcome.region)
        self._asked: Request | None = None
        # What was asked for last, also while nothing is painted.
        self.wanted: Request | None = None
        self.unsaved = Unsaved()
        # The sliders as they were left when something else was shown in its place.
        self.left_with: Controls | None = None
        # What was handed to napari last, to be saved.
        self._handed: Request | None = None
        # None stands for: nothing more to come.
        self._results: Inbox[Result | None] | None = None
        self._errors: Inbox[Exception] | None = None

    @property
    def device(self) -> torch.device:
        """Where its distribution lives."""
        return self.engine.distribution.device

    @property
    def iterations(self) -> int | None:
        """How many iterations the prior is used with; None: there is no prior."""
        if self.other_prior is not None:
            return self.other_prior.iterations
        return None if self.spec.prior is None else self.spec.prior.iterations

    @property
    def prior_model(self) -> str | None:
        """The other model whose prior is used; None: the model's own, if it has one."""
        return None if self.other_prior is None else self.other_prior.model

    def open_prior(self, model: str) -> OtherPrior:
        """Read the prior of another model, see :func:`open_prior`; from any thread but the main."""
        return open_prior(model, self.spec, self.engine.distribution.device)

    def take_prior(self, other: OtherPrior | None) -> None:
        """Refine with another model's prior, or with the model's own; it has to be started again.

        A probability map takes the names of the prior's classes.

        Parameters
        ----------
        other
            It was read with :meth:`open_prior`. None: the model's own prior, if it has one.

        Raises
        ------
        MemoryLimitError
            If what mean field computes would not fit into memory. Nothing has changed then.
        """
        prior = self._own_prior
        if other is not None:
            distribution = self.engine.distribution
            prior = other.on(self.image)
            check_memory(
                refinement_bytes(self.spec.n_classes, distribution.spatial_shape),
                f"Refining the segmentation of {self.image.name!r}",
                free_memory(distribution.device),
            )
        self.stop()
        self.other_prior, self.prior = other, prior
        if other is not None and isinstance(self.spec, MapSpec):
            self.spec = replace(self.spec, classes=other.spec.classes)
        self.engine.close()
        self.engine = self._make_engine(self.engine.distribution)
        self._painter.forget()

    def take_names(self, classes: tuple[ClassSpec, ...]) -> None:
        """Call the classes of maps what the prior's model calls them."""
        if isinstance(self.spec, MapSpec):
            self.spec = replace(self.spec, classes=classes)

    def start(
        self,
        receive: Callable[[Sequence[Result]], None],
        fail: Callable[[Exception], None],
        rest: Callable[[], None],
    ) -> None:
        """Listen to the engine.

        Parameters
        ----------
        receive
            Called in the main thread with results, after what belongs on layers is there.
        fail
            Called in the main thread with an error.
        rest
            Called in the main thread when everything asked for is there.
        """

        def handle(items: Sequence[Result | None]) -> None:
            results = [item for item in items if item is not None]
            self._painter.paint(results)
            receive(results)
            if items[-1] is None:
                self.layers.refresh_thumbnail()
                rest()

        self.layers.segmentation.whole = self.whole_labels
        self.layers.segmentation.saved = self._on_saved
        self._results = Inbox(handle)
        self._errors = Inbox(lambda errors: fail(errors[-1]))
        self.engine.result.connect(self._results.put)
        self.engine.idle.connect(self._on_idle)
        self.engine.failed.connect(self._errors.put)

    def stop(self) -> None:
        """Paint nothing more, until started again; then everything."""
        if self._results is not None and self._errors is not None:
            self.engine.result.disconnect(self._results.put)
            self.engine.idle.disconnect(self._on_idle)
            self.engine.failed.disconnect(self._errors.put)
            self._results.close()
            self._errors.close()
        self._results = self._errors = None
        self._asked = None
        self.engine.invalidate()

    def whole_labels(self) -> npt.NDArray[np.uint8] | None:
        """Wait for all labels that are chosen, on the image, ``(*spatial)``; None: none were yet.

        Raises
        ------
        InputError
            If the model has not segmented the whole image yet.
        """
        if self.wanted is None:
            return None
        if not self.is_complete:
            raise InputError(
                f"The model has not segmented all of {self.image.name!r} yet. Save or duplicate "
                "the segmentation when the run has finished."
            )
        self._handed = self.wanted
        return self.on_image(self.engine.whole_labels(self.wanted).result())

    def on_image(self, labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Labels of what was segmented, where it lies in the image."""
        placed: npt.NDArray[np.uint8] = embedded(labels, self.region, self.image.spatial_shape)
        return placed

    def close(self) -> None:
        """Stop for good, without waiting for the worker."""
        self.stop()
        self.let_go_of_layers()
        self.engine.close()

    def let_go_of_layers(self) -> None:
        """Leave the labels layer to napari, as it is."""
        segmentation = self.layers.segmentation
        if segmentation.whole == self.whole_labels:
            segmentation.whole = segmentation.saved = None

    @property
    def scene(self) -> Scene:
        """What there is to look at now."""
        distribution, view = self.engine.distribution, current_view(self._viewer.dims, self.layer)
        return Scene(
            view_inside(view, self.region) if self._is_part else view,
            n_classes=distribution.n_classes,
            is_stochastic=self.is_stochastic,
            n_latents=distribution.n_latents,
            n_coordinates=distribution.n_coordinates,
            has_prior=self.prior is not None,
            thumbnail_size=THUMBNAIL_SIZE,
            region=self.region if self._is_part else None,
            shape=self.image.spatial_shape,
        )

    def look(self, request: Request, *, restore: bool) -> None:
        """Ask for a picture.

        Parameters
        ----------
        request
            What the state asks for, in this scene.
        restore
            Whether layers that the user deleted come back.
        """
        self.wanted = request
        self.unsaved.note_first(request, self.prior_model)
        self.layers.show(request.show, restore=restore)
        self.layers.mark_changes(request.changes is not Changes.NONE, restore=restore)
        if self._results is None or request == self._asked:
            return
        self._asked = request
        generation = self.engine.request(request)
        self._painter.expect(generation, request)
        self._results.wait(
            _PATIENCE_SECONDS,
            lambda one: isinstance(one, SliceLabels) and one.generation >= generation,
        )

    @property
    def is_unsaved(self) -> bool:
        """Whether a labelling was chosen by hand that is in no file, see :class:`Unsaved`."""
        wanted = self.wanted
        return wanted is not None and self.unsaved.holds(wanted, self.prior_model)

    @property
    def is_painted(self) -> bool:
        """Whether the layer holds all labels that were asked for last."""
        return self.wanted is not None and self._painter.is_whole(self.wanted)

    def is_of_same_source(self, other: Exploration) -> bool:
        """Whether both come from the same model, asked the same of the same image."""
        runs = self.run, other.run
        if self.layer is not other.layer or None in runs:
            return False
        mine, its = (
            (run.model, run.roi, run.window, run.precision, run.members_as, run.augment)
            for run in runs
            if run is not None
        )
        return mine == its and self.given == other.given

    def is_in_view(self) -> bool:
        """Whether the viewer shows any of what was segmented."""
        view = current_view(self._viewer.dims, self.layer)
        if view.volume or len(self.region) == 2:
            return True
        part = self.region[view.axis]
        return bool(part.start <= view.position < part.stop)

    def is_busy(self) -> bool:
        """Whether anything is still to be computed or painted."""
        inboxes = [inbox for inbox in (self._results, self._errors) if inbox is not None]
        return not (self.engine.is_idle() and all(inbox.is_empty() for inbox in inboxes))

    def _make_engine(self, distribution: LogitDistribution) -> Engine:
        engine = Engine(
            distribution,
            self.image.voxel_volume_ml,
            prior=self.prior,
            spacing=self.image.spacing,
            image=image_inside(self.image, self.region if self._is_part else None),
            slice_only=not self.is_complete,
        )
        rest_at_exit(engine)
        return engine

    def _on_idle(self) -> None:
        """Queue that in the worker's thread, after its results."""
        if self._results is not None:
            self._results.put(None)

    def note_saved(self, request: Request, prior_model: str | None) -> None:
        """Remember that a file holds the labels of a request; see :class:`Unsaved`."""
        self.unsaved.note_saved(request, prior_model)

    def _on_saved(self) -> None:
        if self._handed is not None:
            self.note_saved(self._handed, self.prior_model)
