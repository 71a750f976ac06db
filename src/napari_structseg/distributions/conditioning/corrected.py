"""A distribution of which every stroke voxel has its class."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_structseg.distributions.base import LatentDistribution, LogitDistribution
from napari_structseg.distributions.conditioning.confirmed import Confirmed, candidates
from napari_structseg.distributions.conditioning.explanation import Explanation
from napari_structseg.distributions.conditioning.lacking import Lacking, everywhere
from napari_structseg.distributions.conditioning.local import LocalTerm
from napari_structseg.distributions.conditioning.posterior import AtStrokes, lead
from napari_structseg.distributions.conditioning.said import Said
from napari_structseg.distributions.conditioning.settings import Conditioning
from napari_structseg.distributions.noise import Noise
from napari_structseg.distributions.one_thread import one_thread
from napari_structseg.distributions.region import Region
from napari_structseg.distributions.sampling import SampledDistribution
from napari_structseg.distributions.strokes import Strokes
from napari_structseg.errors import InputError

IntArray = npt.NDArray[np.int64]


class Posterior(Protocol):
    """What is known of what all voxels have in common, once strokes are."""

    @property
    def at_strokes(self) -> AtStrokes:
        """What is known at the stroke voxels."""
        ...


@runtime_checkable
class Conditionable(LogitDistribution, Protocol):
    """A distribution that strokes can condition."""

    def evidence_at(self, voxels: IntArray) -> Any:  # noqa: ANN401 -- each kind has its own
        """The distribution at some voxels of the flattened image, ``(n,)``."""
        ...

    def given(
        self,
        posterior: Any,  # noqa: ANN401 -- each kind has its own
        voxels: IntArray,
        rows: IntArray,
    ) -> LogitDistribution:
        """The same with the posterior, some rows of whose voxels are in this image."""
        ...


@runtime_checkable
class CutBefore(Protocol):
    """A conditioned kind that can be made of a crop of what was conditioned."""

    def crop_on(self, plain: Any, region: Region) -> LogitDistribution:  # noqa: ANN401 -- as above
        """The conditioned distribution of a region, made of the crop of the one before."""
        ...


class Corrected(SampledDistribution):
    """A conditioned distribution with its local term.

    Parameters
    ----------
    inner
        The model given the strokes.
    term
        What is changed besides, where the strokes are.
    """

    def __init__(self, inner: LogitDistribution, term: LocalTerm | Lacking) -> None:
        self._inner = inner
        self._given = term
        self._before: tuple[SampledDistribution, Strokes, Conditioning] | None = None
        self._explanation: Explanation | None = None

    @cached_property
    def _term(self) -> LocalTerm:
        """The term of the whole image: where only a slice is looked at, it is never made."""
        return self._given if isinstance(self._given, LocalTerm) else self._given.everywhere()

    def _term_inside(self, region: Region) -> LocalTerm:
        # Where the whole is there already, a part of it costs less.
        if isinstance(self._given, Lacking) and "_term" not in self.__dict__:
            part = self._given.within(region)
            if part is not None:
                return part
        return self._term.inside(region)

    @property
    def explanation(self) -> Explanation:
        """How well the model explains the strokes.

        Raises
        ------
        InputError
            Of a crop.
        """
        if self._explanation is None:
            raise _of_a_part()
        return self._explanation

    @property
    def model_alone(self) -> LogitDistribution:
        """What the model makes of the strokes, without the local term."""
        return self._inner

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """Shape of the image."""
        return self._inner.spatial_shape

    @property
    def n_classes(self) -> int:
        """Number of classes C."""
        return self._inner.n_classes

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return self._inner.device

    @property
    def is_stochastic(self) -> bool:
        """Whether samples differ from the mean."""
        return self._inner.is_stochastic

    @property
    def tempers_noise(self) -> bool:
        """As before."""
        return self._inner.tempers_noise

    @property
    def n_latents(self) -> int:
        """As before: a chosen position is one of the latent prior, and stays what it was."""
        return self._inner.n_latents

    @property
    def n_coordinates(self) -> int:
        """As before: a chosen position is corrected like the coordinates of a sample."""
        return self._inner.n_coordinates

    def mean(self, region: Region | None = None) -> Tensor:
        """Mean logits of a region, ``(C, *region)``, float32."""
        return self._term.on_mean(self._inner.mean(region), region)

    def offset(self, noise: Noise, region: Region | None = None) -> Tensor:
        """What a sample adds to the mean in a region, ``(C, *region)``, float32."""
        return self.offsets([noise], region)[0]

    def offsets(self, noises: list[Noise], region: Region | None = None) -> Tensor:
        """What several samples add to the mean, ``(N, C, *region)``, float32."""
        offsets = self._inner.offsets(noises, region)
        self._term.on_offsets_(offsets, region)
        return offsets

    def directions(self, region: Region | None = None) -> tuple[Tensor, Tensor]:
        """Latent directions, as :meth:`LatentDistribution.directions`.

        Raises
        ------
        TypeError
            If there is no latent space.
        """
        inner = self._inner
        if not (inner.n_latents and isinstance(inner, LatentDistribution)):
            raise TypeError(f"{type(inner).__name__} has no latent space")
        return inner.directions(region)

    def crop(self, region: Region) -> Corrected:
        """The distribution of a region: that of all strokes, not of those in it."""
        return self._hand_on(Corrected(self._inner.crop(region), self._term_inside(region)))

    def crop_on(self, plain: LogitDistribution, region: Region) -> Corrected:
        """As :meth:`crop`, made of what is kept of a slice from one stroke to the next.

        Parameters
        ----------
        plain
            The crop of the distribution before it was conditioned, perhaps laid out.
        region
            What of the image that is.
        """
        inner = self._inner
        cut = inner.crop_on(plain, region) if isinstance(inner, CutBefore) else inner.crop(region)
        return self._hand_on(Corrected(cut, self._term_inside(region)))

    def conditioned(
        self, strokes: Strokes, settings: Conditioning | None = None
    ) -> SampledDistribution:
        """What is there once more is said: as if all had been said at once.

        Raises
        ------
        InputError
            As :meth:`SampledDistribution.conditioned`, and of a crop.
        """
        if self._before is None:
            raise _of_a_part()
        plain, before, as_before = self._before
        both = before.merged(strokes.checked_for(self.spatial_shape, self.n_classes))
        return plain.conditioned(both, settings or as_before)

    def _details(self) -> list[str]:
        return [f"{type(self._inner).__name__} given strokes"]


def _of_a_part() -> InputError:
    return InputError(
        "Strokes are taken for a whole image, but this distribution is of a part of one. Condition "
        "the distribution of the whole, and crop it then."
    )


def cannot_be_conditioned(distribution: LogitDistribution) -> InputError:
    """The error of a kind that says nothing of strokes."""
    kind = type(distribution).__name__
    return InputError(
        f"A distribution that strokes can condition was expected, but {kind} says nothing of how. "
        "Condition the distribution of the whole image that a model gave."
    )


def conditioned(
    distribution: SampledDistribution, strokes: Strokes, settings: Conditioning
) -> SampledDistribution:
    """A distribution given strokes, see :meth:`SampledDistribution.conditioned`."""
    strokes.checked_for(distribution.spatial_shape, distribution.n_classes)
    if not len(strokes):
        return distribution
    if not isinstance(distribution, Conditionable):
        raise cannot_be_conditioned(distribution)
    evidence, voxels = distribution.evidence_at(strokes.voxels), strokes.voxels
    said = Said.strokes(strokes.labels, distribution.n_classes, settings.weight)
    # How much this kind makes of what was not corrected.
    confirmed_weight = settings.confirmed * evidence.confirmed_share
    if confirmed_weight and settings.n_confirmed:
        confirmed = _confirmed_of(distribution, settings.n_confirmed)
        apart = confirmed.apart_from(strokes)
        evidence = type(evidence).joined([evidence, confirmed.evidence.picked(apart)])
        voxels = np.concatenate([voxels, confirmed.voxels[apart]])
        said = Said.joined(
            [said, confirmed.said(confirmed_weight, settings.sharpness).picked(apart)]
        )
    with one_thread():
        posterior: Posterior = evidence.posterior(said, settings)
    given = distribution.given(posterior, voxels, np.arange(len(voxels)))
    known = posterior.at_strokes.picked(np.arange(len(strokes)))
    leads = lead(known.logits, strokes.labels).numpy()
    missing = np.maximum(settings.margin - leads, 0)
    reach = everywhere(settings.reach, len(strokes.shape))
    result = Corrected(given, Lacking(strokes, missing, distribution.n_classes, reach))
    result._before = (distribution, strokes, settings)
    result._explanation = Explanation(
        leads >= settings.margin,
        known.reachable.numpy() >= settings.margin,
        known.effective,
        known.scored,
        known.latent,
    )
    result.calibrated, result.domain = distribution.calibrated, distribution.domain
    result.refined_by = distribution.refined_by
    return result


def _confirmed_of(distribution: SampledDistribution, n_voxels: int) -> Confirmed:
    """Voxels that are confirmed, gathered once for a distribution and kept with it."""
    kept = distribution.confirmed
    if not isinstance(kept, Confirmed) or kept.wanted != n_voxels:
        if not isinstance(distribution, Conditionable):
            raise cannot_be_conditioned(distribution)
        voxels, logits = candidates(distribution, n_voxels)
        positions = np.stack(np.unravel_index(voxels, distribution.spatial_shape), axis=1)
        evidence = distribution.evidence_at(voxels)
        kept = Confirmed(n_voxels, voxels, positions.astype(np.int64), logits, evidence)
        distribution.confirmed = kept
    return kept
