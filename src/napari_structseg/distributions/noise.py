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

_MASK32, _MASK64 = (1 << 32) - 1, (1 << 64) - 1
# Shift and factor of each round of the hash; the last has no factor.
_ROUNDS = ((17, 0xED5AD4BB), (11, 0xAC4C1B51), (15, 0x31848BAB), (14, 0))
_VOXEL_STREAM, _FACTOR_STREAM, _MEMBER_STREAM, _STROKE_STREAM = 0, 1, 2, 3
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
            ``(C, *region)``, float32. Zero where a position was chosen: it says nothing of single
            voxels, and what is pictured there is the mean given the factors.
        """
        region = whole(spatial_shape) if region is None else region
        if self.position:
            return torch.zeros((n_classes, *region_shape(spatial_shape, region)), device=device)
        index = torch.from_numpy(_flat_index(spatial_shape, region)).to(device)
        n_voxels = math.prod(spatial_shape)
        key = self._key(_VOXEL_STREAM)
        result = torch.empty((n_classes, index.numel()), device=device)
        for part in chunks(index.numel(), index.device):
            for label in range(n_classes):
                result[label, part] = _normal(index[part], key, label * n_voxels)
        if self.scale != 1:
            result *= self.scale
        return result.reshape(n_classes, *region_shape(spatial_shape, region))

    def voxels_at(
        self, n_classes: int, spatial_shape: Sequence[int], voxels: npt.NDArray[np.int64]
    ) -> Tensor:
        """The numbers of :meth:`voxels` at single voxels, on the processor.

        Parameters
        ----------
        n_classes, spatial_shape
            As for :meth:`voxels`.
        voxels
            Index of each voxel in the flattened image, ``(n,)``.

        Returns
        -------
        Tensor
            ``(C, n)``, float32.
        """
        return self._at(_VOXEL_STREAM, n_classes, spatial_shape, voxels)

    def strokes_at(
        self, n_classes: int, spatial_shape: Sequence[int], voxels: npt.NDArray[np.int64]
    ) -> Tensor:
        """Independent noise of what was said of single voxels, as :meth:`voxels_at`."""
        return self._at(_STROKE_STREAM, n_classes, spatial_shape, voxels)

    def _at(
        self,
        stream: int,
        n_classes: int,
        spatial_shape: Sequence[int],
        voxels: npt.NDArray[np.int64],
    ) -> Tensor:
        if self.position:
            return torch.zeros((n_classes, len(voxels)))
        n_voxels = math.prod(spatial_shape)
        # Counters wrap beyond 2^32 voxels, as those of a region do.
        index = torch.from_numpy(voxels.astype(np.uint32).view(np.int32))
        first = [_int32(label * n_voxels) for label in range(n_classes)]
        counters = index + torch.tensor(first, dtype=torch.int32)[:, None]
        drawn = _normal(counters.flatten(), self._key(stream))
        return drawn.reshape(n_classes, len(voxels)) * self.scale

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


def _normal(counters: Tensor, key: int, offset: int = 0) -> Tensor:
    """Standard normal numbers of int32 counters plus an offset, by hashing and inversion.

    The hash gives a uniform number, which the inverse of the normal distribution function makes
    normal. The resolution of float32 next to 1 ends the tails at 5.3 standard deviations.
    """
    uniform = _hash(counters, key, offset).to(torch.float32)
    uniform = uniform.add_(0.5).mul_(2.0**-31).clamp_(-_BELOW_ONE, _BELOW_ONE)
    return inverse_error_function_(uniform).mul_(math.sqrt(2))


def _hash(counters: Tensor, key: int, offset: int) -> Tensor:
    """Mix the bits of int32 counters, keyed, into int32 numbers.

    Three multiplications (``triple32`` of Wellons, *Prospecting for hash functions*, 2018), keyed
    before and between the first two. With two, as in his ``lowbias32``, voxels some powers of two
    apart were weakly dependent. 32-bit integers, since processors without AVX-512 multiply 64-bit
    ones several times slower.
    """
    first, second = _int32(key + offset), _int32(key >> 32)
    if counters.device.type == "cpu":
        return torch.from_numpy(mix_unsigned(counters.numpy(), first, second))
    return mix_signed(counters, first, second)


def mix_unsigned(counters: npt.NDArray[np.int32], first: int, second: int) -> npt.NDArray[np.int32]:
    """The hash in numpy, which shifts unsigned integers."""
    bits = counters.view(np.uint32) + np.uint32(first & _MASK32)
    shifted = np.empty_like(bits)
    for shift, factor in _ROUNDS:
        np.right_shift(bits, np.uint32(shift), out=shifted)
        np.bitwise_xor(bits, shifted, out=bits)
        if factor:
            np.multiply(bits, np.uint32(factor), out=bits)
        if shift == _ROUNDS[0][0]:
            np.bitwise_xor(bits, np.uint32(second & _MASK32), out=bits)
    return bits.view(np.int32)


def mix_signed(counters: Tensor, first: int, second: int) -> Tensor:
    """The hash in torch, for other devices: it shifts signed integers, which have to be masked."""
    mixed = counters + first
    for shift, factor in _ROUNDS:
        mixed ^= (mixed >> shift) & (_MASK32 >> shift)
        if factor:
            mixed *= _int32(factor)
        if shift == _ROUNDS[0][0]:
            mixed ^= second
    return mixed
