"""Images: channels and spatial axes, and the geometry of their voxels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import InitVar, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_structseg.affines import affine_of_spacing
from napari_structseg.errors import InputError
from napari_structseg.geometry import Geometry
from napari_structseg.source_files import SourceFiles

__all__ = ["SPATIAL_NDIMS", "Geometry", "Image", "channel_names", "check_finite"]

SPATIAL_NDIMS = (2, 3)


@dataclass(frozen=True, eq=False)
class Image:
    """Channels and spatial axes, with geometry.

    Attributes
    ----------
    data
        Shape (C, Z, Y, X) or (C, Y, X); integer or floating, finite, in the dtype it came in.
    geometry
        Where the voxels lie.
    channels
        One name per channel.
    name
        What to call the image on screen and in file names.
    source
        The files that it was read from, where a reader says so.
    checked
        Whether the voxels are known to be finite, or somebody else calls
        :meth:`check_finite` before they are used: looking takes a pass over them.

    Raises
    ------
    InputError
        If the array has another number of axes, is empty, is not of real numbers, holds NaN or
        infinite values, or fits neither its geometry nor its channel names.
    """

    data: npt.NDArray[Any]
    geometry: Geometry
    channels: tuple[str, ...]
    name: str = "image"
    source: SourceFiles | None = None
    checked: InitVar[bool] = False

    def __post_init__(self, checked: bool) -> None:
        what = f"Image {self.name!r}"
        if self.data.ndim - 1 not in SPATIAL_NDIMS:
            raise InputError(
                f"{what} must have a channel axis and 2 or 3 spatial axes, but its shape is "
                f"{self.data.shape}. Select one time point or slice of it first."
            )
        if self.data.size == 0:
            raise InputError(f"{what} has no voxels: its shape is {self.data.shape}.")
        if self.data.dtype.kind not in "iuf":
            raise InputError(
                f"{what} must hold real numbers (integer or floating), but its voxels are "
                f"{self.data.dtype}. Convert it to, for example, uint8 or float32."
            )
        if self.data.shape[1:] != self.geometry.spatial_shape:
            raise InputError(
                f"{what} has spatial shape {self.data.shape[1:]}, but its geometry describes "
                f"{self.geometry.spatial_shape}."
            )
        if len(self.channels) != self.n_channels:
            raise InputError(
                f"{what} has {self.n_channels} channels, but {len(self.channels)} channel names "
                f"were given: {', '.join(self.channels)}."
            )
        if not checked:
            self.check_finite()

    def check_finite(self) -> None:
        """Raise InputError if any voxel is NaN or infinite."""
        check_finite(self.data, f"Image {self.name!r}")

    @classmethod
    def from_array(
        cls,
        data: npt.ArrayLike,
        *,
        spacing: Sequence[float] | None = None,
        affine: npt.ArrayLike | None = None,
        channel_axis: int | None = None,
        channels: Sequence[str] | None = None,
        name: str = "image",
    ) -> Image:
        """Make an image of an array, for example of a napari layer.

        Parameters
        ----------
        data
            Shape (Z, Y, X) or (Y, X), and a channel axis if `channel_axis` is given.
        spacing
            mm between voxel centres along each spatial axis, in array order. None, and no
            `affine`: the voxel size is unknown (`has_spacing` is False), and counts as 1 mm only
            for what must be computed.
        affine
            Instead of `spacing`: shape (4, 4), array index (z, y, x, 1) to world mm.
        channel_axis
            Which axis holds the channels. None: there is one channel and no axis for it.
        channels
            One name per channel.
        name
            What to call the image.

        Raises
        ------
        InputError
            If the array, the spacing or the affine cannot be used.

        Examples
        --------
        >>> image = Image.from_array(np.zeros((4, 6, 8), np.int16), spacing=(2, 1, 1))
        >>> image.data.shape, image.spacing, image.voxel_volume_ml
        ((1, 4, 6, 8), (2.0, 1.0, 1.0), 0.002)
        """
        array = _channels_first(data, channel_axis, name)
        has_spacing = spacing is not None or affine is not None
        shape = array.shape[1:]
        if affine is None:
            affine = affine_of_spacing((1.0,) * len(shape) if spacing is None else spacing, shape)
        elif spacing is not None:
            raise InputError("Give either a spacing or an affine, not both.")
        geometry = Geometry.from_affine(
            shape, affine, n_channels=array.shape[0], has_spacing=has_spacing
        )
        if channels is None:
            channels = channel_names(array.shape[0])
        return cls(array, geometry, tuple(channels), name)

    @classmethod
    def from_file_order(
        cls,
        data: npt.ArrayLike,
        affine: npt.ArrayLike,
        *,
        channel_axis: int | None = None,
        channels: Sequence[str] | None = None,
        name: str = "image",
    ) -> Image:
        """Make an image of an array in the order of a NIfTI file, as nibabel gives it.

        Axes are permuted and flipped as :func:`napari_structseg.read_image` does it: the image's
        axes run towards inferior, posterior and left, so that a viewer shows a head upright. No
        voxel is moved or interpolated. :meth:`to_file_order` brings results back.

        Parameters
        ----------
        data
            Shape (X, Y, Z) or (X, Y), and a channel axis if `channel_axis` is given.
        affine
            Shape (4, 4), array index (x, y, z, 1) to right, anterior, superior in mm.
        channel_axis
            Which axis holds the channels. None: there is one channel and no axis for it.
        channels
            One name per channel.
        name
            What to call the image.

        Raises
        ------
        InputError
            If the array or the affine cannot be used.

        Examples
        --------
        >>> voxels = np.arange(24).reshape(2, 3, 4)  # (X, Y, Z), as from nibabel
        >>> image = Image.from_file_order(voxels, np.eye(4))
        >>> image.spatial_shape
        (4, 3, 2)
        >>> bool((image.to_file_order(image.data[0]) == voxels).all())
        True
        """
        array = _channels_first(data, channel_axis, name)
        shape = array.shape[1:]
        n_channels = array.shape[0]
        stored = np.moveaxis(array, 0, -1)
        file_shape = (*(*shape, 1)[:3], n_channels) if n_channels > 1 else shape
        geometry = Geometry.from_file_order(file_shape, affine)
        oriented = np.ascontiguousarray(geometry.from_file(stored))
        if channels is None:
            channels = channel_names(n_channels)
        return cls(oriented, geometry, tuple(channels), name)

    def to_file_order(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Bring what was computed from this image back to the order it came in.

        Parameters
        ----------
        array
            Shape `spatial_shape`, or (K, *spatial_shape) for a stack of K > 1 maps.

        Returns
        -------
        array
            On the voxels of the file, or of the array given to :meth:`from_file_order`:
            (X, Y, Z) or (X, Y), or (X, Y, Z, K) for a stack. A view.

        Raises
        ------
        InputError
            If the spatial shape is not that of this image.
        """
        return self.geometry.to_file(array)

    @property
    def ndim(self) -> int:
        """The number of spatial axes, 2 or 3."""
        return self.data.ndim - 1

    @property
    def n_channels(self) -> int:
        """The number of channels."""
        return int(self.data.shape[0])

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """Shape without channels: (Z, Y, X) or (Y, X)."""
        return self.geometry.spatial_shape

    @property
    def spacing(self) -> tuple[float, ...]:
        """Distance between voxel centres in mm along each spatial axis; 1 where it is unknown."""
        return self.geometry.spacing

    @property
    def has_spacing(self) -> bool:
        """Whether anybody has said how large the voxels are. If not, count them: no mm, no mL."""
        return self.geometry.has_spacing

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel in mL; without `has_spacing` that of a voxel of 1 mm."""
        return self.geometry.voxel_volume_ml

    def with_spacing(self, spacing: Sequence[float]) -> Image:
        """The same voxels with a size, for an image that came without or with a wrong one.

        Parameters
        ----------
        spacing
            mm between voxel centres along each spatial axis, in array order.

        Raises
        ------
        InputError
            If these are not as many positive numbers as there are spatial axes.

        Examples
        --------
        >>> image = Image.from_array(np.zeros((4, 6, 8), np.int16))
        >>> image.has_spacing, image.with_spacing((2, 1, 1)).voxel_volume_ml
        (False, 0.002)
        """
        return replace(self, geometry=self.geometry.with_spacing(spacing), checked=True)


def _channels_first(data: npt.ArrayLike, channel_axis: int | None, name: str) -> npt.NDArray[Any]:
    """The array with an axis of channels before 2 or 3 spatial axes, or an InputError."""
    array = np.asanyarray(data)
    if channel_axis is not None and not -array.ndim <= channel_axis < array.ndim:
        raise InputError(
            f"The channel axis must be one of the {array.ndim} axes of the array, but it is "
            f"{channel_axis}."
        )
    first = array[np.newaxis] if channel_axis is None else np.moveaxis(array, channel_axis, 0)
    if first.ndim - 1 not in SPATIAL_NDIMS:
        raise InputError(
            f"Image {name!r} must have 2 or 3 spatial axes, but it has {first.ndim - 1} "
            f"(array shape {array.shape}). If one of them is for channels, say which."
        )
    return first


def channel_names(n_channels: int) -> tuple[str, ...]:
    """Names for channels that came with none."""
    if n_channels == 1:
        return ("image",)
    return tuple(f"channel {number}" for number in range(1, n_channels + 1))


def check_finite(data: npt.NDArray[Any], what: str) -> None:
    """Raise InputError if any of the numbers in `data` is NaN or infinite."""
    # Channel by channel, and never for integers: the mask is a byte for each voxel.
    if data.dtype.kind != "f":
        return
    bad = sum(int(channel.size - np.isfinite(channel).sum()) for channel in data)
    if bad:
        raise InputError(
            f"{what} must hold finite numbers, but {bad} of {data.size} voxels are NaN or "
            f"infinite. Replace them, for example with 0, and open it again."
        )
