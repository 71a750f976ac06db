"""The one protocol of every distribution over logits."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from napari_structseg.distributions.noise import Noise
from napari_structseg.distributions.region import Region


@runtime_checkable
class LogitDistribution(Protocol):
    """p(eta | x): what a model gives for one image.

    A sample is ``mean(region) + offset(noise, region)``. The two are separate so that
    class scales act on the offset alone, without drawing again. So does temperature, unless
    the distribution :attr:`tempers_noise`.
    """

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """Shape of the image, without classes."""
        ...

    @property
    def n_classes(self) -> int:
        """Number of classes C."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        ...

    @property
    def is_stochastic(self) -> bool:
        """Whether samples differ from the mean."""
        ...

    @property
    def tempers_noise(self) -> bool:
        """Whether temperature scales the noise, and the offset follows.

        Of a normal the offset is proportional to the noise: temperature can multiply either,
        and multiplying the offset draws nothing again. Where a network decodes the noise it
        cannot.
        """
        ...

    @property
    def n_latents(self) -> int:
        """Dimensions of the latent space L; 0 where there is none to choose a position in."""
        ...

    @property
    def n_coordinates(self) -> int:
        """Coordinates of a position that can be chosen in place of a sample; 0: there are none.

        Those of the latent space, or the factors of a low-rank normal, all standard normal.
        """
        ...

    def mean(self, region: Region | None = None) -> Tensor:
        """Mean logits of a region, ``(C, *region)``, float32."""
        ...

    def offset(self, noise: Noise, region: Region | None = None) -> Tensor:
        """What a sample adds to the mean in a region, ``(C, *region)``, float32.

        The offset of a region is that region of the offset of the whole.
        """
        ...

    def offsets(self, noises: list[Noise], region: Region | None = None) -> Tensor:
        """Offsets of several samples, ``(N, C, *region)``: as one by one, but faster."""
        ...

    def crop(self, region: Region) -> LogitDistribution:
        """The distribution of a region, its parameters laid out compactly.

        Its samples are those of the whole distribution for the same noise.
        """
        ...


@runtime_checkable
class LatentDistribution(LogitDistribution, Protocol):
    """A distribution with a latent space to choose a position in, where ``n_latents`` is not 0."""

    def directions(self, region: Region | None = None) -> tuple[Tensor, Tensor]:
        """Latent directions by how much they change the segmentation, and how much.

        Parameters
        ----------
        region
            Where to look; None: everywhere.

        Returns
        -------
        directions, strength
            As :meth:`LatentDecoder.directions`.
        """
        ...
