"""Places of the image: under the mouse, to look at, and what else they could be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
from napari.components import ViewerModel
from psygnal import Signal

from napari_structseg.errors import InputError
from napari_structseg.render.disputed import DisputedRegion
from napari_structseg.render.places import Place, component_at
from napari_structseg.session.messages import Disputed, HypothesesHere, RefinedProgress, Result
from napari_structseg.session.placement import placed
from napari_structseg.session.state import ExplorerState
from napari_structseg.widgets.exploration import Exploration
from napari_structseg.widgets.parts.refined_words import alone_in_words
from napari_structseg.widgets.threads.background import Background
from napari_structseg.widgets.viewer.picking import ClickPicker
from napari_structseg.widgets.viewer.viewing import current_view

Voxel = tuple[int, ...]

# A component that is longer is asked about around the click only: a click means a spot.
_LONGEST = 64
_AROUND = 12


class Places:
    """Knows where the mouse is, which regions are disputed, and which of them were reviewed.

    ``changed()`` is emitted when the list, the chosen region or what is waited for are others.

    Parameters
    ----------
    viewer
        Its slice moves only in :meth:`jump_to`.
    state
        Holds the place that is asked about.
    say, fail
        Called with what the user should know, and with what went wrong.
    """

    changed = Signal()

    def __init__(
        self,
        viewer: ViewerModel,
        state: ExplorerState,
        say: Callable[[str], object],
        fail: Callable[[Exception], object],
    ) -> None:
        self._viewer, self._state, self._say, self._fail = viewer, state, say, fail
        self._exploration: Exploration | None = None
        self.disputed: Disputed | None = None
        self.here: HypothesesHere | None = None
        self._progress: RefinedProgress | None = None
        self.chosen: int | None = None
        # One voxel of each region that was reviewed: regions are found again after each change.
        self._reviewed: list[Voxel] = []
        self._picker: ClickPicker | None = None
        self._picks_for: object = None
        self._looking: Background[Place] | None = None

    def is_picking(self, who: object) -> bool:
        """Whether a click is waited for, for whom."""
        return self._picker is not None and self._picks_for is who

    def is_busy(self) -> bool:
        """Whether a place is being found."""
        return self._looking is not None

    def open(self, exploration: Exploration | None, *, is_same: bool) -> None:
        """Look at what is shown; the same image, or another one."""
        self._exploration = exploration
        self.stop_picking()
        if not is_same:
            self.disputed = self.here = self.chosen = None
            self._reviewed.clear()
            self._state.correction.here = None
        self.changed.emit()

    def receive(self, results: Sequence[Result]) -> None:
        """Take what the engine has found."""
        shown = self._exploration
        found = [one for one in results if isinstance(one, Disputed | HypothesesHere)]
        if shown is None:
            return
        progress = [one for one in results if isinstance(one, RefinedProgress)]
        if progress:
            self._progress = progress[-1]
            self.changed.emit()
        for result in (placed(one, shown.region) for one in found):
            if isinstance(result, Disputed):
                before = self.region
                self.disputed = result
                self.chosen = None if before is None else self._near(before.centre)
                self.changed.emit()
            elif isinstance(result, HypothesesHere):
                self.here = result
                self.changed.emit()

    def alone_in_words(self, found: Disputed | HypothesesHere | None) -> str:
        """Say that what was found is of the model alone while an MRF refines; else empty."""
        request = None if self._exploration is None else self._exploration.wanted
        if found is None:
            return ""
        return alone_in_words(request, self._progress, is_refined=found.refined)

    @property
    def regions(self) -> tuple[DisputedRegion, ...]:
        """Disputed regions on the voxels of the image, the most disputed first."""
        return () if self.disputed is None else self.disputed.regions

    @property
    def region(self) -> DisputedRegion | None:
        """The one that was jumped to."""
        is_there = self.chosen is not None and self.chosen < len(self.regions)
        return self.regions[self.chosen] if is_there and self.chosen is not None else None

    def is_reviewed(self, region: DisputedRegion) -> bool:
        """Whether the user has marked it."""
        return any(_is_inside(voxel, region) for voxel in self._reviewed)

    def review(self, *, is_reviewed: bool = True) -> None:
        """Mark the region that was jumped to."""
        region = self.region
        if region is None:
            return
        self._reviewed = [one for one in self._reviewed if not _is_inside(one, region)]
        if is_reviewed:
            self._reviewed.append(region.centre)
        self.changed.emit()

    def step(self, distance: int) -> None:
        """Jump to the next disputed region that was not reviewed, around the ends."""
        n = len(self.regions)
        if "disputed" not in self._state.display.open_sections:
            self._state.display.fold("disputed", is_open=True)
            return
        start = self.chosen if self.chosen is not None else (-1 if distance > 0 else n)
        order = [(start + distance * step) % n for step in range(1, n + 1)] if n else []
        for index in order:
            if not self.is_reviewed(self.regions[index]):
                self.choose(index)
                return
        self._say("Every disputed region was reviewed" if n else "No disputed region is known yet")

    def choose(self, index: int) -> None:
        """Jump to one of the list."""
        self.chosen = index
        region = self.region
        if region is not None:
            self.jump_to(region.centre)
        self.changed.emit()

    def jump_to(self, voxel: Voxel) -> None:
        """Show the slice through a voxel, and move the camera only where it is out of sight."""
        shown = self._exploration
        if shown is None:
            return
        layer, viewer = shown.layer, self._viewer
        view = current_view(viewer.dims, layer)
        world = np.asarray(layer.data_to_world(voxel), dtype=np.float64)
        offset = viewer.dims.ndim - layer.ndim
        if layer.ndim == 3 and not view.volume:
            viewer.dims.set_point(view.axis + offset, float(world[view.axis]))
        low, high = np.asarray(layer.corner_pixels)
        plane = view.plane(layer.ndim) if not view.volume else range(layer.ndim)
        if any(not low[axis] <= voxel[axis] <= high[axis] for axis in plane):
            displayed = [axis - offset for axis in viewer.dims.displayed]
            centre = [float(world[axis]) for axis in displayed]
            camera = viewer.scene.camera
            camera.center = (*tuple(camera.center)[: 3 - len(centre)], *centre)

    def under_mouse(self) -> Voxel | None:
        """The voxel of the image that the mouse is over; None: it is beside it."""
        shown = self._exploration
        if shown is None or self._viewer.dims.ndisplay != 2:
            return None
        position = np.asarray(self._viewer.cursor.position, dtype=np.float64)
        index = np.asarray(shown.layer.world_to_data(position))[-shown.layer.ndim :]
        return self._checked(index)

    def pick(self, who: object, on_voxel: Callable[[Voxel], object], what: str) -> None:
        """Wait for a click on the image, for somebody, and say what for."""
        shown = self._exploration
        if shown is None:
            return
        self.stop_picking()

        def on_click(index: npt.NDArray[np.float64]) -> None:
            self.stop_picking()
            voxel = self._checked(index)
            if voxel is None:
                self._say("That is outside the image")
            else:
                on_voxel(voxel)

        self._picker = ClickPicker(self._viewer, shown.layer, on_click, self.stop_picking)
        self._picks_for = who
        self._say(f"Click on {what}, or press Escape")
        self.changed.emit()

    def stop_picking(self) -> None:
        """Wait no longer."""
        if self._picker is not None:
            self._picker.close()
            self._picker = self._picks_for = None
            self.changed.emit()

    def ask_here(self, voxel: Voxel, marked: npt.NDArray[np.bool_] | None = None) -> None:
        """Ask what else a place could be.

        Parameters
        ----------
        voxel
            In the place: the region that is marked there, else one that is disputed, else the
            component.
        marked
            The region that is marked, ``(*spatial)``.
        """
        shown = self._exploration
        if shown is None:
            return
        self._state.display.fold("here", is_open=True)
        disputed = next((one for one in self.regions if _is_inside(voxel, one)), None)
        labels = shown.layers.segmentation.data
        self._looking = Background(
            partial(_place_at, voxel, labels, marked, disputed), self._on_place
        )

    def ask_region(self, region: DisputedRegion) -> None:
        """Ask what else a disputed region could be."""
        self._state.display.fold("here", is_open=True)
        self._state.correction.here = region.place

    def close(self) -> None:
        """Let go of the viewer."""
        self.stop_picking()
        if self._looking is not None:
            self._looking.close()
        self._exploration = None

    def _on_place(self, place: Place | Exception) -> None:
        self._looking = None
        if isinstance(place, Exception):
            self._fail(place)
        elif self._exploration is not None:
            self._state.correction.here = place

    def _checked(self, index: npt.NDArray[np.float64]) -> Voxel | None:
        shown = self._exploration
        if shown is None or not np.isfinite(index).all():
            return None
        voxel = tuple(round(float(at)) for at in index)
        sizes = shown.image.spatial_shape
        is_inside = all(0 <= at < size for at, size in zip(voxel, sizes, strict=True))
        return voxel if is_inside else None

    def _near(self, voxel: Voxel) -> int | None:
        inside = (n for n, one in enumerate(self.regions) if _is_inside(voxel, one))
        return next(inside, None)


def _is_inside(voxel: Voxel, region: DisputedRegion) -> bool:
    return all(part.start <= at < part.stop for at, part in zip(voxel, region.box, strict=True))


def _place_at(
    voxel: Voxel,
    labels: npt.NDArray[np.uint8],
    marked: npt.NDArray[np.bool_] | None,
    disputed: DisputedRegion | None,
) -> Place:
    if marked is not None and marked[voxel]:
        place = Place.of_mask(marked)
        if place is None:
            raise InputError("Nothing is marked. Paint a region first.")
        return place
    if disputed is not None:
        return disputed.place
    around = tuple(
        slice(max(at - _LONGEST, 0), min(at + _LONGEST + 1, size))
        for at, size in zip(voxel, labels.shape, strict=True)
    )
    inner = tuple(at - part.start for at, part in zip(voxel, around, strict=True))
    place = component_at(labels[around], inner)
    if labels[voxel] and max(place.mask.shape) <= _LONGEST:
        starts = [part.start for part in around]
        region = tuple(
            slice(part.start + start, part.stop + start)
            for part, start in zip(place.region, starts, strict=True)
        )
        return Place(region, place.mask)
    return Place.of_region(
        tuple(
            slice(max(at - _AROUND, 0), min(at + _AROUND + 1, size))
            for at, size in zip(voxel, labels.shape, strict=True)
        )
    )
