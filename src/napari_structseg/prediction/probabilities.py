"""Maps of class probabilities from elsewhere, in a model's place."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from napari_structseg.devices import free_memory
from napari_structseg.distributions import PointLogits, Region
from napari_structseg.errors import Cancelled, InputError
from napari_structseg.image import Image
from napari_structseg.memory import check_memory
from napari_structseg.models import ClassSpec, ModelSpec
from napari_structseg.prediction.protocol import ImagePredictor, Prediction
from napari_structseg.prediction.specs import MapSpec
from napari_structseg.refine.refinement import refinement_bytes

# Maps that were stored as bytes or half floats sum to one only so nearly.
SUM_TOLERANCE = 0.01
# What is less probable counts as this, or no neighbour could ever speak for it.
SMALLEST = 1e-6
_MAX_CLASSES = 255
_GOLDEN_ANGLE = 0.381966


class ProbabilityMaps(ImagePredictor):
    """Probabilities of every class at every voxel, in the place of a network.

    The image must lie on their voxel grid.

    Parameters
    ----------
    maps
        One channel for each class, in label order, the background first: ``(C, *spatial)``, not
        negative, summing to one over classes.
    classes
        What the classes are called; None: "class 0", "class 1" and so on.
    device
        Where the distribution will live.

    Raises
    ------
    InputError
        If there are less than 2 or more than 255 maps, a probability is negative, or those of a
        voxel do not sum to one.
    """

    def __init__(
        self,
        maps: Image,
        classes: Sequence[ClassSpec] | None = None,
        device: torch.device | None = None,
    ) -> None:
        check_probabilities(maps)
        if classes is None:
            classes = unnamed_classes(maps.n_channels)
        self.maps = maps
        self.spec: MapSpec = MapSpec(maps.name, maps.ndim, tuple(classes))
        self.device = torch.device("cpu") if device is None else device

    def take_names(self, spec: ModelSpec) -> None:
        """Take names and colours of a model's classes, if it has as many."""
        if spec.n_classes == self.spec.n_classes:
            self.spec = replace(self.spec, classes=spec.classes)

    def check(self, image: Image, *, refined: bool = False) -> None:
        """Refuse an image that the maps are not of."""
        maps = self.maps
        if not maps.geometry.same_grid(image.geometry):
            differs = "their affine is another one"
            if maps.spatial_shape != image.spatial_shape:
                differs = f"their shape is {maps.spatial_shape}, not {image.spatial_shape}"
            raise InputError(
                f"The probabilities {maps.name!r} must lie on the voxel grid of the image "
                f"{image.name!r}, but {differs}. Resample them onto the image's grid first, or "
                "choose the image that they were computed from."
            )
        check_memory(
            self.required_bytes(image, refined=refined),
            f"Refining {maps.name!r}" if refined else f"Showing {maps.name!r}",
            free_memory(self.device),
        )

    def required_bytes(self, image: Image, *, refined: bool = False) -> int:
        """Memory of their logarithms."""
        maps = self.maps
        logits = math.prod(maps.data.shape) * torch.float32.itemsize
        return logits + refined * refinement_bytes(maps.n_channels, maps.spatial_shape)

    def stream(
        self,
        image: Image,
        first: Region | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Iterator[Prediction]:
        """All mass on the logarithms of the probabilities, in one step."""
        self.check(image)
        logits = torch.empty(self.maps.data.shape, dtype=torch.float32)
        for shown, channel in zip(logits, self.maps.data, strict=True):
            if cancelled is not None and cancelled():
                raise Cancelled("The run was cancelled.")
            shown.copy_(torch.from_numpy(channel.astype(np.float32)))
        logits.clamp_(min=SMALLEST).log_()
        yield Prediction(1, 1, PointLogits(logits.to(self.device), checked=True))


def unnamed_classes(n_classes: int) -> tuple[ClassSpec, ...]:
    """Classes of which nothing is known but their number: black, then hues far apart."""
    classes = [ClassSpec(name="class 0", color="#000000")]
    for label in range(1, n_classes):
        red, green, blue = colorsys.hsv_to_rgb(label * _GOLDEN_ANGLE % 1, 0.6, 0.85)
        color = "#" + "".join(f"{round(255 * part):02x}" for part in (red, green, blue))
        classes.append(ClassSpec(name=f"class {label}", color=color))
    return tuple(classes)


def named_classes(names: Sequence[str]) -> tuple[ClassSpec, ...]:
    """Classes of which only the names are known, in the colours of :func:`unnamed_classes`."""
    plain = unnamed_classes(len(names))
    return tuple(
        ClassSpec(name=name, color=one.color) for name, one in zip(names, plain, strict=True)
    )


def check_probabilities(maps: Image) -> None:
    """Refuse maps that are no probabilities of 2 to 255 classes.

    Raises
    ------
    InputError
        Saying what is wrong with them.
    """
    what = f"The probabilities {maps.name!r}"
    if not 2 <= maps.n_channels <= _MAX_CLASSES:
        raise InputError(
            f"{what} must be one map for each of 2 to {_MAX_CLASSES} classes, background "
            f"included, but their number is {maps.n_channels}. Give a 4-D file with the classes "
            "along its last axis, or one file for each class."
        )
    if not all(np.isfinite(channel).all() for channel in maps.data):
        raise InputError(
            f"{what} must be finite numbers, but some are NaN or infinite. Replace them, for "
            "example by the background's probability of 1 outside the field of view."
        )
    lowest = min(float(channel.min()) for channel in maps.data)
    if lowest < 0:
        raise InputError(
            f"{what} must not be negative, but the lowest is {lowest:.6g}. If they are logits, "
            "take their softmax first."
        )
    least, most = math.inf, -math.inf
    # Slice by slice: the sums of all voxels would need the memory of two maps.
    for index in range(maps.spatial_shape[0]):
        sums = maps.data[:, index].sum(axis=0, dtype=np.float64)
        least, most = min(least, float(sums.min())), max(most, float(sums.max()))
    if least < 1 - SUM_TOLERANCE or most > 1 + SUM_TOLERANCE:
        raise InputError(
            f"{what} of each voxel must sum to 1 over the classes, but the sums lie between "
            f"{least:.6g} and {most:.6g}. Add the map of the background if it is missing, or "
            "divide every map by the sum."
        )
