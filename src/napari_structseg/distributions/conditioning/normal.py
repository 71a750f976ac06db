"""The low-rank normal of one image, given what was said of some voxels."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_structseg.distributions.conditioning.rank import RankPosterior
from napari_structseg.distributions.conditioning.voxels import index_of, within
from napari_structseg.distributions.noise import Noise
from napari_structseg.distributions.one_thread import add_weighted_
from napari_structseg.distributions.region import Region, whole
from napari_structseg.distributions.sampling import SampledDistribution

IntArray = npt.NDArray[np.int64]


class Factored(Protocol):
    """What is needed of a low-rank normal."""

    @property
    def factor(self) -> Tensor:
        """P, ``(R, C, *spatial)``."""
        ...

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """Shape of the image."""
        ...

    @property
    def n_classes(self) -> int:
        """Number of classes C."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        ...

    def mean(self, region: Region | None = None) -> Tensor:
        """Mean logits of a region."""
        ...

    def offsets_of(self, z: Tensor, noises: list[Noise], region: Region | None = None) -> Tensor:
        """P z + sqrt(D) eps of several z, ``(N, C, *region)``."""
        ...

    def crop(self, region: Region) -> Factored:
        """The normal of a region."""
        ...


class ConditionedNormal(SampledDistribution):
    r"""A low-rank normal whose factors follow their posterior.

    The mean is :math:`\mu + S P m`, and at the stroke voxels :math:`S^2 D q` more; a sample is that
    of the same noise, corrected by Matheron's rule, see
    :class:`~napari_structseg.distributions.conditioning.rank.RankPosterior`. S are temperature and
    class scales of the calibrated model. Other ones scale the offset of a sample from the posterior
    mean.

    Parameters
    ----------
    base
        The normal before.
    posterior
        Of its factors.
    voxels
        Stroke voxels of this image, flattened, ``(k,)``.
    rows
        Which voxels of the posterior they are, ``(k,)``.
    """

    def __init__(
        self, base: Factored, posterior: RankPosterior, voxels: IntArray, rows: IntArray
    ) -> None:
        self._base = base
        self._posterior = posterior
        self._voxels = voxels
        self._rows = torch.from_numpy(rows)

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """Shape of the image."""
        return self._base.spatial_shape

    @property
    def n_classes(self) -> int:
        """Number of classes C."""
        return self._base.n_classes

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return self._base.device

    @property
    def is_stochastic(self) -> bool:
        """True."""
        return True

    @property
    def tempers_noise(self) -> bool:
        """False: temperature multiplies the offset."""
        return False

    @property
    def n_latents(self) -> int:
        """0: there is no latent space."""
        return 0

    @property
    def n_coordinates(self) -> int:
        """The rank: a chosen position is corrected like the factors of a sample."""
        return len(self._base.factor)

    def mean(self, region: Region | None = None) -> Tensor:
        """Posterior mean of the logits, ``(C, *region)``, float32."""
        inside = whole(self.spatial_shape) if region is None else region
        mean = self._base.mean(inside).clone(memory_format=torch.contiguous_format)
        scale, shifts = self._posterior.scale.tolist(), self._posterior.shift.tolist()
        for label, (weight, flat) in enumerate(zip(scale, mean.flatten(1), strict=True)):
            rows = [factor[label][inside].reshape(-1) for factor in self._base.factor]
            add_weighted_(flat, rows, [weight * shift for shift in shifts])
        own = self._posterior.own_mean[self._rows]
        self._add_(mean[None], own.float()[None], inside)
        return mean

    def offset(self, noise: Noise, region: Region | None = None) -> Tensor:
        """What a sample adds to the mean in a region, ``(C, *region)``, float32."""
        return self.offsets([noise], region)[0]

    def offsets(self, noises: list[Noise], region: Region | None = None) -> Tensor:
        """What several samples add to the mean, ``(N, C, *region)``, float32."""
        inside = whole(self.spatial_shape) if region is None else region
        if not noises:
            return self._base.offsets_of(torch.empty(0, len(self._base.factor)), [], inside)
        z, own = zip(*(self._posterior.corrected(noise) for noise in noises), strict=True)
        result = self._base.offsets_of(torch.stack(z).to(self.device), noises, inside)
        self._add_(result, torch.stack(own)[:, self._rows], inside)
        return result

    def crop(self, region: Region) -> ConditionedNormal:
        """The posterior of a region: that of the whole, not one of the strokes in it."""
        return self.crop_on(self._base.crop(region), region)

    def crop_on(self, plain: Factored, region: Region) -> ConditionedNormal:
        """As :meth:`crop`, made of the crop of the normal before."""
        kept, voxels = within(self._voxels, self.spatial_shape, region)
        rows = self._rows.numpy()[kept]
        return self._hand_on(ConditionedNormal(plain, self._posterior, voxels, rows))

    def _add_(self, values: Tensor, own: Tensor, region: Region) -> None:
        """Add to values ``(N, C, *region)`` those of the stroke voxels, ``(N, k, C)``."""
        kept, voxels = within(self._voxels, self.spatial_shape, region)
        if len(kept):
            index = index_of(voxels, values.shape[2:], values.device, 2)
            added = own[:, torch.from_numpy(kept)].movedim(2, 1)
            values[index] += added.to(values.device)
