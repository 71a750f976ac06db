"""A point: a deterministic model, or a probability map from elsewhere."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_structseg.distributions.checks import check_finite
from napari_structseg.distributions.conditioning.corrected import conditioned
from napari_structseg.distributions.conditioning.posterior import (
    PointEvidence,
    PointPosterior,
)
from napari_structseg.distributions.conditioning.settings import DEFAULT, Conditioning
from napari_structseg.distributions.conditioning.voxels import index_of
from napari_structseg.distributions.noise import Noise
from napari_structseg.distributions.one_thread import compact
from napari_structseg.distributions.region import Region, region_shape, whole
from napari_structseg.distributions.sampling import SampledDistribution
from napari_structseg.distributions.strokes import Strokes


class PointLogits(SampledDistribution):
    """All mass on one set of logits.

    Parameters
    ----------
    mean
        Logits, ``(C, *spatial)``.
    checked
        Whether they are known to be finite; looking again takes a pass over them.

    Raises
    ------
    InputError
        If a parameter is NaN or infinite.
    """

    def __init__(self, mean: Tensor, *, checked: bool = False) -> None:
        if not checked:
            check_finite("a point", logits=mean)
        self._mean = mean

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """Shape of the image."""
        return tuple(self._mean.shape[1:])

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return int(self._mean.shape[0])

    @property
    def device(self) -> torch.device:
        """Where the logits live."""
        return self._mean.device

    @property
    def is_stochastic(self) -> bool:
        """False: every sample is the mean."""
        return False

    @property
    def tempers_noise(self) -> bool:
        """False: temperature multiplies the offset."""
        return False

    @property
    def n_latents(self) -> int:
        """0: there is no latent space."""
        return 0

    def mean(self, region: Region | None = None) -> Tensor:
        """Logits of a region, ``(C, *region)``."""
        region = whole(self.spatial_shape) if region is None else region
        return self._mean[(slice(None), *region)].float()

    def offset(self, noise: Noise, region: Region | None = None) -> Tensor:
        """Zeros, ``(C, *region)``."""
        return self.offsets([noise], region)[0]

    def offsets(self, noises: list[Noise], region: Region | None = None) -> Tensor:
        """Zeros, ``(N, C, *region)``."""
        region = whole(self.spatial_shape) if region is None else region
        shape = region_shape(self.spatial_shape, region)
        return torch.zeros((len(noises), self.n_classes, *shape), device=self.device)

    def crop(self, region: Region) -> PointLogits:
        """The point of a region."""
        point = PointLogits(compact(self._mean[(slice(None), *region)]), checked=True)
        return self._hand_on(point)

    def conditioned(
        self, strokes: Strokes, settings: Conditioning = DEFAULT
    ) -> SampledDistribution:
        """The point, with the strokes in it: they tell nothing of other voxels but those near by.

        See :meth:`SampledDistribution.conditioned`, and :mod:`.conditioning`.
        """
        return conditioned(self, strokes, settings)

    def evidence_at(self, voxels: npt.NDArray[np.int64]) -> PointEvidence:
        """The logits of some voxels of the flattened image, ``(n,)``."""
        index = index_of(voxels, self.spatial_shape, self.device, 1)
        return PointEvidence(self._mean[index].T.cpu().double())

    def given(
        self,
        _posterior: PointPosterior,
        _voxels: npt.NDArray[np.int64],
        _rows: npt.NDArray[np.int64],
    ) -> PointLogits:
        """The same: there is nothing to learn."""
        return self
