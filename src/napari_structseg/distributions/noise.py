"""Noise: the frozen random numbers behind one sample.

The same noise with other controls is the same hypothesis, changed. It is a pure function of
(seed, sample, class, voxel): any region of a volume can be drawn on its own, in any order and
on any device, without drawing or keeping the rest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_structseg.distributions.one_thread import chunks, inverse_error_function_
from napari_structseg.distributions.region import Region, region_shape, whole

_MASK64 = (1 << 64) - 1
_VOXEL_STREAM, _FACTOR_STREAM, _MEMBER_STREAM = 0, 1, 2
_BELOW_ONE = 1 - 2.0**-23


@dataclass(frozen=True, slots=True)
class Noise:
    """Standard normal numbers for one sample.

    Attributes
    ----------
    seed
        Which series of samples.
    sample
        Which sample of the series, from 1.
    scale
        What all numbers are multiplied with: the temperature, where it acts on the noise.
    position
        Chosen values of the factors, before they are scaled; empty: they are drawn.

    Examples
    --------
    >>> noise = Noise(seed=7, sample=1)
    >>> volume = noise.voxels(2, (4, 6, 8))
    >>> slab = noise.voxels(2, (4, 6, 8), (slice(1, 2), slice(None), slice(None)))
    >>> bool((volume[:, 1:2] == slab).all())
    True
    """

    seed: int
    sample: int
    scale: float = 1.0
    position: tuple[float, ...] = ()

    def factors(self, rank: int, device: torch.device | str = "cpu") -> Tensor:
        """The low-rank or latent coordinates z ~ N(0, I), shape ``(R,)``, float32.

        Raises
        ------
        ValueError
            If another number of coordinates was chosen.
        """
        if self.position:
            if len(self.position) != rank:
                raise ValueError(f"{len(self.position)} coordinates were chosen for rank {rank}")
            z = torch.tensor(self.position)
        else:
            z = _normal(torch.arange(rank, dtype=torch.int32), self._key(_FACTOR_STREAM))
        return (z * self.scale).to(device)

    def member(self, n_members: int) -> int:
        """Which member of a finite set the sample is, from 0.

        Every member once, in an order of its own, in each run of ``n_members`` samples: the
        first few samples already show all there is, and frequencies are exact.
        """
        block, place = divmod(self.sample - 1, n_members)
        key = _splitmix64(self._key(_MEMBER_STREAM, block))
        order = sorted(range(n_members), key=lambda member: _splitmix64(key ^ member))
        return order[place]

    def voxels(
        self,
        n_classes: int,
        spatial_shape: Sequence[int],
        region: Region | None = None,
        device: torch.device | str = "cpu",
    ) -> Tensor:
        """Independent noise eps ~ N(0, I) of every class and voxel of a region.

        Parameters
        ----------
        n_classes
            Number of classes C.
        spatial_shape
            Shape of the whole image: it fixes which number belongs to which voxel.
        region
            Slices of the spatial axes; None: everything.
        device
            Where to draw.

        Returns
        -------
        Tensor
            ``(C, *region)``, float32.
        """
        region = whole(spatial_shape) if region is None else region
        index = torch.from_numpy(_flat_index(spatial_shape, region)).to(device)
        n_voxels = math.prod(spatial_shape)
        key = self._key(_VOXEL_STREAM)
        result = torch.empty((n_classes, index.numel()), device=device)
        for part in chunks(index.numel(), index.device):
            for label in range(n_classes):
                result[label, part] = _normal(index[part] + _int32(label * n_voxels), key)
        if self.scale != 1:
            result *= self.scale
        return result.reshape(n_classes, *region_shape(spatial_shape, region))

    def _key(self, stream: int, sample: int | None = None) -> int:
        mixed = 0
        for part in (self.seed, self.sample if sample is None else sample, stream):
            mixed = _splitmix64(mixed ^ part)
        return mixed


def _flat_index(spatial_shape: Sequence[int], region: Region) -> npt.NDArray[np.int32]:
    """Position of each voxel of a region in the flattened image, ``(voxels,)``.

    Wraps beyond 2^32 voxels: harmless, and half the memory of int64.
    """
    index = np.zeros(1, np.int32)
    stride = 1
    for size, part in zip(reversed(spatial_shape), reversed(region), strict=True):
        positions = np.arange(size, dtype=np.int32)[part] * np.int32(_int32(stride))
        index = np.add.outer(positions, index).reshape(-1)
        stride *= size
    return index


def _splitmix64(value: int) -> int:
    """Steele, Lea and Flood, *Fast splittable pseudorandom number generators*, OOPSLA 2014."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK64
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK64
    return value ^ (value >> 31)


def _int32(value: int) -> int:
    """The int32 with the lower 32 bits of ``value``."""
    return ((value & 0xFFFFFFFF) ^ 0x80000000) - 0x80000000


def _normal(counters: Tensor, key: int) -> Tensor:
    """Standard normal numbers of int32 counters, by hashing and inversion.

    The counter goes through a 32-bit avalanche hash (the ``lowbias32`` constants of Wellons,
    2018), keyed before and between the multiplications; the result is a uniform number, which
    the inverse of the normal distribution function makes normal. 32-bit integers, since
    processors without AVX-512 multiply 64-bit ones several times slower. The resolution of
    float32 next to 1 ends the tails at 5.3 standard deviations.
    """
    bits = counters + _int32(key)
    bits ^= (bits >> 16) & 0xFFFF
    bits *= _int32(0x7FEB352D)
    bits ^= _int32(key >> 32)
    bits ^= (bits >> 15) & 0x1FFFF
    bits *= _int32(0x846CA68B)
    bits ^= (bits >> 16) & 0xFFFF
    uniform = bits.to(torch.float32).add_(0.5).mul_(2.0**-31).clamp_(-_BELOW_ONE, _BELOW_ONE)
    return inverse_error_function_(uniform).mul_(math.sqrt(2))
