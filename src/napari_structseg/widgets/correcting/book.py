"""What belongs to one image and one set of classes: the user's own result, strokes, layers."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from napari.components import ViewerModel
from napari.layers import Image as ImageLayer
from napari.layers import Layer

from napari_structseg.correction.actions import Correction
from napari_structseg.correction.entries import Entry
from napari_structseg.correction.said import Said
from napari_structseg.distributions import Strokes
from napari_structseg.image import Image
from napari_structseg.models import ClassSpec
from napari_structseg.session.messages import Request
from napari_structseg.widgets.exploration import Exploration
from napari_structseg.widgets.parts.colors import display_name
from napari_structseg.widgets.viewer.layer_making import LayerMaking
from napari_structseg.widgets.viewer.painted import Labels, Values, Voxels

Accepted = tuple[Entry | None, Request, str | None]


@dataclass(eq=False, slots=True)
class Book:
    """Kept as long as the image is: it comes back with it, and with a model of the same classes.

    Attributes
    ----------
    image_layer
        Which image.
    image
        What the layer shows.
    classes
        What labels mean.
    correction
        The result, the strokes, and their history.
    strokes
        As they are in the layer now, also while the brush still moves.
    told
        As they were when an action on them was last told of.
    strokes_ahead, paint_ahead
        Actions on the strokes, and paint on the result, that are seen but not done yet.
    accepted
        Labellings that were accepted as a whole: which action that was (None: the result was so
        already), what was asked for, and the other model whose MRF refined it.
    strokes_layer, result_layer, region_layer
        None: not made yet, or deleted.
    hidden
        Those that were seen when something else was shown in their place.
    """

    image_layer: ImageLayer
    image: Image
    classes: tuple[ClassSpec, ...]
    correction: Correction
    strokes: Strokes
    told: Strokes
    strokes_ahead: deque[Said] = field(default_factory=deque)
    paint_ahead: deque[tuple[Voxels, Values]] = field(default_factory=deque)
    accepted: list[Accepted] = field(default_factory=list)
    strokes_layer: Labels | None = None
    result_layer: Labels | None = None
    region_layer: Labels | None = None
    hidden: tuple[Labels, ...] = ()

    @classmethod
    def of(cls, image_layer: ImageLayer, image: Image, classes: tuple[ClassSpec, ...]) -> Book:
        """An empty one."""
        shape = image.spatial_shape
        correction = Correction(shape, len(classes))
        none = Strokes.none(shape)
        return cls(image_layer, image, classes, correction, none, none)

    def is_for(self, exploration: Exploration) -> bool:
        """Whether it belongs to what is shown: labels mean the same there."""
        is_as_large = self.strokes.shape == exploration.image.spatial_shape
        return is_as_large and self.is_of(exploration.layer, exploration.spec.classes)

    def is_of(self, image_layer: ImageLayer, classes: tuple[ClassSpec, ...]) -> bool:
        """Whether it belongs to an image, and to classes of these names."""
        names = [one.name for one in classes]
        return self.image_layer is image_layer and [one.name for one in self.classes] == names

    def like(self, exploration: Exploration | None) -> Layer:
        """A layer that lies as those of the book have to, and is saved on the grid of the image.

        Parameters
        ----------
        exploration
            What is shown of the image; None: no model was run on it.
        """
        if exploration is not None:
            return exploration.layers.segmentation
        return LayerMaking(self.image_layer, self.image.geometry).segmentation()

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


def layers_below(book: Book, exploration: Exploration | None) -> tuple[Layer, ...]:
    """The image, and what a model has made of it: layers of the book go above these."""
    return (book.image_layer, *(() if exploration is None else exploration.layers.all))
