"""Places in an image: a box and the voxels of it that are meant, as a click or a brush gives them.

Voxels belong together if they touch, also at an edge or a corner: 8 neighbours in two dimensions,
26 in three.
"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.segmentation import flood

from napari_structseg.distributions import Region
from napari_structseg.errors import InputError

Mask = npt.NDArray[np.bool_]


# More than any image has voxels, in a text that somebody has written.
_MOST_VOXELS = 1 << 40


@dataclass(frozen=True, eq=False)
class Place:
    """Some voxels of an image, and the box around them.

    Two of them are equal if they mean the same voxels of the same box; they can be the key of a
    cache.

    Attributes
    ----------
    region
        The box.
    mask
        Which voxels of it are meant, ``(*region)``; at least one.
    """

    region: Region
    mask: Mask

    def __post_init__(self) -> None:
        if self.mask.shape != tuple(part.stop - part.start for part in self.region):
            raise ValueError(f"a mask of {self.mask.shape} does not fit the box {self.region}")
        if not self.mask.any():
            raise ValueError("a place has at least one voxel")

    @classmethod
    def of_mask(cls, mask: Mask) -> Place | None:
        """The voxels of an image that are true, ``(*spatial)``; None: there are none."""
        boxes = ndimage.find_objects(mask.view(np.uint8))
        return cls(boxes[0], mask[boxes[0]].copy()) if boxes and boxes[0] is not None else None

    @classmethod
    def of_region(cls, region: Region) -> Place:
        """A whole box."""
        return cls(region, np.ones([part.stop - part.start for part in region], bool))

    @property
    def n_voxels(self) -> int:
        """How many voxels are meant."""
        return int(np.count_nonzero(self.mask))

    def thinned(self, max_voxels: int) -> tuple[Region, Mask]:
        """Every n-th voxel of the box along each axis, and which of them are meant.

        Parameters
        ----------
        max_voxels
            The least n is taken with which the box has not more, and at least one voxel is meant.

        Returns
        -------
        region
            Slices with steps, in voxels of the image.
        mask
            ``(*region)``.
        """
        step = max(1, math.ceil((self.mask.size / max_voxels) ** (1 / self.mask.ndim)))
        while True:
            own = tuple(slice(min(step // 2, size - 1), size, step) for size in self.mask.shape)
            mask = self.mask[own]
            # A thin place may fall through a coarse lattice.
            if mask.any() or step == 1:
                break
            step -= 1
        region = tuple(
            slice(part.start + inner.start, part.stop, inner.step)
            for part, inner in zip(self.region, own, strict=True)
        )
        return region, mask

    def inside(self, region: Region) -> Place | None:
        """What of it lies in a region without steps, on the region's voxels; None: nothing."""
        pairs = list(zip(self.region, region, strict=True))
        starts = [max(own.start, part.start) for own, part in pairs]
        stops = [min(own.stop, part.stop) for own, part in pairs]
        if any(stop <= start for start, stop in zip(starts, stops, strict=True)):
            return None
        cut = tuple(
            slice(start - own.start, stop - own.start)
            for start, stop, (own, _) in zip(starts, stops, pairs, strict=True)
        )
        if not self.mask[cut].any():
            return None
        box = tuple(
            slice(start - part.start, stop - part.start)
            for start, stop, (_, part) in zip(starts, stops, pairs, strict=True)
        )
        return Place(box, self.mask[cut])

    def outside(self, region: Region) -> Place:
        """A place in a region, on the voxels of the image that the region is of."""
        box = tuple(
            slice(own.start + part.start, own.stop + part.start)
            for own, part in zip(self.region, region, strict=True)
        )
        return Place(box, self.mask)

    def to_json(self) -> str:
        """As compact text; :meth:`from_json` reads it."""
        box = "x".join(f"{part.start}-{part.stop}" for part in self.region)
        packed = zlib.compress(np.packbits(self.mask).tobytes())
        return f"{box}:{base64.b64encode(packed).decode()}"

    @classmethod
    def from_json(cls, text: str) -> Place:
        """Read what :meth:`to_json` wrote.

        Raises
        ------
        InputError
            If it is something else.
        """
        try:
            box, packed = text.split(":")
            ends = [[int(end) for end in part.split("-")] for part in box.split("x")]
            region = tuple(slice(start, stop) for start, stop in ends)
            shape = [stop - start for start, stop in ends]
            size = math.prod(shape)
            if min(shape) < 1 or min(start for start, _ in ends) < 0 or size > _MOST_VOXELS:
                raise ValueError(f"a box of {shape}")
            n_bytes = -(-size // 8)
            raw = zlib.decompressobj().decompress(base64.b64decode(packed), n_bytes + 1)
            if len(raw) != n_bytes:
                raise ValueError(f"{len(raw)} bytes for {size} voxels")
            bits = np.unpackbits(np.frombuffer(raw, np.uint8), count=size)
            return cls(region, bits.astype(bool).reshape(shape))
        except (ValueError, zlib.error) as error:
            raise InputError(
                "A place was expected as it is written by this program (box, packed voxels), but "
                f"the text is something else: {error}."
            ) from error

    @cached_property
    def _key(self) -> tuple[tuple[tuple[int, int], ...], bytes]:
        ends = tuple((part.start, part.stop) for part in self.region)
        return ends, np.packbits(self.mask).tobytes()

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Place) and self._key == other._key)

    def __hash__(self) -> int:
        return hash(self._key)

    def to_mask(self, spatial_shape: Sequence[int]) -> Mask:
        """The same voxels in the whole image, ``(*spatial)``."""
        mask = np.zeros(spatial_shape, bool)
        mask[self.region] = self.mask
        return mask


def component_at(labels: npt.NDArray[np.uint8], voxel: Sequence[int]) -> Place:
    """The connected component of one class that a voxel belongs to.

    Parameters
    ----------
    labels
        ``(*spatial)``.
    voxel
        Index along each axis.

    Raises
    ------
    ValueError
        If the voxel is outside.
    """
    _check_inside(voxel, labels.shape)
    return _grown(labels, voxel)


def disputed_at(agreement: npt.NDArray[np.floating], voxel: Sequence[int], below: float) -> Place:
    """The disputed voxels that are connected with one of them.

    Parameters
    ----------
    agreement
        Fraction of samples that agree, ``(*spatial)``.
    voxel
        Index along each axis.
    below
        A voxel is disputed if the agreement is less than this.

    Returns
    -------
    Place
        The voxel alone, where it is not disputed.

    Raises
    ------
    ValueError
        If the voxel is outside.
    """
    _check_inside(voxel, agreement.shape)
    if agreement[tuple(voxel)] >= below:
        return Place(tuple(slice(at, at + 1) for at in voxel), np.ones((1,) * len(voxel), bool))
    return _grown((agreement < below).view(np.uint8), voxel)


def _grown(values: npt.NDArray[np.uint8], voxel: Sequence[int]) -> Place:
    mask = flood(values, tuple(int(at) for at in voxel), connectivity=values.ndim)
    place = Place.of_mask(mask)
    if place is None:
        raise AssertionError("a flood reaches the voxel where it begins")
    return place


def _check_inside(voxel: Sequence[int], shape: Sequence[int]) -> None:
    if len(voxel) != len(shape) or not all(0 <= at < n for at, n in zip(voxel, shape, strict=True)):
        raise ValueError(f"voxel {tuple(voxel)} is not in an image of {tuple(shape)}")
