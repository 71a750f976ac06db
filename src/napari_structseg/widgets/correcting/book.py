"""What belongs to one image and one set of classes: the user's own result, strokes, layers."""

from __future__ import annotations

from dataclasses import dataclass

from napari.components import ViewerModel
from napari.layers import Image as ImageLayer

from napari_structseg.correction.actions import Correction
from napari_structseg.distributions import Strokes
from napari_structseg.models import ClassSpec
from napari_structseg.widgets.exploration import Exploration
from napari_structseg.widgets.parts.colors import display_name
from napari_structseg.widgets.viewer.painted import Labels


@dataclass(eq=False, slots=True)
class Book:
    """Kept as long as the image is: it comes back with it, and with a model of the same classes.

    Attributes
    ----------
    image_layer
        Which image.
    classes
        What labels mean.
    correction
        The result, the strokes, and their history.
    strokes
        As they are in the layer now, also while the brush still moves.
    strokes_layer, result_layer, region_layer
        None: not made yet, or deleted.
    hidden
        Those that were seen when something else was shown in their place.
    """

    image_layer: ImageLayer
    classes: tuple[ClassSpec, ...]
    correction: Correction
    strokes: Strokes
    strokes_layer: Labels | None = None
    result_layer: Labels | None = None
    region_layer: Labels | None = None
    hidden: tuple[Labels, ...] = ()

    @classmethod
    def of(cls, exploration: Exploration) -> Book:
        """An empty one."""
        shape, classes = exploration.image.spatial_shape, exploration.spec.classes
        return cls(exploration.layer, classes, Correction(shape, len(classes)), Strokes.none(shape))

    def is_for(self, exploration: Exploration) -> bool:
        """Whether it belongs to what is shown: labels mean the same there."""
        names = [one.name for one in exploration.spec.classes]
        return (
            self.image_layer is exploration.layer
            and self.strokes.shape == exploration.image.spatial_shape
            and [one.name for one in self.classes] == names
        )

    @property
    def layers(self) -> tuple[Labels, ...]:
        """Those that were made, from the bottom up."""
        made = (self.result_layer, self.region_layer, self.strokes_layer)
        return tuple(layer for layer in made if layer is not None)

    def class_name(self, label: int) -> str:
        """As the dock writes it."""
        return display_name(self.classes[label])

    def hide(self) -> None:
        """Hide the layers, until :meth:`bring_back`."""
        self.hidden = tuple(layer for layer in self.layers if layer.visible)
        for layer in self.hidden:
            layer.visible = False

    def bring_back(self) -> None:
        """Show what was hidden."""
        for layer in self.hidden:
            layer.visible = True
        self.hidden = ()

    def forget_deleted(self, viewer: ViewerModel) -> None:
        """Let go of layers that the user has deleted."""
        for name in ("strokes_layer", "result_layer", "region_layer"):
            if getattr(self, name) is not None and getattr(self, name) not in viewer.layers:
                setattr(self, name, None)
