r"""Conditioning a low-rank normal on strokes, in the space of its factors.

With :math:`\eta = \mu + P z + \sqrt{D} \epsilon` and sites W, b at the stroke voxels H, the
posterior has the mean :math:`\mu + (P P_H^T + D_H) q`, where
:math:`q = (I + W K)^{-1} (b - W \mu_H)` and :math:`K = P_H P_H^T + D_H`. Inverses are taken in rank
space (Woodbury): O(n C R^2 + R^3), whatever the size of the image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_structseg.distributions.conditioning.kept_noise import KeptNoise
from napari_structseg.distributions.conditioning.posterior import AtStrokes
from napari_structseg.distributions.conditioning.said import Said
from napari_structseg.distributions.conditioning.settings import Conditioning
from napari_structseg.distributions.conditioning.sites import Damped, Sites
from napari_structseg.distributions.noise import Noise

_NEWTON_STEPS = 60
_HALVINGS = 30
# Newton's method squares the error: after a step as small as this one next to nothing is left of
# it, and nothing after the step more that the posterior of the sites is.
_CONVERGED = 1e-2
# Standard deviations within which a model is said to be able to explain a voxel.
_PLAUSIBLE = 3.0
# Samples of which the correction is kept.
_KEPT_SAMPLES = 32


def _flat(factor: Tensor) -> Tensor:
    """P with classes and voxels in one axis, ``(R, C n)``; no copy, see :class:`Gaussian`."""
    return factor.permute(2, 1, 0).flatten(1)


def _inner(factor: Tensor, q: Tensor) -> Tensor:
    """P^T q, ``(R,)``."""
    return _flat(factor) @ q.T.flatten()


def _outer(factor: Tensor, z: Tensor) -> Tensor:
    """P z, ``(n, C)``."""
    values: Tensor = (z @ _flat(factor)).unflatten(0, (factor.shape[1], len(factor))).T
    return values


class Woodbury:
    """(I + W K)^-1 with K = P P^T + D, for sites W.

    Parameters
    ----------
    damped
        W beside D.
    factor
        P at the voxels, ``(n, C, R)``.
    gram
        P^T (W^-1 + D)^-1 P, where it is known; it is what takes the time.
    """

    def __init__(self, damped: Damped, factor: Tensor, gram: Tensor | None = None) -> None:
        self._damped = damped
        self._factor = factor
        self.gram = damped.gram(factor.permute(2, 1, 0)) if gram is None else gram
        eye = torch.eye(len(self.gram), dtype=self.gram.dtype)
        self.cholesky = torch.linalg.cholesky(self.gram + eye)

    def widened(self, scale: float) -> Woodbury:
        """The same of a factor that is so many times as large."""
        return Woodbury(self._damped, scale * self._factor, scale**2 * self.gram)

    def solve(self, x: Tensor) -> Tensor:
        """(I + W K)^-1 x, ``(n, C)``."""
        solved = self._damped.solve(x)
        inner = torch.cholesky_solve(_inner(self._factor, solved)[:, None], self.cholesky)[:, 0]
        return solved - self._damped.precision(_outer(self._factor, inner))


@dataclass(frozen=True, slots=True)
class Gaussian:
    """The normal at some voxels, float64, on the processor.

    The voxels are last in memory, though they come first: sums over classes and products with P
    then go over long rows. Other orders give the same numbers, and take several times as long.

    Attributes
    ----------
    mean, variance
        mu and the diagonal D, ``(n, C)``.
    factor
        P, ``(n, C, R)``.
    """

    mean: Tensor
    factor: Tensor
    variance: Tensor

    @classmethod
    def joined(cls, parts: Sequence[Gaussian]) -> Gaussian:
        """Of the voxels of several parts, one part after the other."""
        return cls(
            torch.cat([one.mean.T for one in parts], dim=1).T,
            torch.cat([one.factor.permute(2, 1, 0) for one in parts], dim=2).permute(2, 1, 0),
            torch.cat([one.variance.T for one in parts], dim=1).T,
        )

    def picked(self, index: Tensor) -> Gaussian:
        """Of some of the voxels."""
        return Gaussian(
            self.mean.T[:, index].T,
            self.factor.permute(2, 1, 0)[:, :, index].permute(2, 1, 0),
            self.variance.T[:, index].T,
        )

    def covariance_times(self, q: Tensor) -> Tensor:
        """(P P^T + D) q, ``(n, C)``."""
        return self.explained_by(q) + self.variance * q

    def explained_by(self, q: Tensor) -> Tensor:
        """P P^T q: without the noise that each voxel has of its own."""
        return _outer(self.factor, _inner(self.factor, q))

    def woodbury(self, sites: Sites) -> Woodbury:
        """(I + W K)^-1 of these voxels."""
        return Woodbury(sites.damped(self.variance), self.factor)

    def given(self, sites: Sites, woodbury: Woodbury | None = None) -> Tensor:
        """The q of the posterior, ``(n, C)``: its mean is that of before plus K q."""
        woodbury = self.woodbury(sites) if woodbury is None else woodbury
        return woodbury.solve(sites.b - sites.curvature(self.mean))

    def widened(self, scale: float) -> Gaussian:
        """The same with a prior of the factors that is so many times as wide."""
        return Gaussian(self.mean, scale * self.factor, self.variance)

    def laplace(self, said: Said, sharpness: float) -> Sites:
        """Sites of the softmax likelihood of what is said, around the mode of the posterior.

        Newton's method (Rasmussen and Williams, 2006, algorithm 3.3). The posterior is
        log-concave; steps that would lower it are halved.
        """
        # Logits are mean + moved, with moved = K q.
        q = moved = torch.zeros_like(self.mean)
        here = self._log_posterior(q, moved, said, sharpness)
        sites = Sites.softmax(self.mean, said, sharpness)
        for _ in range(_NEWTON_STEPS):
            step = self.given(sites) - q
            moved_step = self.covariance_times(step)
            length, there = 1.0, -math.inf
            for _ in range(_HALVINGS):
                there = self._log_posterior(
                    q + length * step, moved + length * moved_step, said, sharpness
                )
                if there >= here:
                    break
                length /= 2
            if there < here:
                # No length helps: the mode is reached, to rounding.
                break
            q, moved, here = q + length * step, moved + length * moved_step, there
            sites = Sites.softmax(self.mean + moved, said, sharpness)
            if length * step.abs().max() < _CONVERGED:
                break
        return sites

    def reachable(self, labels: Tensor) -> Tensor:
        """Margin of each label that is 3 standard deviations of the factors away, ``(n,)``.

        Over its strongest rival, and each voxel alone.
        """
        index = labels[None]
        mean, factor = self.mean.T, self.factor.permute(2, 1, 0)
        own = factor.gather(1, index.expand(len(factor), 1, -1))
        reached = mean.gather(0, index) - mean
        reached += _PLAUSIBLE * (own - factor).square_().sum(dim=0).sqrt_()
        strongest: Tensor = reached.scatter(0, index, math.inf).amin(dim=0)
        return strongest

    def _log_posterior(self, q: Tensor, moved: Tensor, said: Said, sharpness: float) -> float:
        """Up to a constant."""
        logarithm = (sharpness * (self.mean + moved)).T.log_softmax(dim=0).T
        likelihood = (said.weight * (said.targets * logarithm).sum(dim=1)).sum()
        return float(likelihood - (q * moved).sum() / 2)


@dataclass(frozen=True, slots=True)
class Source:
    """Where the noise of some stroke voxels comes from.

    Attributes
    ----------
    grid_shape
        Shape of the image whose noise it is.
    voxels
        Index of each voxel in it, flattened, ascending, ``(n,)``.
    kept
        What was drawn of it before, for other strokes.
    """

    grid_shape: tuple[int, ...]
    voxels: npt.NDArray[np.int64]
    kept: KeptNoise


@dataclass(frozen=True, slots=True)
class RankEvidence:
    """A low-rank normal at the stroke voxels.

    Attributes
    ----------
    normal
        There, not scaled.
    scale
        Temperature times class scale of the calibrated model, ``(C,)``: it is this distribution
        that is conditioned.
    sources
        Of the noise, in the order of the voxels.
    """

    confirmed_share: ClassVar[float] = 1.0

    normal: Gaussian
    scale: Tensor
    sources: tuple[Source, ...]

    @classmethod
    def joined(cls, parts: Sequence[RankEvidence]) -> RankEvidence:
        """The voxels of several slices with the same factors, one slice after the other."""
        normal = Gaussian.joined([part.normal for part in parts])
        sources = tuple(source for part in parts for source in part.sources)
        return cls(normal, parts[0].scale, sources)

    def picked(self, index: npt.NDArray[np.int64]) -> RankEvidence:
        """Some of the voxels, by ascending index."""
        sources, start = [], 0
        for source in self.sources:
            stop = start + len(source.voxels)
            first, last = np.searchsorted(index, (start, stop))
            picked = source.voxels[index[first:last] - start]
            sources.append(Source(source.grid_shape, picked, source.kept))
            start = stop
        return RankEvidence(self.normal.picked(torch.from_numpy(index)), self.scale, tuple(sources))

    def posterior(self, said: Said, settings: Conditioning) -> RankPosterior:
        """What is known of the factors once something is said of the voxels."""
        wide = self._scaled().widened(settings.prior_scale)
        sites = wide.laplace(said, settings.sharpness)
        reachable = wide.reachable(said.targets.argmax(dim=1))
        return RankPosterior(self, sites, settings.prior_scale, reachable)

    def given(self, sites: Sites) -> RankPosterior:
        """What is known of the factors given observations of another kind."""
        return RankPosterior(self, sites, 1.0, torch.full_like(sites.k, math.inf))

    def _scaled(self) -> Gaussian:
        normal, scale = self.normal, self.scale
        return Gaussian(
            normal.mean, normal.factor * scale[:, None], normal.variance * scale.square()
        )


class RankPosterior:
    """What is known of the factors z once something is said of some voxels.

    Attributes
    ----------
    shift
        Posterior mean of z, ``(R,)``, float64.
    scale
        As :attr:`RankEvidence.scale`.
    at_strokes
        What is known there, by the factors alone.
    own_mean
        What the noise of a stroke voxel adds to its own mean logits, ``(n, C)``.
    """

    def __init__(
        self, evidence: RankEvidence, sites: Sites, prior_scale: float, reachable: Tensor
    ) -> None:
        self._evidence = evidence
        self._normal = normal = evidence._scaled()
        self._sites = sites
        self._woodbury = normal.woodbury(sites)
        wide = normal.widened(prior_scale)
        q = wide.given(sites, self._woodbury.widened(prior_scale))
        # A volume asks for the same samples slab by slab.
        self._corrected: dict[Noise, tuple[Tensor, Tensor]] = {}
        self.scale = evidence.scale
        self.shift = prior_scale * _inner(wide.factor, q)
        self.own_mean = normal.variance * q
        self.at_strokes = AtStrokes(normal.mean + wide.explained_by(q), reachable)

    @property
    def covariance(self) -> Tensor:
        """Posterior covariance of z, ``(R, R)``, float64."""
        return torch.cholesky_inverse(self._woodbury.cholesky)

    @cached_property
    def _root(self) -> Tensor:
        """Symmetric root of the posterior covariance, ``(R, R)``."""
        values, vectors = torch.linalg.eigh(self.covariance)
        root: Tensor = vectors * values.clamp(min=0).sqrt() @ vectors.T
        return root

    def corrected(self, noise: Noise) -> tuple[Tensor, Tensor]:
        """The noise of a sample, corrected such that the sample is one of the posterior.

        Matheron's rule (Journel and Huijbregts, *Mining Geostatistics*, 1978): a sample of the
        prior is corrected by what it is wrong by at the strokes, itself with noise. So it stays
        as it was where it is right, and where the strokes say nothing.

        A chosen position is in standard deviations of the posterior, and without noise: the
        factors are L z with L the symmetric root of the posterior covariance, so that positions
        reach as far as samples do. Matheron's rule without its noise would not.

        Parameters
        ----------
        noise
            Of a sample.

        Returns
        -------
        factors
            ``(R,)``, float32.
        own
            What is added to the offset of each stroke voxel besides, ``(n, C)``, float32.
        """
        known = self._corrected.pop(noise, None)
        if known is None:
            while len(self._corrected) >= _KEPT_SAMPLES:
                del self._corrected[next(iter(self._corrected))]
            known = self._correct(noise)
        # The least recently used comes first.
        self._corrected[noise] = known
        return known

    def _correct(self, noise: Noise) -> tuple[Tensor, Tensor]:
        normal, evidence = self._normal, self._evidence
        n_classes, rank = normal.factor.shape[1:]
        z = noise.factors(rank).double()
        if noise.position:
            return (self._root @ z).float(), torch.zeros(normal.mean.shape)
        draws = {"voxels": noise.voxels_at, "strokes": noise.strokes_at}
        eps, xi = (
            torch.cat(
                [
                    one.kept.at(
                        (noise, name, number), one.voxels, partial(draw, n_classes, one.grid_shape)
                    )
                    for number, one in enumerate(evidence.sources)
                ],
                dim=1,
            )
            for name, draw in draws.items()
        )
        offset = _outer(normal.factor, z) + normal.variance.sqrt() * eps.T.double()
        wrong = self._sites.root(xi.T.double()) - self._sites.curvature(offset)
        u = self._woodbury.solve(wrong)
        z = z + _inner(normal.factor, u)
        own = evidence.normal.variance * self.scale * u
        return z.float(), own.float()
