"""A finite set of segmentations: an ensemble, several heads, several dropout masks."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_structseg.distributions.checks import check_finite
from napari_structseg.distributions.conditioning.corrected import conditioned
from napari_structseg.distributions.conditioning.members import (
    ConditionedSet,
    MemberEvidence,
    MemberPosterior,
)
from napari_structseg.distributions.conditioning.settings import DEFAULT, Conditioning
from napari_structseg.distributions.conditioning.voxels import index_of
from napari_structseg.distributions.noise import Noise
from napari_structseg.distributions.one_thread import compact
from napari_structseg.distributions.region import Region, whole
from napari_structseg.distributions.sampling import SampledDistribution
from napari_structseg.distributions.strokes import Strokes


def mean_of_members(members: Tensor) -> Tensor:
    """Logarithm of the mean probability over members: what an ensemble predicts.

    Parameters
    ----------
    members
        Logits, ``(M, C, *spatial)``.

    Returns
    -------
    Tensor
        ``(C, *spatial)``, float32.
    """
    # One member at a time: of a volume, all of them in single precision would not fit.
    total = torch.log_softmax(members[0].float(), dim=0)
    for member in members[1:]:
        total = torch.logaddexp(total, torch.log_softmax(member.float(), dim=0))
    return total - math.log(len(members))


class FiniteSet(SampledDistribution):
    """Equally probable members, each with its own logits.

    A sample is one of the members, see :meth:`Noise.member`; the mean is the logarithm of the
    members' mean probability (the prediction of the baselines in Monteiro et al., NeurIPS 2020).
    Temperature and class scales multiply what a member adds to it.

    Parameters
    ----------
    members
        Log-probabilities, ``(M, C, *spatial)``. Logits that are not normalised would add to the
        offset what all classes have in common, and class scales would take it for news.
    mean
        ``(C, *spatial)``; None: computed from the members. Given, it must follow them.
    checked
        Whether they are known to be finite; looking again takes a pass over them.

    Raises
    ------
    ValueError
        If the shapes do not fit together, or there are no members.
    InputError
        If a parameter is NaN or infinite.
    """

    def __init__(
        self, members: Tensor, mean: Tensor | None = None, *, checked: bool = False
    ) -> None:
        if not len(members):
            raise ValueError("a finite set needs at least one member")
        if not checked:
            check_finite("a finite set", log_probabilities=members, mean=mean)
        self._members = members
        self._mean = mean_of_members(members) if mean is None else mean
        if self._mean.shape != members.shape[1:]:
            raise ValueError(
                f"members {tuple(members.shape)} and mean {tuple(self._mean.shape)} must be "
                "(M, C, *spatial) and (C, *spatial)"
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
    def members(self) -> Tensor:
        """Log-probabilities of each member, ``(M, C, *spatial)``, as they are stored."""
        return self._members

    @property
    def n_members(self) -> int:
        """Number of members M."""
        return len(self._members)

    @property
    def device(self) -> torch.device:
        """Where the logits live."""
        return self._mean.device

    @property
    def is_stochastic(self) -> bool:
        """Whether there is more than one member."""
        return self.n_members > 1

    @property
    def tempers_noise(self) -> bool:
        """False: temperature multiplies the offset."""
        return False

    @property
    def n_latents(self) -> int:
        """0: there is no latent space."""
        return 0

    def mean(self, region: Region | None = None) -> Tensor:
        """Logarithm of the mean probability in a region, ``(C, *region)``, float32."""
        return self._mean[self._index(region)].float()

    def offset(self, noise: Noise, region: Region | None = None) -> Tensor:
        """What the sample's member adds to the mean, ``(C, *region)``, float32."""
        index = self._index(region)
        return self._members[noise.member(self.n_members)][index].float() - self._mean[index]

    def offsets(self, noises: list[Noise], region: Region | None = None) -> Tensor:
        """What the members of several samples add to the mean, ``(N, C, *region)``, float32."""
        if not noises:
            return self.mean(region).new_empty((0, *self._mean[self._index(region)].shape))
        return torch.stack([self.offset(noise, region) for noise in noises])

    def crop(self, region: Region) -> FiniteSet:
        """The members of a region, compact in memory."""
        index = self._index(region)
        members = compact(self._members[(slice(None), *index)])
        return self._hand_on(FiniteSet(members, compact(self._mean[index]), checked=True))

    def conditioned(
        self, strokes: Strokes, settings: Conditioning = DEFAULT
    ) -> SampledDistribution:
        """The set, its members as probable as they agree with the strokes.

        See :meth:`SampledDistribution.conditioned`, and :mod:`.conditioning`.
        """
        return conditioned(self, strokes, settings)

    def evidence_at(self, voxels: npt.NDArray[np.int64]) -> MemberEvidence:
        """The log-probabilities of some voxels of the flattened image, ``(n,)``."""
        index = index_of(voxels, self.spatial_shape, self.device, 2)
        return MemberEvidence(self._members[index].movedim(1, 2).cpu().double())

    def given(
        self,
        posterior: MemberPosterior,
        _voxels: npt.NDArray[np.int64],
        _rows: npt.NDArray[np.int64],
    ) -> ConditionedSet:
        """The same members with other probabilities."""
        return ConditionedSet(self._members, posterior)

    def _details(self) -> list[str]:
        return [f"{self.n_members} members"]

    def _index(self, region: Region | None) -> tuple[slice, ...]:
        return (slice(None), *(whole(self.spatial_shape) if region is None else region))
