"""What a researcher asks of a distribution: samples, probabilities, entropy, volumes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_structseg.distributions.base import LogitDistribution
from napari_structseg.distributions.conditioning.settings import DEFAULT, Conditioning
from napari_structseg.distributions.domain import DomainCheck
from napari_structseg.distributions.labelling import argmax_labels, combine
from napari_structseg.distributions.noise import Noise
from napari_structseg.distributions.region import Region, slabs
from napari_structseg.distributions.spread import Spread
from napari_structseg.distributions.strokes import Strokes
from napari_structseg.errors import ConfigError, InputError
from napari_structseg.memory import check_memory

# As many as the dock looks at: 5 % and 95 % are exactly one sample in and one sample out.
N_SAMPLES = 20
SEED = 7
# Voxels that are drawn at a time, and samples: together they stay below some 50 MB.
_SLAB_VOXELS = 1 << 17
_BATCH = 16

_Crop = TypeVar("_Crop", bound="SampledDistribution")


@runtime_checkable
class SampledDistribution(LogitDistribution, Protocol):
    """A distribution over logits that draws from itself.

    Every kind inherits these methods. Sample ``k`` of a seed, counted from 1, is
    ``Noise(seed, k)``: the one that the dock and the command line call ``k``. What is drawn is
    of the distribution alone, before an MRF refines it.

    Labels, probabilities, entropy and volumes are numpy arrays on the image's grid; logits are
    tensors on :attr:`device`.

    Attributes
    ----------
    refined_by
        The MRF of the model that gave this distribution, on the axes of its image; None: it has
        none. :func:`napari_structseg.render_labels` uses it where the controls ask for it.
    calibrated
        Where temperature and class scales start; None: at 1.
    domain
        What of the image is outside what the model was made for; None: the model does not say.
    confirmed
        What conditioning keeps from one set of strokes to the next; None: nothing yet.
    """

    # An object: the MRFs are in another room, and nothing here looks into it.
    refined_by: object | None = None
    calibrated: Spread | None = None
    domain: DomainCheck | None = None
    confirmed: object | None = None

    @property
    def n_coordinates(self) -> int:
        """As many as there are latent dimensions, unless a kind says otherwise."""
        return self.n_latents

    def sample(
        self,
        n: int = N_SAMPLES,
        *,
        seed: int = SEED,
        temperature: float | None = None,
        class_scale: Sequence[float] = (),
    ) -> npt.NDArray[np.uint8]:
        """Draw segmentations.

        Parameters
        ----------
        n
            How many: samples 1 to n of the series.
        seed
            Which series.
        temperature
            How far samples stray from the mean; 0: not at all. None: as the model was
            calibrated, else 1.
        class_scale
            What the offset of each class is multiplied with, ``(C,)``. Empty: as the model was
            calibrated, else 1.

        Returns
        -------
        ndarray
            Labels, ``(n, *spatial)``, uint8.

        Raises
        ------
        ConfigError
            If a number is out of its range.
        MemoryLimitError
            If the samples would not fit into memory.

        Examples
        --------
        >>> mean = torch.zeros(2, 4, 4)
        >>> mean[0, 0] = 9.0
        >>> PointLogits(mean).sample(3).shape
        (3, 4, 4)
        """
        draw = _Draw(self, n, seed, temperature, class_scale)
        check_memory(n * math.prod(self.spatial_shape), f"Keeping {n} samples")
        labels = np.empty((n, *self.spatial_shape), np.uint8)
        for region, sample, mean, offset in draw.regions():
            drawn = argmax_labels(mean, offset, draw.weights)
            labels[sample][region] = drawn.cpu().numpy()
        return labels

    def sample_logits(
        self,
        n: int = N_SAMPLES,
        *,
        seed: int = SEED,
        temperature: float | None = None,
        class_scale: Sequence[float] = (),
    ) -> Tensor:
        """Draw logits: as :meth:`sample`, before the largest is chosen.

        Returns
        -------
        Tensor
            ``(n, C, *spatial)``, float32.
        """
        draw = _Draw(self, n, seed, temperature, class_scale)
        shape = (n, self.n_classes, *self.spatial_shape)
        check_memory(
            math.prod(shape) * torch.float32.itemsize, f"Keeping the logits of {n} samples"
        )
        logits = torch.empty(shape, device=self.device)
        for region, sample, mean, offset in draw.regions():
            logits[sample][(slice(None), *region)] = combine(mean, offset, draw.weights)
        return logits

    def probabilities(
        self,
        n: int = N_SAMPLES,
        *,
        seed: int = SEED,
        temperature: float | None = None,
        class_scale: Sequence[float] = (),
    ) -> npt.NDArray[np.float32]:
        """Marginal class probabilities: the mean of the softmax of n samples.

        Parameters and errors are those of :meth:`sample`.

        Returns
        -------
        ndarray
            ``(C, *spatial)``, float32, summing to one over classes.
        """
        draw = _Draw(self, n, seed, temperature, class_scale)
        shape = (self.n_classes, *self.spatial_shape)
        check_memory(math.prod(shape) * torch.float32.itemsize, "Keeping the probabilities")
        total = torch.zeros(shape)
        for region, _, mean, offset in draw.regions():
            softmax = combine(mean, offset, draw.weights).softmax(dim=0)
            total[(slice(None), *region)] += softmax.cpu()
        result: npt.NDArray[np.float32] = total.div_(n).numpy()
        return result

    def entropy(
        self,
        n: int = N_SAMPLES,
        *,
        seed: int = SEED,
        temperature: float | None = None,
        class_scale: Sequence[float] = (),
    ) -> npt.NDArray[np.float32]:
        """Entropy of :meth:`probabilities` in nats, ``(*spatial)``, from 0 to ln C."""
        probability = self.probabilities(
            n, seed=seed, temperature=temperature, class_scale=class_scale
        )
        entropy: npt.NDArray[np.float32] = (
            torch.special.entr(torch.from_numpy(probability)).sum(dim=0).numpy()
        )
        return entropy

    def volumes_ml(
        self,
        n: int,
        voxel_volume_ml: float,
        *,
        seed: int = SEED,
        temperature: float | None = None,
        class_scale: Sequence[float] = (),
    ) -> npt.NDArray[np.float64]:
        """Volume of each class in each of n samples; no sample is kept.

        Parameters
        ----------
        n, seed, temperature, class_scale
            As for :meth:`sample`.
        voxel_volume_ml
            Volume of a voxel in mL: ``image.voxel_volume_ml``.

        Returns
        -------
        ndarray
            mL, ``(n, C)``, float64.
        """
        draw = _Draw(self, n, seed, temperature, class_scale)
        counts = np.zeros((n, self.n_classes))
        for _, sample, mean, offset in draw.regions():
            labels = argmax_labels(mean, offset, draw.weights).flatten().cpu().numpy()
            counts[sample] += np.bincount(labels, minlength=self.n_classes)
        volumes: npt.NDArray[np.float64] = counts * np.float64(voxel_volume_ml)
        return volumes

    def conditioned(
        self, strokes: Strokes, settings: Conditioning = DEFAULT
    ) -> SampledDistribution:
        """The distribution once it is known which class some voxels have.

        Every stroke voxel has its class in the mean and in every sample, whatever temperature and
        class scales. What else changes is up to the kind of distribution: the common factors of
        all voxels follow their posterior. What they cannot explain changes only the voxels near
        by. A sample stays the same hypothesis, corrected.

        Parameters
        ----------
        strokes
            What was said. Nothing: this distribution itself.
        settings
            How it is taken.

        Raises
        ------
        InputError
            If the strokes are of another image, or of a class that there is not, or if this kind
            of distribution cannot be conditioned.
        """
        raise InputError(
            f"A distribution that strokes can condition was expected, but {type(self).__name__} "
            "says nothing of how. Condition the distribution of the whole image that a model gave."
        )

    def laid_out(self) -> SampledDistribution:
        """The same distribution, of a slice that is looked at again and again.

        It may take more memory, and gives the same numbers sooner.
        """
        return self

    def _hand_on(self, crop: _Crop) -> _Crop:
        """A crop, calibrated as the whole."""
        crop.calibrated = self.calibrated
        return crop

    def __repr__(self) -> str:
        size = " x ".join(str(length) for length in self.spatial_shape)
        parts = [f"{self.n_classes} classes", *self._details(), f"{size} voxels", str(self.device)]
        return f"{type(self).__name__}({', '.join(parts)})"

    def _details(self) -> list[str]:
        """What else is worth saying of this kind."""
        return []


class _Draw:
    """The checked settings of a draw, and its samples slab by slab."""

    def __init__(
        self,
        distribution: SampledDistribution,
        n: int,
        seed: int,
        temperature: float | None,
        class_scale: Sequence[float],
    ) -> None:
        n_classes = distribution.n_classes
        start = distribution.calibrated or Spread.neutral(n_classes)
        temperature = start.temperature if temperature is None else temperature
        scale = tuple(float(one) for one in class_scale) or start.class_scale
        if n < 1:
            raise ConfigError(f"The number of samples must be 1 or more, but it is {n}.")
        if not (math.isfinite(temperature) and temperature >= 0):
            raise ConfigError(
                f"The temperature must be a finite number, 0 or more, but it is {temperature}."
            )
        if len(scale) != n_classes or not all(math.isfinite(one) for one in scale):
            raise ConfigError(
                f"class_scale must be one finite number for each of {n_classes} classes, or empty, "
                f"but it is {tuple(class_scale)}."
            )
        self._distribution = distribution
        self._n = n
        self._noise = Noise(seed, 1)
        # See LogitDistribution.tempers_noise: temperature acts on the noise or on the offset.
        if distribution.tempers_noise:
            self._noise = Noise(seed, 1, scale=temperature)
            temperature = 1.0
        self.weights = tuple(temperature * one for one in scale)

    def regions(self) -> Iterator[tuple[Region, int, Tensor, Tensor]]:
        """Slab, index of the sample from 0, mean and offset ``(C, *slab)``."""
        distribution = self._distribution
        with torch.inference_mode():
            for region in slabs(distribution.spatial_shape, _SLAB_VOXELS):
                mean = distribution.mean(region)
                for start in range(0, self._n, _BATCH):
                    numbers = range(start + 1, min(start + _BATCH, self._n) + 1)
                    noises = [replace(self._noise, sample=number) for number in numbers]
                    offsets = distribution.offsets(noises, region)
                    for index, offset in enumerate(offsets, start=start):
                        yield region, index, mean, offset
