"""Strokes: voxels of which the user has said the class."""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_structseg.distributions.region import Region, region_shape
from napari_structseg.errors import InputError

UNSAID = 0
"""The value of a voxel in an array of strokes of which nothing was said."""

_ANY_CLASSES = 256


@dataclass(frozen=True, slots=True, eq=False)
class Strokes:
    """The class of some voxels of an image, as the user has said it.

    They are kept in the order of the voxels, so that the order in which they were painted makes no
    difference. Two of them are equal if they say the same; they can be the key of a cache.

    Parameters
    ----------
    shape
        Of the image, ``(*spatial)``.
    voxels
        Index of each voxel in the flattened image, ascending, ``(n,)``, int64.
    labels
        The class of each, ``(n,)``, uint8.
    """

    shape: tuple[int, ...]
    voxels: npt.NDArray[np.int64]
    labels: npt.NDArray[np.uint8]

    def __post_init__(self) -> None:
        if self.voxels.shape != self.labels.shape or self.voxels.ndim != 1:
            raise ValueError(f"{self.voxels.shape} voxels do not fit {self.labels.shape} labels")
        if len(self.voxels) and (
            self.voxels[0] < 0
            or self.voxels[-1] >= math.prod(self.shape)
            or (np.diff(self.voxels) <= 0).any()
        ):
            raise ValueError(f"voxels must ascend within an image of the shape {self.shape}")

    @classmethod
    def none(cls, shape: Sequence[int]) -> Strokes:
        """Nothing said of an image of this shape."""
        return cls(tuple(shape), np.zeros(0, np.int64), np.zeros(0, np.uint8))

    @classmethod
    def from_array(cls, array: npt.NDArray[np.integer[Any]], n_classes: int) -> Strokes:
        """Strokes as a Labels layer or a file holds them.

        Parameters
        ----------
        array
            ``(*spatial)``: 0 where nothing was said, k + 1 for class k.
        n_classes
            Number of classes C.

        Raises
        ------
        InputError
            If a value stands for no class.
        """
        flat = np.ascontiguousarray(array).reshape(-1)
        voxels = np.flatnonzero(flat)
        values = flat[voxels]
        wrong = np.unique(values[(values < 0) | (values > n_classes)])
        if len(wrong):
            raise InputError(
                f"Strokes were expected to be 0 (nothing said) or 1 to {n_classes} (classes 0 to "
                f"{n_classes - 1}), but there are voxels of "
                f"{', '.join(str(value) for value in wrong[:5])}. Give class k the value k + 1."
            )
        return cls(array.shape, voxels.astype(np.int64), (values - 1).astype(np.uint8))

    def to_array(self) -> npt.NDArray[np.uint16]:
        """As :meth:`from_array` takes it, ``(*shape)``."""
        array = np.zeros(self.shape, np.uint16)
        array.reshape(-1)[self.voxels] = self.labels.astype(np.uint16) + 1
        return array

    @property
    def positions(self) -> npt.NDArray[np.int64]:
        """Index of each voxel along each axis, ``(n, ndim)``."""
        return np.stack(np.unravel_index(self.voxels, self.shape), axis=1).astype(np.int64)

    def inside(self, region: Region) -> Strokes:
        """The strokes in a region, on its own voxels."""
        ranges = [range(*part.indices(size)) for part, size in zip(region, self.shape, strict=True)]
        positions = self.positions
        keep = np.ones(len(self), bool)
        for axis, part in enumerate(ranges):
            offset = positions[:, axis] - part.start
            keep &= (offset >= 0) & (positions[:, axis] < part.stop) & (offset % part.step == 0)
            positions[:, axis] = offset // part.step
        shape = region_shape(self.shape, region)
        if not keep.any():
            return Strokes.none(shape)
        voxels = np.ravel_multi_index(tuple(positions[keep].T), shape)
        return Strokes(shape, np.asarray(voxels, np.int64), self.labels[keep])

    def repainted(self, region: Region, values: npt.NDArray[np.integer[Any]]) -> Strokes:
        """These strokes, but in one region as an array says; the rest of the image is not read.

        Parameters
        ----------
        region
            Slices with step 1.
        values
            ``(*region)``: 0 where nothing was said, k + 1 for class k, at most 256.
        """
        positions = self.positions
        is_outside = np.zeros(len(self), bool)
        for axis, part in enumerate(region):
            is_outside |= (positions[:, axis] < part.start) | (positions[:, axis] >= part.stop)
        inside = np.nonzero(values)
        new = np.ravel_multi_index(
            tuple(along + part.start for along, part in zip(inside, region, strict=True)),
            self.shape,
        )
        voxels = np.concatenate([self.voxels[is_outside], np.asarray(new, np.int64)])
        labels = np.concatenate([self.labels[is_outside], (values[inside] - 1).astype(np.uint8)])
        order = np.argsort(voxels)
        return Strokes(self.shape, voxels[order], labels[order])

    def checked_for(self, shape: Sequence[int], n_classes: int) -> Strokes:
        """These strokes, if they are of an image of this shape with so many classes.

        Raises
        ------
        InputError
            If they are not.
        """
        if self.shape != tuple(shape):
            raise InputError(
                f"Strokes on the voxels of the image, {tuple(shape)}, were expected, but they are "
                f"of an image of {self.shape}. Draw them on this image."
            )
        if len(self) and self.labels.max() >= n_classes:
            raise InputError(
                f"Strokes of the classes 0 to {n_classes - 1} were expected, but there is one of "
                f"class {self.labels.max()}. Use the classes of this model."
            )
        return self

    def merged(self, later: Strokes) -> Strokes:
        """What was said of either; where both say something, what was said later.

        Raises
        ------
        InputError
            If they are of different images.
        """
        later.checked_for(self.shape, _ANY_CLASSES)
        kept = ~np.isin(self.voxels, later.voxels)
        voxels = np.concatenate([self.voxels[kept], later.voxels])
        labels = np.concatenate([self.labels[kept], later.labels])
        order = np.argsort(voxels)
        return Strokes(self.shape, voxels[order], labels[order])

    def to_json(self) -> str:
        """As compact text; :meth:`from_json` reads it."""
        steps = np.diff(self.voxels, prepend=0).astype("<i8").tobytes()
        packed = zlib.compress(steps + self.labels.tobytes())
        shape = "x".join(str(size) for size in self.shape)
        return f"{shape}:{len(self)}:{base64.b64encode(packed).decode()}"

    @classmethod
    def from_json(cls, text: str) -> Strokes:
        """Read what :meth:`to_json` wrote.

        Raises
        ------
        InputError
            If it is something else.
        """
        try:
            sizes, count, packed = text.split(":")
            shape = tuple(int(size) for size in sizes.split("x"))
            n = int(count)
            if not 0 <= n <= math.prod(shape) < 2**62 or min(shape) < 0:
                raise ValueError(f"{n} voxels in {shape}")
            length = 9 * n
            raw = zlib.decompressobj().decompress(base64.b64decode(packed), length + 1)
            if len(raw) != length:
                raise ValueError(f"{len(raw)} bytes for {n} voxels")
            steps = np.frombuffer(raw[: 8 * n], "<i8")
            labels = np.frombuffer(raw[8 * n :], np.uint8)
            return cls(shape, np.cumsum(steps, dtype=np.int64), labels.copy())
        except (ValueError, zlib.error) as error:
            raise InputError(
                "Strokes were expected as they are written by this program (shape, number of "
                f"voxels, packed voxels), but the text is something else: {error}."
            ) from error

    def __len__(self) -> int:
        return len(self.voxels)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Strokes) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[tuple[int, ...], bytes, bytes]:
        return self.shape, self.voxels.tobytes(), self.labels.tobytes()
