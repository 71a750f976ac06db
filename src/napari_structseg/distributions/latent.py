"""The latent decoder of a Probabilistic U-Net: one latent vector for a whole segmentation.

Kohl et al., *A Probabilistic U-Net for Segmentation of Ambiguous Images*, NeurIPS 2018.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_structseg.distributions.checks import check_finite
from napari_structseg.distributions.combination import Combination, decode
from napari_structseg.distributions.conditioning.corrected import conditioned
from napari_structseg.distributions.conditioning.decoder import ConditionedDecoder
from napari_structseg.distributions.conditioning.latent import (
    Features,
    LatentEvidence,
    LatentPosterior,
)
from napari_structseg.distributions.conditioning.settings import DEFAULT, Conditioning
from napari_structseg.distributions.conditioning.voxels import index_of
from napari_structseg.distributions.noise import Noise
from napari_structseg.distributions.one_thread import CHUNK, chunks, compact
from napari_structseg.distributions.region import Region, whole
from napari_structseg.distributions.sampling import SampledDistribution
from napari_structseg.distributions.strokes import Strokes


@dataclass(frozen=True, slots=True)
class LatentNormal:
    """The prior p(z | x) of one image, a normal with independent coordinates.

    Attributes
    ----------
    mean, sigma
        ``(L,)``, float32.
    """

    mean: Tensor
    sigma: Tensor


class LatentDecoder(SampledDistribution):
    """Logits as a function of one latent vector z ~ N(mu, sigma^2) for the whole image.

    The mean is the decoded mean of the prior, and a sample's offset is what it decodes to
    beyond that: z = mu + sigma * noise. Temperature scales the noise; class scales multiply the
    offset.

    Parameters
    ----------
    first
        W_f f + b, the features' part of the first 1x1 layer, ``(H, *spatial)``.
    combination
        The rest of the layers.
    prior
        p(z | x).
    mean
        Logits at the prior's mean, ``(C, *spatial)``; None: computed. Given, it must follow
        ``first``.
    inside
        Where the decoder speaks, ``(*spatial)``, boolean; elsewhere every sample is the mean.
        None: everywhere.
    checked
        Whether they are known to be finite; looking again takes a pass over them.

    Raises
    ------
    ValueError
        If the shapes do not fit together.
    InputError
        If a parameter is NaN or infinite.
    """

    def __init__(
        self,
        first: Tensor,
        combination: Combination,
        prior: LatentNormal,
        *,
        mean: Tensor | None = None,
        inside: Tensor | None = None,
        checked: bool = False,
    ) -> None:
        n_latents = combination.latent.shape[1]
        if len(first) != len(combination.latent) or prior.mean.shape != (n_latents,):
            raise ValueError(
                f"first layer {tuple(first.shape)} and prior {tuple(prior.mean.shape)} do not fit "
                f"a combination of {tuple(combination.latent.shape)}"
            )
        if not checked:
            layers = {field.name: getattr(combination, field.name) for field in fields(combination)}
            check_finite("the layers of a latent decoder", **layers)
            check_finite("a latent decoder", features=first, mean=mean)
            check_finite("a latent prior", mean=prior.mean, sigma=prior.sigma)
        self._first = first
        self._combination = combination
        self._prior = prior
        self._inside = inside
        if mean is None:
            mean = decode(combination, first, [prior.mean])[0]
        self._mean = mean

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """Shape of the image."""
        return tuple(self._first.shape[1:])

    @property
    def n_classes(self) -> int:
        """Number of classes C."""
        return len(self._combination.last)

    @property
    def n_latents(self) -> int:
        """Dimensions of the latent space L."""
        return int(self._combination.latent.shape[1])

    @property
    def latent_mean(self) -> Tensor:
        """Mean of the prior, ``(L,)``."""
        return self._prior.mean

    @property
    def latent_sigma(self) -> Tensor:
        """Standard deviation of the prior, ``(L,)``."""
        return self._prior.sigma

    @property
    def device(self) -> torch.device:
        """Where the features live."""
        return self._first.device

    @property
    def is_stochastic(self) -> bool:
        """True."""
        return True

    @property
    def tempers_noise(self) -> bool:
        """True: temperature widens the prior, and what it decodes to is no multiple of it."""
        return True

    def mean(self, region: Region | None = None) -> Tensor:
        """Logits of a region at the prior's mean, ``(C, *region)``, float32."""
        return self._mean[self._index(region)].float()

    def latent(self, noise: Noise) -> Tensor:
        """Z of a sample, mu + sigma * noise, ``(L,)``."""
        return self._prior.mean + self._prior.sigma * noise.factors(self.n_latents, self.device)

    def decode(self, z: Tensor, region: Region | None = None) -> Tensor:
        """Logits of a region at any latent vector.

        Parameters
        ----------
        z
            ``(L,)``.
        region
            None: everywhere.

        Returns
        -------
        Tensor
            ``(C, *region)``, float32.
        """
        return self.mean(region) + self._beyond_mean([z], region)[0]

    def offset(self, noise: Noise, region: Region | None = None) -> Tensor:
        """What a sample decodes to beyond the mean, ``(C, *region)``, float32."""
        return self.offsets([noise], region)[0]

    def offsets(self, noises: list[Noise], region: Region | None = None) -> Tensor:
        """What several samples decode to beyond the mean, ``(N, C, *region)``, float32."""
        return self._beyond_mean([self.latent(noise) for noise in noises], region)

    def directions(self, region: Region | None = None) -> tuple[Tensor, Tensor]:
        """Latent directions by how much they change the segmentation, around the mean.

        The right singular vectors of the Jacobian of all class probabilities with respect to
        the noise. Give a region with steps: a lattice of voxels is enough.

        Parameters
        ----------
        region
            Where to look; None: everywhere.

        Returns
        -------
        directions
            ``(L, L)``: row k is the k-th direction, a unit vector in units of the prior's
            standard deviations; its largest coordinate is positive.
        strength
            ``(L,)``, descending: root mean square change of a probability for one standard
            offset along it.
        """
        index = self._index(region)
        first = self._first[index].flatten(1)
        inside = None if self._inside is None else self._inside[index[1:]].flatten()
        # In double precision, and so on the processor: Apple GPUs have none.
        gram = torch.zeros((self.n_latents, self.n_latents), dtype=torch.float64)
        for part in chunks(first.shape[1], self.device, CHUNK // self._combination.widest):
            slope = self._combination.jacobian(first[:, part].float(), self._prior.mean)
            if inside is not None:
                slope = slope[:, inside[part]]
            rows = (slope * self._prior.sigma).flatten(0, 1).cpu().double()
            gram += rows.T @ rows
        found = principal_directions(gram / max(1, first.shape[1] * self.n_classes))
        return found[0].to(self.device), found[1].to(self.device)

    def crop(self, region: Region) -> LatentDecoder:
        """The decoder of a region, its features compact in memory and in single precision."""
        index = self._index(region)
        decoder = LatentDecoder(
            compact(self._first[index].float()),
            self._combination,
            self._prior,
            mean=compact(self._mean[index]),
            inside=None if self._inside is None else compact(self._inside[index[1:]]),
            checked=True,
        )
        return self._hand_on(decoder)

    def conditioned(
        self, strokes: Strokes, settings: Conditioning = DEFAULT
    ) -> SampledDistribution:
        """The decoder, its positions weighed at the stroke voxels alone.

        See :meth:`SampledDistribution.conditioned`, and :mod:`.conditioning`.
        """
        return conditioned(self, strokes, settings)

    def evidence_at(self, voxels: npt.NDArray[np.int64]) -> LatentEvidence:
        """The features of some voxels of the flattened image, ``(n,)``, on the processor."""
        index = index_of(voxels, self.spatial_shape, self.device, 1)
        layers = Combination(
            **{
                field.name: getattr(self._combination, field.name).cpu().float()
                for field in fields(Combination)
            }
        )
        inside = torch.ones(len(voxels), dtype=torch.bool)
        if self._inside is not None:
            inside = self._inside[index[1:]].cpu()
        centre, sigma = self._prior.mean.cpu().float(), self._prior.sigma.cpu().float()
        first, fixed = (part[index].cpu().float() for part in (self._first, self._mean))
        return LatentEvidence((Features(layers, first, centre, sigma, fixed.T, inside),))

    def given(
        self,
        posterior: LatentPosterior,
        _voxels: npt.NDArray[np.int64],
        _rows: npt.NDArray[np.int64],
    ) -> ConditionedDecoder:
        """The same decoder with another knowledge of where it is in its latent space."""
        return ConditionedDecoder(self, posterior)

    def decoded(self, latents: list[Tensor], region: Region | None = None) -> Tensor:
        """Logits of a region at several latent vectors, ``(N, C, *region)``, float32."""
        return self._beyond_mean(latents, region) + self.mean(region)

    def _details(self) -> list[str]:
        return [f"{self.n_latents} latent dimensions"]

    def _beyond_mean(self, latents: list[Tensor], region: Region | None) -> Tensor:
        index = self._index(region)
        result = decode(self._combination, self._first[index], latents)
        result -= self._mean[index]
        if self._inside is not None:
            result *= self._inside[index[1:]]
        return result

    def _index(self, region: Region | None) -> tuple[slice, ...]:
        return (slice(None), *(whole(self.spatial_shape) if region is None else region))


def principal_directions(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Directions and strength, as :meth:`LatentDecoder.directions` gives them.

    Parameters
    ----------
    gram
        Mean over voxels and classes of the products of derivatives, ``(L, L)``, float64, on
        the processor.
    """
    values, vectors = torch.linalg.eigh(gram)
    directions = vectors.flip(1).T
    largest = directions.gather(1, directions.abs().argmax(dim=1, keepdim=True))
    strength = values.flip(0).clamp(min=0).sqrt()
    return (directions * largest.sign()).float(), strength.float()
