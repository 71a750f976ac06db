"""Finite sets given strokes: members by how well they agree with what was said."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from napari_structseg.distributions.conditioning.posterior import AtStrokes, lead
from napari_structseg.distributions.conditioning.said import Said
from napari_structseg.distributions.conditioning.settings import Conditioning
from napari_structseg.distributions.noise import Noise
from napari_structseg.distributions.region import Region, whole
from napari_structseg.distributions.sampling import SampledDistribution


@dataclass(frozen=True, slots=True)
class MemberEvidence:
    """Log-probabilities of every member at the stroke voxels, ``(M, n, C)``, float64.

    Nothing is confirmed: that would favour the members that are most like the mean.
    """

    confirmed_share: ClassVar[float] = 0.0

    members: Tensor

    @classmethod
    def joined(cls, parts: Sequence[MemberEvidence]) -> MemberEvidence:
        """The voxels of several slices, one slice after the other."""
        return cls(torch.cat([part.members for part in parts], dim=1))

    def posterior(self, said: Said, settings: Conditioning) -> MemberPosterior:
        """Probabilities of the members.

        The logarithm of a member's likelihood is what its leads fall short of the margin, summed
        over the voxels. So all members that explain every stroke stay equally probable: which of
        them is the most certain at the strokes tells nothing of other voxels.
        """
        leads = lead(self.members, said.labels)
        missing = (settings.margin - leads).clamp(min=0) @ said.weight
        probability = (-settings.sharpness * missing).softmax(dim=0)
        # As the mean of the set: the logarithm of the mean probability.
        logits = (self.members + probability.log()[:, None, None]).logsumexp(dim=0)
        effective = float(1 / probability.square().sum())
        return MemberPosterior(
            tuple(probability.tolist()),
            AtStrokes(logits, leads.amax(dim=0), effective, len(probability)),
        )


@dataclass(frozen=True, slots=True)
class MemberPosterior:
    """Probability of each member, ``(M,)``."""

    probability: tuple[float, ...]
    at_strokes: AtStrokes

    def member(self, noise: Noise) -> int:
        """Which member a sample is: the one it was, as often as the probabilities allow.

        The member of before was drawn with probability 1/M. It is kept with probability
        min(1, M p), and replaced by one that has become more probable otherwise: so that members
        come with their probabilities, and as many samples as possible stay what they were.
        """
        n_members = len(self.probability)
        before = noise.member(n_members)
        draws = Noise(noise.seed, noise.sample).factors(2).tolist()
        keep, other = (0.5 * (1 + math.erf(draw / math.sqrt(2))) for draw in draws)
        if keep < n_members * self.probability[before]:
            return before
        gained = np.maximum(np.array(self.probability) - 1 / n_members, 0)
        place = np.searchsorted(np.cumsum(gained), other * gained.sum())
        return int(min(place, np.flatnonzero(gained)[-1]))


class ConditionedSet(SampledDistribution):
    """Members of a finite set with probabilities of their own.

    The mean is the logarithm of the members' mean probability, computed where it is looked at.

    Parameters
    ----------
    members
        Log-probabilities, ``(M, C, *spatial)``.
    posterior
        Their probabilities.
    """

    def __init__(self, members: Tensor, posterior: MemberPosterior) -> None:
        self._members = members
        self._posterior = posterior

    @property
    def probability(self) -> tuple[float, ...]:
        """Of each member."""
        return self._posterior.probability

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """Shape of the image."""
        return tuple(self._members.shape[2:])

    @property
    def n_classes(self) -> int:
        """Number of classes C."""
        return int(self._members.shape[1])

    @property
    def device(self) -> torch.device:
        """Where the logits live."""
        return self._members.device

    @property
    def is_stochastic(self) -> bool:
        """Whether there is more than one member."""
        return len(self._members) > 1

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
        index = self._index(region)
        # Shifted by the largest member, in which nothing overflows, and one member at a time.
        largest = self._members[(slice(None), *index)].float().amax(dim=0).contiguous()
        total = torch.zeros_like(largest)
        for member, probability in zip(self._members, self._posterior.probability, strict=True):
            if probability:
                total += _exponential(member[index].float() - largest) * probability
        return largest + _logarithm(total)

    def offset(self, noise: Noise, region: Region | None = None) -> Tensor:
        """What the sample's member adds to the mean, ``(C, *region)``, float32."""
        return self.offsets([noise], region)[0]

    def offsets(self, noises: list[Noise], region: Region | None = None) -> Tensor:
        """What the members of several samples add to the mean, ``(N, C, *region)``, float32."""
        mean, index = self.mean(region), self._index(region)
        result = mean.new_empty((len(noises), *mean.shape))
        for row, noise in zip(result, noises, strict=True):
            torch.sub(self._members[self._posterior.member(noise)][index].float(), mean, out=row)
        return result

    def crop(self, region: Region) -> ConditionedSet:
        """The members of a region, compact in memory, with the probabilities of the whole."""
        members = self._members[(slice(None), *self._index(region))].contiguous()
        return self._hand_on(ConditionedSet(members, self._posterior))

    def _details(self) -> list[str]:
        return [f"{len(self._members)} members"]

    def _index(self, region: Region | None) -> tuple[slice, ...]:
        return (slice(None), *(whole(self.spatial_shape) if region is None else region))


def _exponential(values: Tensor) -> Tensor:
    """As numpy has it on the processor: the same of a value wherever it lies in memory."""
    if values.device.type != "cpu":
        return values.exp()
    return torch.from_numpy(np.exp(np.ascontiguousarray(values.numpy())))


def _logarithm(values: Tensor) -> Tensor:
    """As :func:`_exponential`; of a probability that has vanished, the least there is."""
    values = values.clamp(min=float(np.finfo(np.float32).tiny))
    if values.device.type != "cpu":
        return values.log()
    return torch.from_numpy(np.log(np.ascontiguousarray(values.numpy())))
