"""The low-rank normal of a Stochastic Segmentation Network.

Monteiro et al., *Stochastic Segmentation Networks*, NeurIPS 2020.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_structseg.distributions.checks import check_finite
from napari_structseg.distributions.conditioning.corrected import conditioned
from napari_structseg.distributions.conditioning.kept_noise import KeptNoise
from napari_structseg.distributions.conditioning.normal import ConditionedNormal
from napari_structseg.distributions.conditioning.rank import (
    Gaussian,
    RankEvidence,
    RankPosterior,
    Source,
)
from napari_structseg.distributions.conditioning.settings import DEFAULT, Conditioning
from napari_structseg.distributions.conditioning.voxels import index_of
from napari_structseg.distributions.noise import Noise
from napari_structseg.distributions.one_thread import chunks, compact, square_root
from napari_structseg.distributions.region import Region, region_shape, whole
from napari_structseg.distributions.sampling import SampledDistribution
from napari_structseg.distributions.spread import Spread
from napari_structseg.distributions.strokes import Strokes
from napari_structseg.errors import InputError

# Numbers of a slice's factor, and of what was drawn for its samples, that are kept at most.
_LAID_OUT_NUMBERS, _KEPT_NUMBERS = 1 << 25, 1 << 24


class LowRankNormal(SampledDistribution):
    r"""eta ~ N(mu, P P^T + D) over the logits of every class and voxel.

    A sample is drawn directly, :math:`\eta = \mu + P z + \sqrt{D}\,\epsilon`: the covariance is
    never built and never factorised.

    Parameters
    ----------
    mean
        mu, ``(C, *spatial)``.
    factor
        P, rank-major, ``(R, C, *spatial)``; R may be 0.
    diagonal
        D, variances, ``(C, *spatial)``.
    grid_shape, grid_region
        Shape of the image whose noise these voxels use, and which region of it they are; by
        default they are the image. See :meth:`crop`.
    checked
        Whether they are known to be finite; looking again takes a pass over them.

    Raises
    ------
    ValueError
        If the shapes do not fit together.
    InputError
        If a parameter is NaN or infinite, or a variance is negative.
    """

    def __init__(
        self,
        mean: Tensor,
        factor: Tensor,
        diagonal: Tensor,
        *,
        grid_shape: Sequence[int] | None = None,
        grid_region: Region | None = None,
        checked: bool = False,
    ) -> None:
        if factor.shape[1:] != mean.shape or diagonal.shape != mean.shape:
            raise ValueError(
                f"mean {tuple(mean.shape)}, factor {tuple(factor.shape)} and diagonal "
                f"{tuple(diagonal.shape)} must be (C, *spatial), (R, C, *spatial), (C, *spatial)"
            )
        if not checked:
            _check(mean, factor, diagonal)
        self._mean = mean
        self._factor = factor
        self._diagonal = diagonal
        self._kept_noise = KeptNoise()
        self._grid_shape = self.spatial_shape if grid_shape is None else tuple(grid_shape)
        self._grid_region = whole(self._grid_shape) if grid_region is None else grid_region
        if region_shape(self._grid_shape, self._grid_region) != self.spatial_shape:
            raise ValueError(
                f"region {self._grid_region} of {self._grid_shape} is not {self.spatial_shape}"
            )

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """Shape of the image."""
        return tuple(self._mean.shape[1:])

    @property
    def n_classes(self) -> int:
        """Number of classes C."""
        return int(self._mean.shape[0])

    @property
    def factor(self) -> Tensor:
        """Factor P, ``(R, C, *spatial)``, as it is stored."""
        return self._factor

    @property
    def diagonal(self) -> Tensor:
        """Diagonal D, variances, ``(C, *spatial)``, as it is stored."""
        return self._diagonal

    @property
    def rank(self) -> int:
        """Rank R of the factor."""
        return int(self._factor.shape[0])

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return self._mean.device

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
        """The rank: a chosen position is of the factors, and is pictured without voxel noise."""
        return self.rank

    def mean(self, region: Region | None = None) -> Tensor:
        """Mean logits mu of a region, ``(C, *region)``, float32."""
        return self._mean[self._index(region)].float()

    def offset(self, noise: Noise, region: Region | None = None) -> Tensor:
        """P z + sqrt(D) eps of a region, ``(C, *region)``, float32."""
        return self.offsets([noise], region)[0]

    def offsets(self, noises: list[Noise], region: Region | None = None) -> Tensor:
        """P z + sqrt(D) eps of several samples, ``(N, C, *region)``, float32."""
        z = [noise.factors(self.rank, self.device) for noise in noises]
        return self.offsets_of(torch.stack(z) if z else self._mean.new_empty(0), noises, region)

    def offsets_of(self, z: Tensor, noises: list[Noise], region: Region | None = None) -> Tensor:
        """P z + sqrt(D) eps of given z.

        Parameters
        ----------
        z
            Of each sample, ``(N, R)``, float32.
        noises
            Where eps is from, N of them.
        region
            None: everywhere.

        Returns
        -------
        Tensor
            ``(N, C, *region)``, float32.
        """
        inside = whole(self.spatial_shape) if region is None else region
        shape = (len(noises), self.n_classes, *region_shape(self.spatial_shape, inside))
        result = torch.empty(shape, device=self.device)
        if not noises:
            return result
        self._draw_own_(result, noises, inside)
        # Class by class: a slab of one class is flat in memory, and not copied.
        for label, flat in enumerate(result.flatten(2).unbind(1)):
            factor = self._factor[:, label][(slice(None), *inside)].flatten(1)
            torch.addmm(flat, z, factor.float(), out=flat)
        return result

    def _draw_own_(self, result: Tensor, noises: list[Noise], region: Region) -> None:
        """Write sqrt(D) eps of several samples into ``(N, C, *region)``."""
        grid = self._on_grid(region)
        eps = [
            noise.voxels(self.n_classes, self._grid_shape, grid, self.device).flatten(1)
            for noise in noises
        ]
        for label, flat in enumerate(result.flatten(2).unbind(1)):
            scale = square_root(self._diagonal[label][region]).flatten()
            for part in chunks(len(scale), self.device):
                for row, drawn in zip(flat, eps, strict=True):
                    torch.mul(drawn[label, part], scale[part], out=row[part])

    def crop(self, region: Region) -> LowRankNormal:
        """The distribution of a region, compact in memory, with the noise of the whole."""
        index = self._index(region)
        normal = LowRankNormal(
            compact(self._mean[index]),
            compact(self._factor[(slice(None), *index)]),
            compact(self._diagonal[index]),
            grid_shape=self._grid_shape,
            grid_region=self._on_grid(region),
            checked=True,
        )
        return self._hand_on(normal)

    def laid_out(self) -> LowRankNormal:
        """The same distribution, of a slice that is looked at again and again.

        The factor is in single precision unless it is large, and what was drawn of single voxels is
        kept.
        """
        is_small = self._factor.numel() <= _LAID_OUT_NUMBERS
        normal = _LaidOut(
            self._mean,
            self._factor.float() if is_small else self._factor,
            self._diagonal,
            grid_shape=self._grid_shape,
            grid_region=self._grid_region,
            checked=True,
        )
        return self._hand_on(normal)

    def conditioned(
        self, strokes: Strokes, settings: Conditioning = DEFAULT
    ) -> SampledDistribution:
        """The distribution once it is known which class some voxels have.

        The factors follow their posterior, found by Newton's method on the softmax likelihood of
        the strokes; what they cannot explain is a local term. See :mod:`.conditioning`.

        Parameters
        ----------
        strokes
            What was said. Nothing: this distribution itself.
        settings
            How it is taken.

        Raises
        ------
        InputError
            If the strokes are of another image, or of a class that there is not.
        """
        return conditioned(self, strokes, settings)

    def evidence_at(self, voxels: npt.NDArray[np.int64]) -> RankEvidence:
        """The parameters at some voxels of the flattened image, ``(n,)``."""
        index = index_of(voxels, self.spatial_shape, self.device, 1)
        mean, variance = (part[index].cpu().double() for part in (self._mean, self._diagonal))
        factor = self._factor[(slice(None), *index)].cpu().double()
        normal = Gaussian(mean.T, factor.permute(2, 1, 0), variance.T)
        spread = self.calibrated or Spread.neutral(self.n_classes)
        scale = spread.temperature * torch.tensor(spread.class_scale, dtype=torch.float64)
        source = voxels
        if self._grid_region != whole(self._grid_shape):
            place = np.unravel_index(voxels, self.spatial_shape)
            grid = tuple(
                np.arange(size)[part][axis]
                for size, part, axis in zip(self._grid_shape, self._grid_region, place, strict=True)
            )
            source = np.asarray(np.ravel_multi_index(grid, self._grid_shape), np.int64)
        return RankEvidence(normal, scale, (Source(self._grid_shape, source, self._kept_noise),))

    def given(
        self, posterior: RankPosterior, voxels: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]
    ) -> ConditionedNormal:
        """The same normal with another knowledge of its factors.

        Parameters
        ----------
        posterior
            Of the factors.
        voxels
            Those of its voxels that are in this image, flattened, ``(k,)``.
        rows
            Which ones they are, ``(k,)``.
        """
        return ConditionedNormal(self, posterior, voxels, rows)

    def _details(self) -> list[str]:
        return [f"rank {self.rank}"]

    def _index(self, region: Region | None) -> tuple[slice, ...]:
        return (slice(None), *(whole(self.spatial_shape) if region is None else region))

    def _on_grid(self, region: Region | None) -> Region:
        """The region of the grid that a region of these voxels is."""
        if region is None:
            return self._grid_region
        parts = []
        for size, ours, base in zip(self._grid_shape, region, self._grid_region, strict=True):
            positions = range(*base.indices(size))[ours]
            parts.append(slice(positions.start, positions.stop, positions.step))
        return tuple(parts)


class _LaidOut(LowRankNormal):
    """A low-rank normal that keeps sqrt(D) eps of the samples that were drawn last."""

    def __init__(self, *parameters: Tensor, **grid: Any) -> None:  # noqa: ANN401 -- handed on
        super().__init__(*parameters, **grid)
        self._own: dict[Noise, Tensor] = {}

    def _draw_own_(self, result: Tensor, noises: list[Noise], region: Region) -> None:
        if region_shape(self.spatial_shape, region) != self.spatial_shape:
            super()._draw_own_(result, noises, region)
            return
        for row, noise in zip(result, noises, strict=True):
            own = self._own.pop(noise, None)
            if own is None:
                while (1 + len(self._own)) * row.numel() > _KEPT_NUMBERS and self._own:
                    del self._own[next(iter(self._own))]
                super()._draw_own_(row[None], [noise], region)
                own = row.clone()
            else:
                row.copy_(own)
            # The least recently used comes first.
            self._own[noise] = own


def _check(mean: Tensor, factor: Tensor, diagonal: Tensor) -> None:
    check_finite("a low-rank normal", mean=mean, factor=factor, diagonal=diagonal)
    least = diagonal.amin().item() if diagonal.numel() else 0.0
    if least < 0:
        raise InputError(
            "The diagonal of a low-rank normal holds variances, 0 or more, but the least is "
            f"{least:g}. If these are logarithms of variances, take their exponential first."
        )
