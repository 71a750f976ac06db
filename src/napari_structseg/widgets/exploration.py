"""One image's distribution while it is looked at: its engine, its layers, and what it answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import compress

import numpy as np
import numpy.typing as npt
from napari.components import ViewerModel
from napari.layers import Image as ImageLayer

from napari_structseg.controls import Controls
from napari_structseg.devices import free_memory
from napari_structseg.distributions import LogitDistribution, region_shape, whole
from napari_structseg.image import Image
from napari_structseg.memory import check_memory
from napari_structseg.models import ModelSpec
from napari_structseg.prediction.other_prior import OtherPrior, open_prior
from napari_structseg.prediction.specs import MapSpec, Spec
from napari_structseg.refine.changes import Changes
from napari_structseg.refine.refinement import refinement_bytes
from napari_structseg.session.engine import Engine
from napari_structseg.session.messages import (
    ChangedLabels,
    Lines,
    MapRegion,
    Modes,
    ModeThumbnails,
    Request,
    Result,
    Show,
    SlabLabels,
    SliceLabels,
    Thumbnails,
)
from napari_structseg.session.placement import placed, view_inside, view_outside
from napari_structseg.session.runner import ModelRun, RunOutcome
from napari_structseg.widgets.panels.sample_strip import THUMBNAIL_SIZE
from napari_structseg.widgets.parts.class_row import Measure
from napari_structseg.widgets.threads.at_exit import rest_at_exit
from napari_structseg.widgets.threads.inbox import Inbox
from napari_structseg.widgets.viewer.layers import ResultLayers
from napari_structseg.widgets.viewer.viewing import (
    current_view,
    grey_picture,
    has_size,
    is_transposed,
)

Picture = npt.NDArray[np.uint8]

N_OUTLINES = 5
_LINES = (Show.OUTLINES, Show.CONTOURS)
# A slice is mostly there before this. Waiting for it lets the moved slider and the slice be
# painted together: with OpenGL in the window, Qt composes all of it for every repaint.
_PATIENCE_SECONDS = 0.015


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the panels say should be seen.

    Attributes
    ----------
    controls
        The sliders.
    show
        What to show.
    n_thumbnails
        How many samples the strip has.
    changes
        Which labels that the prior changed are marked.
    stop_when_converged
        Run the prior no further than until it has converged.
    modes
        How many modes the samples are grouped into.
    """

    controls: Controls
    show: Show
    n_thumbnails: int
    changes: Changes = Changes.NONE
    stop_when_converged: bool = False
    modes: Modes = Modes.NONE


