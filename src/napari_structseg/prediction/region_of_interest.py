"""The part of a volume that a model of slices is applied to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from napari_structseg.errors import ConfigError, InputError

if TYPE_CHECKING:
    # The options of the command line come from here, and its help loads no torch.
    from napari_structseg.distributions import Region
    from napari_structseg.image import Image

AXES: tuple[Literal["z", "y", "x"], ...] = ("z", "y", "x")

# More than any file has; larger numbers overflow further on.
_INDEX_MAX = 10**9
_Index = Annotated[int, Field(ge=0, lt=_INDEX_MAX)]
_NUMBER = r"(\d{1,9})"
_SLICE = re.compile(rf"([zyx]):{_NUMBER}(?::{_NUMBER})?", re.IGNORECASE)
_BOX = re.compile(rf"{_NUMBER}:{_NUMBER},{_NUMBER}:{_NUMBER}")


class RegionOfInterest(BaseModel):
    """Neighbouring slices of a volume, and what part of each.

    Indices are those of the array, as the viewer counts them.

    Examples
    --------
    >>> roi = RegionOfInterest.parse("z:40:3", "100:228,60:188")
    >>> roi.region((90, 256, 256))
    (slice(40, 43, None), slice(100, 228, None), slice(60, 188, None))
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    axis: Literal["z", "y", "x"] = Field(description="Array axis along which slices are counted.")
    start: _Index = Field(description="The first slice, from 0.")
    count: Annotated[int, Field(ge=1, lt=_INDEX_MAX)] = Field(1, description="How many slices.")
    box: tuple[tuple[_Index, _Index], tuple[_Index, _Index]] | None = Field(
        None, description="Start and stop along the other two axes; None: whole slices."
    )

    @classmethod
    def parse(cls, slices: str, box: str | None = None) -> RegionOfInterest:
        """Read the options of the command line.

        Parameters
        ----------
        slices
            ``AXIS:INDEX`` or ``AXIS:INDEX:COUNT``.
        box
            ``START:STOP,START:STOP`` along the other two axes, in the order z, y, x.

        Raises
        ------
        ConfigError
            If they are not of this form.
        """
        found = _SLICE.fullmatch(slices)
        if found is None or (found[3] is not None and int(found[3]) == 0):
            raise ConfigError(
                "--slice needs AXIS:INDEX or AXIS:INDEX:COUNT, with numbers of at most 9 digits, "
                f"for example z:40 or z:40:5, but it is {slices!r}."
            )
        edges = None
        if box is not None:
            sides = _BOX.fullmatch(box)
            if sides is None:
                raise ConfigError(
                    "--box needs START:STOP,START:STOP along the two axes of the slice, for "
                    f"example 100:228,60:188, but it is {box!r}."
                )
            first, second = (int(sides[1]), int(sides[2])), (int(sides[3]), int(sides[4]))
            edges = (first, second)
        axis = AXES["zyx".index(found[1].lower())]
        return cls(axis=axis, start=int(found[2]), count=int(found[3] or 1), box=edges)

    @property
    def axis_number(self) -> int:
        """The axis as an array's number."""
        return AXES.index(self.axis)

    @property
    def arguments(self) -> list[str]:
        """Options of the command line that mark the same."""
        arguments = ["--slice", f"{self.axis}:{self.start}:{self.count}"]
        if self.box is not None:
            (top, bottom), (left, right) = self.box
            arguments += ["--box", f"{top}:{bottom},{left}:{right}"]
        return arguments

    def region(self, spatial_shape: Sequence[int]) -> Region:
        """The marked part of a volume.

        Raises
        ------
        InputError
            If it does not lie inside, or is empty.
        """
        sides = iter(self.box or ())
        region = []
        for axis, size in enumerate(spatial_shape):
            start, stop = 0, size
            if axis == self.axis_number:
                start, stop = self.start, self.start + self.count
            elif self.box is not None:
                start, stop = next(sides)
            if not 0 <= start < stop <= size:
                what = "slices" if axis == self.axis_number else "box"
                raise InputError(
                    f"The marked {what} must lie within 0 to {size} along {AXES[axis]}, the start "
                    "before the end, but "
                    f"{'they run' if what == 'slices' else 'it runs'} from {start} to {stop} (the "
                    "end not included). Mark a part of the image."
                )
            region.append(slice(start, stop))
        return tuple(region)

    def slices(self, image: Image, seen: Region | None = None, beyond: float = 0) -> list[Image]:
        """The chosen slices of a volume, each as a 2-D image.

        Parameters
        ----------
        image
            The volume.
        seen
            What is cut out of it, which may reach beyond it; None: the region of interest.
        beyond
            What is there.

        Raises
        ------
        InputError
            If the region does not lie inside.
        """
        from napari_structseg.image import Image

        axis = self.axis_number
        region = list(self.region(image.spatial_shape) if seen is None else seen)
        images = []
        for index in range(self.start, self.start + self.count):
            region[axis] = slice(index, index + 1)
            part = _cut_out(image, region, beyond).squeeze(axis + 1)
            geometry = image.geometry.cropped(tuple(region), flat_axis=axis)
            name = f"{image.name} {self.axis}={index}"
            images.append(Image(part, geometry, image.channels, name))
        return images


def _cut_out(image: Image, region: Sequence[slice], beyond: float) -> npt.NDArray[Any]:
    shape = image.spatial_shape
    inside = [slice(max(0, part.start), part.stop) for part in region]
    data: npt.NDArray[Any] = image.data[(slice(None), *inside)]
    padding = [
        (max(0, -part.start), max(0, part.stop - size))
        for part, size in zip(region, shape, strict=True)
    ]
    if not any(map(any, padding)):
        return data
    return np.pad(data.astype(np.float32), [(0, 0), *padding], constant_values=beyond)


def image_inside(image: Image, region: Region | None) -> Image:
    """The part of an image that was segmented; None: all of it."""
    if region is None or image.ndim == 2:
        return image
    ranges = [range(*one.indices(n)) for one, n in zip(region, image.spatial_shape, strict=True)]
    bounds = tuple(slice(one.start, one.stop) for one in ranges)
    return replace(
        image,
        data=image.data[(slice(None), *bounds)],
        geometry=image.geometry.cropped(bounds),
        checked=True,
    )


def embedded(
    part: npt.NDArray[Any], region: Region | None, spatial_shape: Sequence[int]
) -> npt.NDArray[Any]:
    """Put the part of a volume where it belongs; elsewhere it is 0.

    Parameters
    ----------
    part
        ``(*region)``.
    region
        Where it belongs; None: it is the whole.
    spatial_shape
        Of the volume.
    """
    if region is None:
        return part
    result = np.zeros(tuple(spatial_shape), part.dtype)
    result[region] = part
    return result
