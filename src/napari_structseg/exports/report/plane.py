"""One slice of an image as it is shown on a page: upright, and with square pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from napari_structseg.distributions import Region, slice_region, whole
from napari_structseg.image import Image
from napari_structseg.io.nifti import says_orientation

# Along right, anterior, superior: the letter of the side that an axis runs to, and that it leaves.
_SIDES = (("R", "L"), ("A", "P"), ("S", "I"))
_NAMES = ("sagittal", "coronal", "axial")
# Voxels so much longer than wide are looked at in the plane that was scanned.
_THICK = 1.5
# Around what is segmented, as a share of its size; and what is left in mm or pixels at least.
_MARGIN = 0.25
_LEAST = 40.0
# A box that has so much of the slice is not worth a picture of its own.
_MOST = 0.7

Scalar = TypeVar("Scalar", bound=np.generic)
Window = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Plane:
    """A slice, or a box of it.

    Attributes
    ----------
    image
        What is looked at.
    axis, position
        Which slice; of an image with two axes these have no meaning.
    box
        Rows and columns of the slice, before anything is flipped.
    """

    image: Image
    axis: int
    position: int
    box: tuple[slice, slice]

    @classmethod
    def of(cls, image: Image, axis: int, position: int) -> Plane:
        """A whole slice."""
        rows, columns = (image.spatial_shape[one] for one in _shown_axes(image, axis))
        return cls(image, axis, position, (slice(0, rows), slice(0, columns)))

    @property
    def axes(self) -> tuple[int, int]:
        """The two array axes that make up the picture: rows, columns."""
        return _shown_axes(self.image, self.axis)

    @property
    def region(self) -> Region:
        """Where it lies in the image; the sliced axis is kept, with length 1."""
        region = list(
            whole(self.image.spatial_shape)
            if self.image.ndim == 2
            else slice_region(self.image.spatial_shape, self.axis, self.position)
        )
        for axis, part in zip(self.axes, self.box, strict=True):
            region[axis] = part
        return tuple(region)

    @property
    def shape(self) -> tuple[int, int]:
        """Pixels: rows, columns."""
        rows, columns = (part.stop - part.start for part in self.box)
        return rows, columns

    @property
    def pixel(self) -> tuple[float, float]:
        """Height and width of a pixel: in mm, or 1 where their size is unknown."""
        rows, columns = (self.image.spacing[axis] for axis in self.axes)
        return rows, columns

    @property
    def has_orientation(self) -> bool:
        """Whether anybody has said how the patient lies."""
        return says_orientation(self.image.geometry)

    @property
    def flips(self) -> tuple[slice, slice]:
        """Steps of rows and columns that show the patient upright, right at the left."""
        rows, columns = (
            slice(None, None, -1 if self.has_orientation and _is_towards(self.image, one) else None)
            for one in self.axes
        )
        return rows, columns

    def upright(self, array: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
        """Values of :attr:`region`, ``(*region)``, as they are shown, ``(rows, columns)``."""
        shown: npt.NDArray[Scalar] = array.reshape(self.shape)[self.flips]
        return shown

    @property
    def letters(self) -> tuple[str, str, str, str] | None:
        """Sides of the patient at the left, right, top and bottom; None: nobody said."""
        if not self.has_orientation:
            return None
        # Every axis that is shown runs away from right, anterior or superior.
        (top, bottom), (left, right) = (_SIDES[_along(self.image, axis)] for axis in self.axes)
        return left, right, top, bottom

    @property
    def words(self) -> str:
        """Which slice it is, counted from 1."""
        if self.image.ndim == 2:
            return "the whole image"
        count = self.image.spatial_shape[self.axis]
        name = _NAMES[_along(self.image, self.axis)] + " slice" if self.has_orientation else "slice"
        return f"{name} {self.position + 1} of {count}"

    def around(self, mask: npt.NDArray[np.bool_]) -> Plane:
        """The box around what a mask of the slice marks; the slice itself where that is most of it.

        Parameters
        ----------
        mask
            ``(*region)``, of a whole slice.
        """
        marked = mask.reshape(self.shape)
        parts, shares = [], []
        for axis, size in enumerate(self.shape):
            places = np.flatnonzero(marked.any(axis=1 - axis))
            if not len(places):
                return self
            middle, length = (places[0] + places[-1] + 1) / 2, places[-1] + 1 - places[0]
            half = max(length * (0.5 + _MARGIN), _LEAST / 2 / self.pixel[axis])
            start, stop = int(max(middle - half, 0)), int(min(np.ceil(middle + half), size))
            parts.append(slice(start, stop))
            shares.append((stop - start) / size)
        if min(shares) > _MOST:
            return self
        rows, columns = parts
        return Plane(self.image, self.axis, self.position, (rows, columns))


def best_axis(image: Image) -> int:
    """The axis to look along: that of thick slices, otherwise the first, which is axial."""
    spacing = np.asarray(image.spacing)
    longest = int(spacing.argmax())
    return longest if spacing[longest] > _THICK * np.median(spacing) else 0


def _shown_axes(image: Image, axis: int) -> tuple[int, int]:
    rows, columns = [one for one in range(image.ndim) if image.ndim == 2 or one != axis]
    return rows, columns


def _direction(image: Image, axis: int) -> npt.NDArray[np.float64]:
    kept = [one for one in range(3) if one != image.geometry.flat_axis]
    step: npt.NDArray[np.float64] = image.geometry.affine[:3, kept[axis]]
    return step


def _along(image: Image, axis: int) -> int:
    """Which axis of the patient an array axis is nearest to: 0 right, 1 anterior, 2 superior."""
    return int(np.abs(_direction(image, axis)).argmax())


def _is_towards(image: Image, axis: int) -> bool:
    """Whether an array axis runs towards right, anterior or superior, rather than away from it."""
    return bool(_direction(image, axis)[_along(image, axis)] > 0)
