"""What an action has changed, compressed, so that it can be taken back and done again.

A difference is the exclusive or of before and after: applied to either, it gives the other. Of
full-volume labels it is stored as bit planes, which zlib packs and unpacks about twice as fast as
the bytes themselves, in two thirds of the memory.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_structseg.distributions import Strokes
from napari_structseg.distributions.region import Region
from napari_structseg.errors import InputError

_LEVEL = 1
# Voxels that are worked on at a time, so that they stay in the cache; a multiple of 8.
_CHUNK = 1 << 18


@dataclass(frozen=True, slots=True)
class VolumeDifference:
    """Where two arrays of bytes differ, and how.

    Attributes
    ----------
    starts, sizes
        The box that holds all changed voxels: its first voxel and its extent along each axis.
    planes
        The bits of the exclusive or of both arrays in that box, from the lowest on, each packed.
    """

    starts: tuple[int, ...]
    sizes: tuple[int, ...]
    planes: tuple[bytes, ...]

    @classmethod
    def between(
        cls,
        before: npt.NDArray[np.uint8],
        after: npt.NDArray[np.uint8],
        origin: tuple[int, ...] | None = None,
    ) -> VolumeDifference | None:
        """The difference of two arrays of the same shape; None: there is none.

        Parameters
        ----------
        before, after
            ``(*spatial)``, uint8.
        origin
            Where they begin in the array that :meth:`apply` will be given; None: at its start.
        """
        changed = before ^ after
        box = box_of(changed)
        if box is None:
            return None
        inside = changed[box].reshape(-1)
        n_planes = int(inside.max()).bit_length()
        planes = tuple(_packed_plane(inside, plane) for plane in range(n_planes))
        offset = origin or (0,) * before.ndim
        starts = tuple(first + part.start for first, part in zip(offset, box, strict=True))
        return cls(starts, tuple(part.stop - part.start for part in box), planes)

    @property
    def box(self) -> Region:
        """Where the changed voxels are."""
        pairs = zip(self.starts, self.sizes, strict=True)
        return tuple(slice(start, start + size) for start, size in pairs)

    @property
    def n_bytes(self) -> int:
        """Memory of the packed planes."""
        return sum(len(plane) for plane in self.planes)

    def apply(self, array: npt.NDArray[np.uint8]) -> None:
        """Turn the array before into the array after, in place, or the other way round.

        Raises
        ------
        InputError
            If the planes are damaged; the array is left as it was.
        """
        n_voxels = math.prod(self.sizes)
        planes = [unpacked(packed, (n_voxels + 7) // 8) for packed in self.planes]
        inside = array[self.box]
        n_in_row = math.prod(self.sizes[1:])
        n_rows = max(1, _CHUNK // n_in_row)
        for first in range(0, self.sizes[0], n_rows):
            rows = inside[first : first + n_rows]
            rows ^= _unpacked_part(planes, first * n_in_row, rows.size).reshape(rows.shape)


@dataclass(frozen=True, slots=True)
class StrokesDifference:
    """Where strokes differ before and after an action.

    Attributes
    ----------
    voxels
        Index of each changed voxel in the flattened image, ascending, packed.
    values
        Exclusive or of what was said before and after, packed: 0 for nothing, k + 1 for class k.
    n_voxels
        How many there are.
    """

    n_voxels: int
    voxels: bytes
    values: bytes

    @classmethod
    def between(cls, before: Strokes, after: Strokes) -> StrokesDifference | None:
        """The difference of strokes on the same image; None: they say the same."""
        voxels, values = _exclusive_or(
            (before.voxels, before.labels + np.uint16(1)),
            (after.voxels, after.labels + np.uint16(1)),
        )
        if not len(voxels):
            return None
        steps = np.diff(voxels, prepend=0).astype("<i8").tobytes()
        packed = zlib.compress(values.astype("<u2").tobytes(), _LEVEL)
        return cls(len(voxels), zlib.compress(steps, _LEVEL), packed)

    @property
    def n_bytes(self) -> int:
        """Memory of what is packed."""
        return len(self.voxels) + len(self.values)

    def apply(self, strokes: Strokes) -> Strokes:
        """The strokes after, of those before, or the other way round.

        Raises
        ------
        InputError
            If the difference is damaged, or is not one of these strokes.
        """
        steps = unpacked(self.voxels, 8 * self.n_voxels).view("<i8")
        changed = unpacked(self.values, 2 * self.n_voxels).view("<u2")
        voxels, values = _exclusive_or(
            (strokes.voxels, strokes.labels + np.uint16(1)),
            (np.cumsum(steps, dtype=np.int64), changed.astype(np.uint16)),
        )
        try:
            if (values > 256).any():
                raise ValueError("they say a class above 255")
            return Strokes(strokes.shape, voxels, (values - 1).astype(np.uint8))
        except ValueError as error:
            raise InputError(f"A change of strokes does not fit the strokes: {error}.") from error


def _packed_plane(values: npt.NDArray[np.uint8], plane: int) -> bytes:
    """One bit of each value, packed."""
    packer = zlib.compressobj(_LEVEL)
    parts = [
        packer.compress(np.packbits((values[start : start + _CHUNK] >> plane) & 1).data)
        for start in range(0, len(values), _CHUNK)
    ]
    return b"".join((*parts, packer.flush()))


def _unpacked_part(
    planes: list[npt.NDArray[np.uint8]], start: int, count: int
) -> npt.NDArray[np.uint8]:
    """Some of the values that planes of bits make up, ``(count,)``."""
    values = np.zeros(count, np.uint8)
    skipped = start % 8
    for plane, packed in enumerate(planes):
        some = packed[start // 8 : (start + count + 7) // 8]
        values |= np.unpackbits(some, count=skipped + count)[skipped:] << plane
    return values


def box_of(array: npt.NDArray[Any]) -> Region | None:
    """The smallest box that holds every voxel that is not 0; None: all are."""
    box: list[slice] = []
    for axis in range(array.ndim):
        others = tuple(other for other in range(array.ndim) if other != axis)
        # What lies outside the box along the axes before holds nothing.
        found = np.flatnonzero(array[tuple(box)].any(axis=others))
        if not len(found):
            return None
        box.append(slice(int(found[0]), int(found[-1]) + 1))
    return tuple(box)


def unpacked(packed: bytes, n_bytes: int) -> npt.NDArray[np.uint8]:
    """Bytes that zlib has packed, when it is known how many there are.

    Raises
    ------
    InputError
        If it was something else. Nothing larger than expected is ever allocated.
    """
    stream = zlib.decompressobj()
    try:
        raw = stream.decompress(packed, n_bytes + 1)
    except zlib.error as error:
        raise InputError(f"Packed data is damaged: {error}.") from error
    if len(raw) != n_bytes:
        raise InputError(f"Packed data was expected to hold {n_bytes} bytes, not {len(raw)}.")
    return np.frombuffer(raw, np.uint8)


def _exclusive_or(
    first: tuple[npt.NDArray[np.int64], npt.NDArray[np.uint16]],
    second: tuple[npt.NDArray[np.int64], npt.NDArray[np.uint16]],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint16]]:
    """Of two sparse arrays of values; what cancels out is left out."""
    voxels, places = np.unique(np.concatenate([first[0], second[0]]), return_inverse=True)
    values = np.zeros(len(voxels), np.uint16)
    n_first = len(first[0])
    values[places[:n_first]] = first[1]
    values[places[n_first:]] ^= second[1]
    left = values != 0
    return voxels[left], values[left]
