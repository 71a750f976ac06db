"""The plugin's own layers: few, named for what they show, and updated in place."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from napari.components import ViewerModel
from napari.layers import Image as ImageLayer
from napari.layers import Layer

from napari_structseg.distributions import Region
from napari_structseg.geometry import Geometry
from napari_structseg.image import Image
from napari_structseg.models import ClassSpec
from napari_structseg.session.messages import (
    ChangedLabels,
    Lines,
    LineSet,
    MapRegion,
    Show,
    SlabLabels,
    View,
)
from napari_structseg.widgets.parts.colors import (
    display_name,
    label_colormap,
    label_colors,
    uncertainty_colormap,
)
from napari_structseg.widgets.viewer.layer_making import LayerMaking
from napari_structseg.widgets.viewer.line_mesh import write_lines

# 3-D pictures are redrawn as a whole, which takes long; not more often than this while they fill.
_REDRAW_SECONDS = 0.2


class ResultLayers:
    """The layers that show what a model makes of one image.

    They are made once for an image. The user may delete any: it keeps being written to, and
    :meth:`show` brings it back, whole, when it is asked for.

    Parameters
    ----------
    viewer
        Where they go. Nothing in it is changed but these layers.
    beside
        The image layer; they are placed above it, with its transforms.
    classes
        Of the model, in label order.
    geometry
        Of the image, for saving.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        beside: Layer,
        classes: Sequence[ClassSpec],
        geometry: Geometry,
    ) -> None:
        self._viewer = viewer
        self.beside = beside
        self._geometry = geometry
        self._making = LayerMaking(beside, geometry)
        self.segmentation = self._making.segmentation()
        self.uncertainty = self._making.uncertainty()
        self.lines = self._making.lines()
        # Made when it is first wanted.
        self.changes: ImageLayer | None = None
        self._changed_in: Region | None = None
        self._showing: Show | None = None
        self._is_marking = False
        self._redrawn = 0.0
        self._hidden: tuple[Layer, ...] = ()
        self._opacities: tuple[float, ...] = ()
        self._line_sets: tuple[LineSet, ...] = ()
        self.set_classes(classes)

    @property
    def all(self) -> tuple[Layer, ...]:
        """The layers, from the bottom up."""
        marks = () if self.changes is None else (self.changes,)
        return (self.uncertainty, self.segmentation, *marks, self.lines)

    @property
    def pictured(self) -> tuple[Layer, ...]:
        """Those that are shown by what is chosen, whether the user has hidden them or not."""
        marks = (self.changes,) if self.changes is not None and self._is_marking else ()
        return (() if self._showing is None else (self._layer_of(self._showing),)) + marks

    def fit(self, layer: Layer, image: Image) -> bool:
        """Whether they can show another result on a layer."""
        known = self._geometry
        is_as_large = known.has_spacing == image.has_spacing and known.spacing == image.spacing
        has_shape = self.segmentation.data.shape == image.spatial_shape
        return self.beside is layer and has_shape and is_as_large

    def set_classes(self, classes: Sequence[ClassSpec]) -> None:
        """Take the colours of a model's classes, and empty the layers."""
        self._colors = label_colors(classes)
        self._opacities = (1.0,) * len(classes)
        self._color_labels()
        # napari's status bar says it at the pointer.
        self.segmentation.features = {"class": [display_name(one) for one in classes]}
        self._entropy_max = math.log(len(classes))
        self.segmentation.data[:] = 0
        self.segmentation.refresh(extent=False, highlight=False)
        self.uncertainty.data[:] = 0
        self._line_sets = ()
        write_lines(self.lines, (), self._colors)
        if self.changes is not None:
            self.changes.data[:] = 0
            _repaint(self.changes)
        self._showing = None
        self._map: Show | None = None

    def set_opacities(self, opacities: Sequence[float]) -> None:
        """Draw each class so opaque, in labels, outlines and contours; no label changes.

        Parameters
        ----------
        opacities
            In label order, each from 0, which hides it, to 1.
        """
        if tuple(opacities) == self._opacities:
            return
        self._opacities = tuple(opacities)
        self._color_labels()
        write_lines(self.lines, self._line_sets, self._colors, self._opacities)

    def show(self, show: Show, *, restore: bool) -> None:
        """Show one kind of result: its layer is visible, the others are hidden.

        Visibility changes only with `show`, so that what the user hides stays hidden.

        Parameters
        ----------
        show
            What to show.
        restore
            Whether a layer that the user deleted comes back.
        """
        wanted = self._layer_of(show)
        is_new = show is not self._showing
        if wanted not in self._viewer.layers and (restore or is_new):
            self._add(wanted)
        if not is_new:
            return
        self._showing = show
        if wanted is self.uncertainty and show is not self._map:
            self._map = show
            is_agreement = show is Show.AGREEMENT
            self.uncertainty.data[:] = 1 if is_agreement else 0
            self.uncertainty.colormap = uncertainty_colormap(inverted=is_agreement)
            self.uncertainty.contrast_limits = (0, 1 if is_agreement else self._entropy_max)
        for layer in self.all:
            if layer is not self.changes:
                layer.visible = layer is wanted

    def mark_changes(self, is_wanted: bool, *, restore: bool) -> None:
        """Show or hide the marks of labels that an MRF has changed."""
        if self.changes is None:
            if not is_wanted:
                return
            self.changes = self._making.changes()
        is_new = is_wanted and not self._is_marking
        if is_wanted and self.changes not in self._viewer.layers and (restore or is_new):
            self._add(self.changes)
        if is_wanted != self._is_marking:
            self._is_marking = is_wanted
            self.changes.visible = is_wanted

    def remove(self) -> None:
        """Take the layers out of the viewer."""
        for layer in self.all:
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)

    def hide(self) -> None:
        """Hide all layers, until they are brought back."""
        self._hidden = tuple(layer for layer in self.all if layer.visible)
        for layer in self._hidden:
            layer.visible = False

    def bring_back(self) -> None:
        """Show again what was hidden last."""
        for layer in self._hidden:
            layer.visible = True
        self._hidden = ()

    def write_slice(self, region: Region, labels: npt.NDArray[np.uint8]) -> None:
        """Labels of the visible slice."""
        self.segmentation.data[region] = labels
        _repaint(self.segmentation)

    def write_slab(self, result: SlabLabels, view: View) -> None:
        """Labels of a part of the volume; painted only where it changes the picture."""
        region, labels = result.region, result.labels
        data = self.segmentation.data
        if view.volume:
            data[region] = labels
            self._repaint_volume(self.segmentation, is_last=result.done == result.total)
            return
        seen = _intersection(region, view.region(data.shape))
        if seen is None:
            data[region] = labels
            return
        before = data[seen].copy()
        data[region] = labels
        if not np.array_equal(before, data[seen]):
            _repaint(self.segmentation)

    def write_map(self, result: MapRegion, view: View) -> None:
        """Entropy or agreement of a region."""
        if result.show is not self._map:
            return
        self.uncertainty.data[result.region] = result.values
        if view.volume and result.done:
            self._repaint_volume(self.uncertainty, is_last=result.done == result.total)
        else:
            _repaint(self.uncertainty)

    def write_changes(self, result: ChangedLabels) -> None:
        """Marks of the visible region; those elsewhere are of another time and go."""
        if self.changes is None:
            return
        if self._changed_in is not None and self._changed_in != result.region:
            self.changes.data[self._changed_in] = 0
        self._changed_in = result.region
        self.changes.data[result.region] = result.changed
        _repaint(self.changes)

    def write_lines(self, result: Lines) -> None:
        """Outlines or contours of the visible slice."""
        self._line_sets = tuple(result.sets)
        write_lines(self.lines, self._line_sets, self._colors, self._opacities)

    def refresh_thumbnail(self) -> None:
        """Draw the visible layer's icon in the layer list: for when there is time."""
        if self._showing is not None:
            layer = self._layer_of(self._showing)
            layer.refresh(data_displayed=False, extent=False, highlight=False)

    def _color_labels(self) -> None:
        self.segmentation.colormap = label_colormap(self._colors, self._opacities)

    def _layer_of(self, show: Show) -> Layer:
        if show is Show.LABELS:
            return self.segmentation
        return self.lines if show in (Show.OUTLINES, Show.CONTOURS) else self.uncertainty

    def _add(self, layer: Layer) -> None:
        """Put a layer above the image and those of ours that belong below it."""
        layers = self._viewer.layers
        if self.beside not in layers:
            # Without the image there is nothing to show it over.
            return
        selected, active = set(layers.selection), layers.selection.active
        below = (self.beside, *self.all[: self.all.index(layer)])
        layers.insert(1 + max(layers.index(one) for one in below if one in layers), layer)
        # napari selects what is added; the selection is the user's.
        layers.selection.clear()
        layers.selection.update(selected)
        layers.selection.active = active

    def _repaint_volume(self, layer: Layer, *, is_last: bool) -> None:
        now = time.monotonic()
        if is_last or now - self._redrawn > _REDRAW_SECONDS:
            self._redrawn = now
            _repaint(layer)


def _repaint(layer: Layer) -> None:
    """Draw what changed in place: no more than napari has to do."""
    layer.refresh(extent=False, thumbnail=False, highlight=False)


def _intersection(one: Region, other: Region) -> Region | None:
    """The region that two regions have in common; None if there is none."""
    common = tuple(
        slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(one, other, strict=True)
    )
    return common if all(part.start < part.stop for part in common) else None