class Exploration:
    """Asks an engine for what the user wants to see, and paints what comes back.

    Parameters
    ----------
    viewer
        Where it is painted.
    run
        Where the distribution came from.
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
        run: ModelRun,
        outcome: RunOutcome,
        image: Image,
        layer: ImageLayer,
        layers: ResultLayers,
        *,
        is_complete: bool,
    ) -> None:
        self._viewer = viewer
        self.run = run
        self._given = self.spec = outcome.spec
        self.image = image
        self.region = whole(image.spatial_shape) if outcome.region is None else outcome.region
        self.layer = layer
        self.layers = layers
        self._own_prior = outcome.prior
        self._is_complete = is_complete
        self.other_prior: OtherPrior | None = None
        self.prior = outcome.prior
        self.is_stochastic = outcome.distribution.is_stochastic
        self.engine = self._make_engine(outcome.distribution)
        # Those that results are still to come for.
        self._requests: dict[int, Request] = {}
        # None stands for: nothing more to come.
        self._results: Inbox[Result | None] | None = None
        self._errors: Inbox[Exception] | None = None

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

    def use_prior(self, model: str | None) -> None:
        """Refine with another model's prior, or with the model's own; it has to be started again.

        A probability map takes the names of the prior's classes.

        Parameters
        ----------
        model
            Name of a shipped model, or a file; None: the model's own prior, if it has one.

        Raises
        ------
        ConfigError
            If the model has no prior, or one for other classes or dimensions.
        WeightsError
            If the model cannot be used.
        MemoryLimitError
            If what mean field computes would not fit into memory. Nothing has changed then, as
            after every error.
        """
        other, prior = None, self._own_prior
        if model is not None:
            distribution = self.engine.distribution
            other = open_prior(model, self.spec, distribution.device)
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
        self._requests.clear()

    def goes_on_from(self, old: Exploration) -> bool:
        """Whether another one was of the same model or maps, so that its choices are still good."""
        return are_alike(self._given, old._given)

    def take_names(self, old: Exploration) -> None:
        """Call the classes what they are called in another exploration of the same maps."""
        if isinstance(self.spec, MapSpec):
            self.spec = replace(self.spec, classes=old.spec.classes)

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
            self._paint(results)
            receive(results)
            if items[-1] is None:
                self.layers.refresh_thumbnail()
                rest()

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
        self.engine.invalidate()

    def close(self) -> None:
        """Stop for good, without waiting for the worker."""
        self.stop()
        self.engine.close()

    def look(self, wanted: Wanted, *, restore: bool) -> Show:
        """Ask for a picture.

        Parameters
        ----------
        wanted
            What the panels say; lines are drawn on slices only, and are labels in 3-D.
        restore
            Whether layers that the user deleted come back.

        Returns
        -------
        Show
            What is shown.
        """
        view = view_inside(current_view(self._viewer.dims, self.layer), self.region)
        show = wanted.show
        if view.volume and show in _LINES:
            show = Show.LABELS
        self.layers.show(show, restore=restore)
        changes = Changes.NONE
        if show is Show.LABELS and wanted.controls.refines:
            changes = wanted.changes
        self.layers.mark_changes(changes is not Changes.NONE, restore=restore)
        request = Request(
            wanted.controls,
            view,
            show,
            changes=changes,
            stop_when_converged=wanted.stop_when_converged,
            n_outlines=N_OUTLINES,
            n_thumbnails=wanted.n_thumbnails,
            thumbnail_size=THUMBNAIL_SIZE,
            modes=wanted.modes,
        )
        generation = self.engine.request(request)
        self._requests[generation] = request
        if self._results is not None:
            self._results.wait(_PATIENCE_SECONDS)
        return show

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

    @property
    def measure(self) -> Measure:
        """How sizes are written: in mL, or where what is segmented is a slice, in mm² or pixels."""
        sizes = region_shape(self.image.spatial_shape, self.region)
        is_thick = [size > 1 for size in sizes]
        if sum(is_thick) == 3:
            return Measure()
        if not has_size(self.layer):
            return Measure("px", 1 / self.image.voxel_volume_ml, "Area")
        area = math.prod(compress(self.image.spacing, is_thick))
        return Measure("mm²", area / self.image.voxel_volume_ml, "Area")

    def pictures_of(
        self, thumbnails: Thumbnails | ModeThumbnails
    ) -> tuple[dict[int, Picture], Picture, float]:
        """Thumbnails as the canvas shows their slice.

        Returns
        -------
        labels
            By sample, ``(h, w)``.
        grey
            The image, ``(h, w)``.
        aspect
            Width by height in mm.
        """
        dims, view = self._viewer.dims, view_outside(thumbnails.view, self.region)
        grey = grey_picture(self.layer, view, THUMBNAIL_SIZE, self.region)
        sizes = region_shape(self.image.spatial_shape, self.region)
        height, width = (self.image.spacing[axis] * sizes[axis] for axis in view.plane(len(sizes)))
        labels = dict(thumbnails.labels)
        if is_transposed(dims, self.layer, view):
            labels = {sample: one.T for sample, one in labels.items()}
            return labels, grey.T, height / width
        return labels, grey, width / height

    def _make_engine(self, distribution: LogitDistribution) -> Engine:
        engine = Engine(
            distribution,
            self.image.voxel_volume_ml,
            prior=self.prior,
            slice_only=not self._is_complete,
        )
        rest_at_exit(engine)
        return engine

    def _on_idle(self) -> None:
        """Queue that in the worker's thread, after its results."""
        if self._results is not None:
            self._results.put(None)

    def _paint(self, results: Sequence[Result]) -> None:
        """Write results into the layers."""
        newest = max((r.generation for r in results if isinstance(r, SliceLabels)), default=0)
        for own in results:
            result = placed(own, self.region)
            view = view_outside(self._requests[result.generation].view, self.region)
            if isinstance(result, SliceLabels):
                # Slices pile up only while the main thread is busy: one of them is enough.
                if result.generation == newest:
                    self.layers.write_slice(result.region, result.labels)
            elif isinstance(result, SlabLabels):
                self.layers.write_slab(result, view)
            elif isinstance(result, Lines):
                self.layers.write_lines(result)
            elif isinstance(result, MapRegion):
                self.layers.write_map(result, view)
            elif isinstance(result, ChangedLabels):
                self.layers.write_changes(result)
        if results:
            # Results come in the order of requests.
            for generation in [one for one in self._requests if one < results[-1].generation]:
                del self._requests[generation]


def are_alike(one: Spec, other: Spec) -> bool:
    """Whether two say the same of all but the window of intensities that a model is shown."""
    if isinstance(one, ModelSpec) and isinstance(other, ModelSpec):
        one = one.model_copy(update={"intensity": other.intensity})
    return one == other
