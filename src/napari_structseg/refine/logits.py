"""The logits that a solver refines: those of the mean, of a sample or of a latent position."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from napari_structseg.controls import Controls
from napari_structseg.distributions import LogitDistribution, Noise, Region
from napari_structseg.image import Image
from napari_structseg.render.rendering import combine


@dataclass(frozen=True, slots=True)
class Problem:
    """What a solver is given beside its settings.

    Attributes
    ----------
    key
        What the logits depend on: problems with equal keys have equal logits, so that a solver
        may keep what it made of them.
    shape
        Spatial shape of the image.
    n_classes
        Number of classes K.
    device
        Where the logits are.
    logits
        Logits of a region, ``(K, *region)``, float32. They are computed when they are asked for;
        regions of one shape that tile the image are drawn only once.
    image
        The image that was segmented, with its geometry, on the grid of the logits; None where
        only a distribution is at hand.
    """

    key: Hashable
    shape: tuple[int, ...]
    n_classes: int
    device: torch.device
    logits: Callable[[Region], Tensor] = field(compare=False)
    image: Image | None = field(default=None, compare=False)


class ChosenLogits:
    """Makes a problem of what the controls choose, and keeps the offsets of the last sample.

    Parameters
    ----------
    distribution
        p(eta | x), of any kind.
    image
        What it is of.
    """

    def __init__(self, distribution: LogitDistribution, image: Image | None = None) -> None:
        self.distribution = distribution
        self._image = image
        # Offsets of one sample, in regions of one shape: they outlast a moved temperature.
        self._drawn: tuple[Noise, tuple[int, ...]] | None = None
        self._offsets: dict[tuple[int, ...], Tensor] = {}

    def problem(self, controls: Controls) -> Problem:
        """The problem under these controls."""
        upstream = controls.unrefined
        return Problem(
            upstream,
            self.distribution.spatial_shape,
            self.distribution.n_classes,
            self.distribution.device,
            # Not a method of a solver: as a circle, its arrays would stay until Python looks for
            # circles.
            partial(self._logits, upstream),
            self._image,
        )

    def _logits(self, controls: Controls, region: Region) -> Tensor:
        distribution = self.distribution
        noise = controls.noise if distribution.is_stochastic else None
        offset = None
        if noise is not None:
            noise = controls.tempered(noise, distribution)
            bounds = [
                part.indices(size)
                for part, size in zip(region, distribution.spatial_shape, strict=True)
            ]
            sizes = tuple(len(range(*one)) for one in bounds)
            if (noise, sizes) != self._drawn:
                self._drawn = (noise, sizes)
                self._offsets.clear()
            place = tuple(start for start, _, _ in bounds)
            if place not in self._offsets:
                self._offsets[place] = distribution.offset(noise, region)
            offset = self._offsets[place]
        return combine(distribution.mean(region), offset, controls.weights_of(distribution))
