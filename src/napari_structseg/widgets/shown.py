"""Showing a distribution that was not run here: one's own tensors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from napari.components import ViewerModel
from napari.layers import Image as ImageLayer
from napari.layers import Layer

from napari_structseg.distributions import LogitDistribution, SampledDistribution
from napari_structseg.errors import ConfigError, InputError
from napari_structseg.image import Image
from napari_structseg.models import ClassSpec
from napari_structseg.prediction.probabilities import unnamed_classes
from napari_structseg.prediction.specs import MapSpec
from napari_structseg.reader import image_layers
from napari_structseg.session.runner import RunOutcome
from napari_structseg.widgets.controller import Controller
from napari_structseg.widgets.exploration import Exploration
from napari_structseg.widgets.viewer.layers import ResultLayers
from napari_structseg.widgets.viewer.sources import source_layers
from napari_structseg.widgets.viewer.viewing import image_of_layer


def layer_for(viewer: ViewerModel, image: ImageLayer | Image | str) -> ImageLayer:
    """The layer that shows an image; one is added if there is none.

    Raises
    ------
    InputError
        If there is no such layer.
    """
    if isinstance(image, Image):
        layers = [Layer.create(*data) for data in image_layers(image)]
        for layer in layers:
            viewer.add_layer(layer)
        image = layers[0].name
    name = image if isinstance(image, str) else image.name
    found = next((layer for layer in source_layers(viewer) if layer.name == name), None)
    if found is None:
        raise InputError(f"An image layer of the viewer was expected, but {name!r} is none.")
    return found


def show_distribution(
    controller: Controller,
    distribution: LogitDistribution,
    layer: ImageLayer,
    classes: Sequence[ClassSpec | str] | None,
    name: str,
    *,
    replace: bool,
) -> None:
    """Explore a distribution on a layer, see `Explorer.show_distribution`.

    Raises
    ------
    ConfigError
        If there are more or fewer classes than the distribution has.
    InputError
        If it does not fit the layer.
    """
    image = image_of_layer(layer)
    if tuple(distribution.spatial_shape) != image.spatial_shape:
        raise InputError(
            f"A distribution on the grid of {layer.name!r} was expected, {image.spatial_shape}, "
            f"but it has the shape {tuple(distribution.spatial_shape)}. Axes go in the order of "
            "the layer's data."
        )
    n_classes = distribution.n_classes
    unnamed = unnamed_classes(n_classes)
    given = unnamed if classes is None else tuple(classes)
    if len(given) != n_classes:
        raise ConfigError(
            f"{n_classes} classes were expected, one for each of the distribution, but "
            f"{len(given)} came."
        )
    specs = tuple(
        one if isinstance(one, ClassSpec) else ClassSpec(name=one, color=other.color)
        for one, other in zip(given, unnamed, strict=True)
    )
    controller.state.source.image = layer.name
    old = controller.current
    layers = None if old is None else old.layers
    if old is not None:
        if replace:
            old.close()
        else:
            controller.keeping.replace(old)
    if layers is not None and layers.fit(layer, image):
        layers.set_classes(specs)
    else:
        layers = ResultLayers(controller.viewer, layer, specs, image.geometry)
    spec = MapSpec(name, len(image.spatial_shape), specs)
    # What a model gave for the image knows whether the model serves it.
    domain = distribution.domain if isinstance(distribution, SampledDistribution) else None
    outcome = RunOutcome(distribution, None, spec, Path(name), 0.0, domain=domain)
    exploration = Exploration(
        controller.viewer, None, outcome, image, layer, layers, is_complete=True
    )
    controller.adopt(exploration, is_continued=False)
