"""Slices of a volume, each with the distribution that a 2-D model gives for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_structseg.distributions.base import LatentDistribution, LogitDistribution
from napari_structseg.distributions.conditioning.corrected import (
    Conditionable,
    CutBefore,
    cannot_be_conditioned,
    conditioned,
)
from napari_structseg.distributions.conditioning.settings import DEFAULT, Conditioning
from napari_structseg.distributions.conditioning.stack import StackEvidence, StackPosterior, join
from napari_structseg.distributions.latent import principal_directions
from napari_structseg.distributions.noise import Noise
from napari_structseg.distributions.region import Region, whole
from napari_structseg.distributions.sampling import SampledDistribution
from napari_structseg.distributions.strokes import Strokes


class SliceStack(SampledDistribution):
    """Distributions of slices, stacked along an axis.

    All slices of a sample use the same noise. A 2-D model says nothing about how its slices go
    together; with the same standardised latents (or factors, or member of a finite set) what is
    large in one slice is large in the next, so that a sample is one hypothesis about a volume and
    not a new one in every slice. Means and latent priors stay those of each slice.

    Parameters
    ----------
    slices
        2-D distributions of one kind, of the same size.
    axis
        The new axis.

    Raises
    ------
    ValueError
        If there are no slices, or they differ in size or classes.
    """

    def __init__(self, slices: Sequence[LogitDistribution], axis: int) -> None:
        if len({(one.n_classes, one.spatial_shape) for one in slices}) != 1:
            raise ValueError("slices must be one or more of the same size and classes")
        self._slices = tuple(slices)
        self._axis = axis

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """Shape of the volume."""
        plane = self._slices[0].spatial_shape
        return (*plane[: self._axis], len(self._slices), *plane[self._axis :])

    @property
    def n_classes(self) -> int:
        """Number of classes C."""
        return self._slices[0].n_classes

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return self._slices[0].device

    @property
    def is_stochastic(self) -> bool:
        """Whether samples differ from the mean."""
        return self._slices[0].is_stochastic

    @property
    def tempers_noise(self) -> bool:
        """As for the slices."""
        return self._slices[0].tempers_noise

    @property
    def n_latents(self) -> int:
        """As for the slices: a position is in standard deviations of each one's own prior."""
        return self._slices[0].n_latents

    @property
    def n_coordinates(self) -> int:
        """As for the slices: all of them have the same position."""
        return self._slices[0].n_coordinates

    def mean(self, region: Region | None = None) -> Tensor:
        """Mean logits of a region, ``(C, *region)``, float32."""
        slices, plane = self._cut(region)
        return torch.stack([one.mean(plane) for one in slices], dim=1 + self._axis)

    def offset(self, noise: Noise, region: Region | None = None) -> Tensor:
        """What a sample adds to the mean in a region, ``(C, *region)``, float32."""
        return self.offsets([noise], region)[0]

    def offsets(self, noises: list[Noise], region: Region | None = None) -> Tensor:
        """What several samples add to the mean, ``(N, C, *region)``, float32."""
        slices, plane = self._cut(region)
        return torch.stack([one.offsets(noises, plane) for one in slices], dim=2 + self._axis)

    def crop(self, region: Region) -> SliceStack:
        """The distributions of a region, compact in memory."""
        slices, plane = self._cut(region)
        return self._hand_on(SliceStack([one.crop(plane) for one in slices], self._axis))

    def crop_on(self, plain: SliceStack, region: Region) -> SliceStack:
        """Of conditioned slices :meth:`crop`, made of the crop of the stack before."""
        slices, plane = self._cut(region)
        cut = [
            one.crop_on(before, plane) if isinstance(one, CutBefore) else one.crop(plane)
            for one, before in zip(slices, plain._slices, strict=True)
        ]
        return self._hand_on(SliceStack(cut, self._axis))

    def laid_out(self) -> SliceStack:
        """The same slices, each laid out."""
        slices = [
            one.laid_out() if isinstance(one, SampledDistribution) else one for one in self._slices
        ]
        return self._hand_on(SliceStack(slices, self._axis))

    def directions(self, region: Region | None = None) -> tuple[Tensor, Tensor]:
        """Latent directions by how much they change the segmentation of all slices together.

        Parameters
        ----------
        region
            Where to look; None: everywhere.

        Returns
        -------
        directions, strength
            As :meth:`LatentDecoder.directions`.

        Raises
        ------
        TypeError
            If the slices have no latent space.
        """
        slices, plane = self._cut(region)
        grams = []
        for one in slices:
            if not (one.n_latents and isinstance(one, LatentDistribution)):
                raise TypeError(f"{type(one).__name__} has no latent space")
            directions, strength = one.directions(plane)
            scaled = (directions * strength[:, None]).cpu().double()
            grams.append(scaled.T @ scaled)
        found = principal_directions(torch.stack(grams).mean(dim=0))
        return found[0].to(self.device), found[1].to(self.device)

    def conditioned(
        self, strokes: Strokes, settings: Conditioning = DEFAULT
    ) -> SampledDistribution:
        """The stack; strokes of any slice tell of all of them, which share a sample's noise.

        See :meth:`SampledDistribution.conditioned`, and :mod:`.conditioning`.
        """
        return conditioned(self, strokes, settings)

    def evidence_at(self, voxels: npt.NDArray[np.int64]) -> StackEvidence:
        """The slices at some voxels of the flattened volume, ``(n,)``."""
        return join(
            [
                (self._conditionable(number).evidence_at(plane), rows)
                for number, plane, rows in self._by_slice(voxels)
                if len(rows)
            ]
        )

    def given(
        self,
        posterior: StackPosterior,
        voxels: npt.NDArray[np.int64],
        _rows: npt.NDArray[np.int64],
    ) -> SliceStack:
        """The same slices, each with what is known of what they share."""
        place = np.argsort(posterior.order)
        return SliceStack(
            [
                self._conditionable(number).given(posterior.shared, plane, place[rows])
                for number, plane, rows in self._by_slice(voxels)
            ],
            self._axis,
        )

    def _by_slice(
        self, voxels: npt.NDArray[np.int64]
    ) -> Iterator[tuple[int, npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
        """Of each slice its number, and of the voxels in it: where, and which they are."""
        place = np.unravel_index(voxels, self.spatial_shape)
        along = [axis for number, axis in enumerate(place) if number != self._axis]
        plane = np.ravel_multi_index(tuple(along), self._slices[0].spatial_shape)
        for number in range(len(self._slices)):
            rows = np.flatnonzero(place[self._axis] == number)
            yield number, np.asarray(plane[rows], np.int64), rows.astype(np.int64)

    def _conditionable(self, number: int) -> Conditionable:
        one = self._slices[number]
        if not isinstance(one, Conditionable):
            raise cannot_be_conditioned(one)
        return one

    def _details(self) -> list[str]:
        return [f"slices of {type(self._slices[0]).__name__}"]

    def _cut(self, region: Region | None) -> tuple[tuple[LogitDistribution, ...], Region]:
        """The slices of a region, and the region of each."""
        region = whole(self.spatial_shape) if region is None else region
        plane = (*region[: self._axis], *region[self._axis + 1 :])
        return self._slices[region[self._axis]], plane
