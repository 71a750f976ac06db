"""The latent decoder of one image, given what was said of some voxels."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from napari_structseg.distributions.conditioning.latent import LatentPosterior
from napari_structseg.distributions.noise import Noise
from napari_structseg.distributions.region import Region
from napari_structseg.distributions.sampling import SampledDistribution


class Decoding(Protocol):
    """What is needed of a latent decoder."""

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """Shape of the image."""
        ...

    @property
    def n_classes(self) -> int:
        """Number of classes C."""
        ...

    @property
    def n_latents(self) -> int:
        """Dimensions of the latent space L."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the features live."""
        ...

    @property
    def latent_mean(self) -> Tensor:
        """Mean of the latent prior, ``(L,)``."""
        ...

    @property
    def latent_sigma(self) -> Tensor:
        """Its standard deviation, ``(L,)``."""
        ...

    def decoded(self, latents: list[Tensor], region: Region | None = None) -> Tensor:
        """Logits at several latent vectors, ``(N, C, *region)``."""
        ...

    def directions(self, region: Region | None = None) -> tuple[Tensor, Tensor]:
        """Latent directions around the mean of the prior."""
        ...

    def crop(self, region: Region) -> Decoding:
        """The decoder of a region."""
        ...


class ConditionedDecoder(SampledDistribution):
    """A latent decoder whose positions follow their posterior.

    The mean is what the mean of the posterior decodes to. A sample's position is moved by the
    posterior; one that was chosen by hand stays where it is.

    Parameters
    ----------
    base
        The decoder before.
    posterior
        Of its positions.
    """

    def __init__(self, base: Decoding, posterior: LatentPosterior) -> None:
        self._base = base
        self._posterior = posterior

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """Shape of the image."""
        return self._base.spatial_shape

    @property
    def n_classes(self) -> int:
        """Number of classes C."""
        return self._base.n_classes

    @property
    def n_latents(self) -> int:
        """Dimensions of the latent space L."""
        return self._base.n_latents

    @property
    def device(self) -> torch.device:
        """Where the features live."""
        return self._base.device

    @property
    def is_stochastic(self) -> bool:
        """True."""
        return True

    @property
    def tempers_noise(self) -> bool:
        """True: temperature widens the posterior."""
        return True

    def mean(self, region: Region | None = None) -> Tensor:
        """Logits of a region at the posterior's mean, ``(C, *region)``, float32."""
        return self._base.decoded([self._centre()], region)[0]

    def latent(self, noise: Noise) -> Tensor:
        """Position of a sample, ``(L,)``."""
        xi = noise.factors(self.n_latents, self.device)
        if not noise.position:
            xi = self._posterior.position(xi)
        return self._base.latent_mean + self._base.latent_sigma * xi

    def offset(self, noise: Noise, region: Region | None = None) -> Tensor:
        """What a sample decodes to beyond the mean, ``(C, *region)``, float32."""
        return self.offsets([noise], region)[0]

    def offsets(self, noises: list[Noise], region: Region | None = None) -> Tensor:
        """What several samples decode to beyond the mean, ``(N, C, *region)``, float32."""
        latents = [self._centre(), *(self.latent(noise) for noise in noises)]
        decoded = self._base.decoded(latents, region)
        return decoded[1:].sub_(decoded[0].clone())

    def directions(self, region: Region | None = None) -> tuple[Tensor, Tensor]:
        """Latent directions, as before: the latent space is the same."""
        return self._base.directions(region)

    def crop(self, region: Region) -> ConditionedDecoder:
        """The decoder of a region, with the posterior of the whole."""
        return self.crop_on(self._base.crop(region), region)

    def crop_on(self, plain: Decoding, _region: Region) -> ConditionedDecoder:
        """As :meth:`crop`, made of the crop of the decoder before."""
        return self._hand_on(ConditionedDecoder(plain, self._posterior))

    def _centre(self) -> Tensor:
        at = self._posterior.mean.to(self.device)
        return self._base.latent_mean + self._base.latent_sigma * at
