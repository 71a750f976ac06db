"""Latent decoders given strokes: a normal over the latents, found by weighing positions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_structseg.distributions.combination import Combination
from napari_structseg.distributions.conditioning.posterior import AtStrokes, lead
from napari_structseg.distributions.conditioning.said import Said
from napari_structseg.distributions.conditioning.settings import Conditioning

# Positions that are weighed in each round, and rounds at most.
_POSITIONS = 384
_ROUNDS = 10
# So many effective positions there have to be for their moments to be trusted: where there are
# fewer, the likelihood is tempered until there are.
_LEAST_EFFECTIVE = 64
# Stroke voxels that are looked at while positions are weighed; each counts for those left out.
_AT_MOST = 256
_BISECTIONS = 30
# Positions of the prior that are asked whether one of them can explain a voxel.
_PLAUSIBLE = 64


@dataclass(frozen=True, slots=True)
class Features:
    """A decoder at some voxels of one image.

    Attributes
    ----------
    combination
        The layers after the features' part of the first one.
    first
        That part, ``(H, n)``, float32.
    centre, sigma
        Mean and standard deviation of the latent prior, ``(L,)``.
    fixed
        Mean logits, ``(n, C)``.
    inside
        Where the decoder speaks, ``(n,)``; elsewhere the logits are fixed.
    """

    combination: Combination
    first: Tensor
    centre: Tensor
    sigma: Tensor
    fixed: Tensor
    inside: Tensor

    def picked(self, index: npt.NDArray[np.int64]) -> Features:
        """Some of the voxels."""
        at = torch.from_numpy(index)
        return replace(self, first=self.first[:, at], fixed=self.fixed[at], inside=self.inside[at])

    def decoded(self, xi: Tensor) -> Tensor:
        """Logits at positions ``(K, L)`` in standard deviations of the prior, ``(K, n, C)``."""
        layers = self.combination
        z = self.centre + self.sigma * xi
        hidden = (self.first + (z @ layers.latent.T)[..., None]).relu_()
        hidden = (layers.second @ hidden + layers.second_bias[:, None]).relu_()
        logits = (layers.last @ hidden + layers.last_bias[:, None]).movedim(1, 2)
        return torch.where(self.inside[:, None], logits, self.fixed).double()


@dataclass(frozen=True, slots=True)
class LatentEvidence:
    """Decoders at the stroke voxels: of one image, or of several slices with the same position.

    What was not corrected counts a tenth of what it does for a low-rank normal: a latent vector
    has few directions to overshoot in, and many an object is there in whole or not at all.
    """

    confirmed_share: ClassVar[float] = 0.1

    parts: tuple[Features, ...]

    @classmethod
    def joined(cls, parts: Sequence[LatentEvidence]) -> LatentEvidence:
        """The voxels of several slices, one slice after the other."""
        return cls(tuple(one for part in parts for one in part.parts))

    def picked(self, index: npt.NDArray[np.int64]) -> LatentEvidence:
        """Some of the voxels, by ascending index."""
        start, parts = 0, []
        for part in self.parts:
            stop = start + part.first.shape[1]
            first, last = np.searchsorted(index, (start, stop))
            parts.append(part.picked(index[first:last] - start))
            start = stop
        return LatentEvidence(tuple(parts))

    def posterior(self, said: Said, settings: Conditioning) -> LatentPosterior:
        """A normal over positions, by adaptive importance sampling.

        Positions are drawn from a normal, weighed by prior and likelihood over it, and the normal
        takes their weighted moments; the likelihood is tempered as long as too few positions would
        count (Cappe et al., *Adaptive importance sampling in general mixture classes*, 2008).
        All numbers are drawn from one frozen generator: the same strokes give the same posterior.
        """
        n_latents = len(self.parts[0].centre)
        seen, counted = _thinned(said.weight.numpy())
        thinned, targets = self.picked(seen), said.targets[torch.from_numpy(seen)]
        generator = torch.Generator().manual_seed(0)
        mean = torch.zeros(n_latents, dtype=torch.float64)
        root = torch.eye(n_latents, dtype=torch.float64)
        effective, power = 0.0, 0.0
        for _ in range(_ROUNDS):
            drawn = torch.randn((_POSITIONS, n_latents), generator=generator, dtype=torch.float64)
            xi = mean + drawn @ root
            logits = settings.sharpness * thinned.decoded(xi)
            likelihood = (logits.log_softmax(dim=-1) * targets).sum(dim=-1) @ counted
            # Prior over proposal, up to what is the same for all positions.
            ratio = (drawn.square().sum(dim=1) - xi.square().sum(dim=1)) / 2
            last, power = power, _power(ratio, likelihood)
            effective = _effective(ratio + likelihood)
            share = (ratio + power * likelihood).softmax(dim=0)
            mean = share @ xi
            centred = xi - mean
            root = _root(centred.T @ (share[:, None] * centred))
            if power == 1 == last:
                break
        plausible = torch.randn((_PLAUSIBLE, n_latents), generator=generator, dtype=torch.float64)
        known = AtStrokes(
            self.decoded(mean[None])[0],
            lead(self.decoded(plausible), said.labels).amax(dim=0),
            effective,
            _POSITIONS,
            tuple(mean.tolist()),
        )
        return LatentPosterior(mean.float(), root.float(), power, known)

    def decoded(self, xi: Tensor) -> Tensor:
        """Logits at some positions, ``(K, n, C)``, float64."""
        return torch.cat([part.decoded(xi.float()) for part in self.parts], dim=1)


@dataclass(frozen=True, slots=True)
class LatentPosterior:
    """Positions in the latent space follow N(mean, root root^T), in units of the prior.

    Attributes
    ----------
    mean
        ``(L,)``, float32.
    root
        Symmetric, ``(L, L)``: of all maps that make these positions of those of the prior, it
        moves them the least.
    power
        To which power the likelihood was taken: less than 1 where it leaves too few positions.
    at_strokes
        What is known there.
    """

    mean: Tensor
    root: Tensor
    power: float
    at_strokes: AtStrokes

    def position(self, xi: Tensor) -> Tensor:
        """Where a position of the prior goes, ``(L,)``."""
        return self.mean.to(xi.device) + self.root.to(xi.device) @ xi


def _thinned(
    weight: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.int64], Tensor]:
    """Some of the voxels, and their weights: each stands for those left out, too."""
    seen, counted = [], []
    for one in np.unique(weight):
        index = np.flatnonzero(weight == one)
        step = -(-len(index) // _AT_MOST)
        kept = index[step // 2 :: step]
        seen.append(kept)
        counted.append(np.full(len(kept), one * len(index) / len(kept)))
    every, weights = np.concatenate(seen), np.concatenate(counted)
    order = np.argsort(every)
    return every[order].astype(np.int64), torch.from_numpy(weights[order])


def _effective(log_weight: Tensor) -> float:
    """Effective number of weighted positions."""
    return float(1 / log_weight.softmax(dim=0).square().sum())


def _power(ratio: Tensor, likelihood: Tensor) -> float:
    """The largest power of the likelihood, at most 1, that leaves enough effective positions."""
    if _effective(ratio + likelihood) >= _LEAST_EFFECTIVE:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        is_enough = _effective(ratio + middle * likelihood) >= _LEAST_EFFECTIVE
        low, high = (middle, high) if is_enough else (low, middle)
    return low


def _root(covariance: Tensor) -> Tensor:
    """Symmetric square root, of a covariance that is kept from collapsing."""
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = (vectors * values.clamp(min=math.ulp(1.0)).sqrt()) @ vectors.T
    return root
