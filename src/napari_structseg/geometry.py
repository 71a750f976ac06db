"""Where voxels lie in the world, and how the file they came from stored them.

An array's axis order is Z, Y, X (2-D: Y, X), the order of numpy, torch and napari. NIfTI counts
voxels in the opposite order, X, Y, Z; `Geometry` is the only place that knows both, and so this
module is longer than others: most of it is the documentation of one class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from nibabel.orientations import io_orientation

from napari_structseg.affines import array_to_file, check_affine, check_spacing
from napari_structseg.errors import InputError

_AXIS_NAMES = ("Z", "Y", "X")
_MM3_PER_ML = 1000.0


@dataclass(frozen=True, eq=False)
class Geometry:
    """Where voxels lie in the world, and how the file stored them.

    The voxel grid always has three axes. A 2-D image lies on a grid of one voxel across
    `flat_axis`, so its position, and the thickness that its volumes need, are kept.

    Attributes
    ----------
    affine
        Shape (4, 4). Maps the index (z, y, x, 1) of an array voxel to world coordinates
        (right, anterior, superior, 1) in mm.
    file_shape
        Shape as stored, in file order: X, Y, Z, then channels, trailing ones included.
    file_affine
        Shape (4, 4). Maps the index (x, y, z, 1) of a stored voxel to the file's own world,
        in the file's own unit. It is never altered, so that what is saved overlays exactly.
    file_axes
        For each array axis Z, Y, X: the file axis it came from.
    file_flips
        For each array axis: whether it runs against its file axis.
    flat_axis
        The array axis of one voxel that a 2-D image leaves out; None for a volume.
    file_header
        The file's header as bytes, for `io.nifti` to write on the same grid. Empty for images
        that came from no file.
    has_spacing
        Whether anybody has said how large the voxels are. If not, they count as 1 mm for what
        must be computed, but sizes are given in pixels or voxels, never in mm or mL.
    """

    affine: npt.NDArray[np.float64]
    file_shape: tuple[int, ...]
    file_affine: npt.NDArray[np.float64]
    file_axes: tuple[int, int, int] = (2, 1, 0)
    file_flips: tuple[bool, bool, bool] = (False, False, False)
    flat_axis: int | None = None
    file_header: bytes = b""
    has_spacing: bool = True

    def __post_init__(self) -> None:
        for field in ("affine", "file_affine"):
            names = _AXIS_NAMES if field == "affine" else _AXIS_NAMES[::-1]
            matrix = check_affine(getattr(self, field), names)
            matrix.setflags(write=False)
            object.__setattr__(self, field, matrix)
        if any(size < 1 for size in self.file_shape):
            raise InputError(f"The image has no voxels: its shape is {self.file_shape}.")

    @classmethod
    def from_affine(
        cls,
        spatial_shape: Sequence[int],
        affine: npt.ArrayLike,
        *,
        n_channels: int = 1,
        has_spacing: bool = True,
    ) -> Geometry:
        """Return the geometry of an array that came from no file.

        Parameters
        ----------
        spatial_shape
            (Z, Y, X) or (Y, X).
        affine
            Shape (4, 4), array index (z, y, x, 1) to mm; also for 2-D, where the first column is
            the slice's thickness.
        n_channels
            How many channels lie on the grid.
        has_spacing
            Whether the affine says how large the voxels are, or only stands for what nobody said.
        """
        matrix = check_affine(affine, _AXIS_NAMES)
        file_affine = matrix[:, [2, 1, 0, 3]]
        file_shape = tuple(int(size) for size in reversed(spatial_shape))
        flat_axis = 0 if len(spatial_shape) == 2 else None
        if n_channels > 1:
            thickness = (1,) if flat_axis == 0 else ()
            file_shape = (*file_shape, *thickness, n_channels)
        return cls(matrix, file_shape, file_affine, flat_axis=flat_axis, has_spacing=has_spacing)

    @classmethod
    def from_file_order(
        cls,
        file_shape: Sequence[int],
        file_affine: npt.ArrayLike,
        *,
        mm_per_unit: float = 1.0,
        file_header: bytes = b"",
        has_spacing: bool = True,
        what: str = "The affine",
    ) -> Geometry:
        """Return the geometry of an array in the order of a file, as nibabel gives it.

        The array that is worked with runs as nearly as possible towards inferior, posterior and
        left: a viewer draws row 0 at the top and column 0 at the left, so a head is upright and
        the patient's right is on the left, as radiologists read it. :meth:`from_file` permutes
        and flips the axes, :meth:`to_file` undoes that.

        Parameters
        ----------
        file_shape
            X, Y, Z, then channels; axes of one voxel at the end may be missing.
        file_affine
            Shape (4, 4). Maps the index (x, y, z, 1) to right, anterior, superior.
        mm_per_unit
            mm in one unit of the file's world.
        file_header
            The file's header as bytes, if there is one.
        has_spacing
            Whether the affine says how large the voxels are.
        what
            What to call the affine in a message.

        Raises
        ------
        InputError
            If the affine cannot place voxels, or an axis has none.
        """
        matrix = check_affine(file_affine, _AXIS_NAMES[::-1], what)
        grid = (*file_shape, 1, 1, 1)[:3]
        orientation = io_orientation(matrix)
        # Row f: the world axis (0 right, 1 anterior, 2 superior) nearest to file axis f, and the
        # sign. Array axes come in the other order, Z first.
        axes = [int(np.flatnonzero(orientation[:, 0] == world)[0]) for world in (2, 1, 0)]
        flips = [bool(orientation[axis, 1] > 0) for axis in axes]
        affine = matrix @ array_to_file(grid, axes, flips)
        affine[:3] *= mm_per_unit
        thin = [axis for axis in range(3) if grid[axis] == 1]
        return cls(
            affine=affine,
            file_shape=tuple(int(size) for size in file_shape),
            file_affine=matrix,
            file_axes=(axes[0], axes[1], axes[2]),
            file_flips=(flips[0], flips[1], flips[2]),
            flat_axis=axes.index(thin[-1]) if thin else None,
            file_header=file_header,
            has_spacing=has_spacing,
        )

    @property
    def ndim(self) -> int:
        """The number of spatial axes of the array, 2 or 3."""
        return 3 if self.flat_axis is None else 2

    @property
    def _file_grid(self) -> tuple[int, int, int]:
        x, y, z = (*self.file_shape, 1)[:3]
        return (x, y, z)

    @property
    def _kept_axes(self) -> tuple[int, ...]:
        return tuple(axis for axis in range(3) if axis != self.flat_axis)

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """Array shape without channels: (Z, Y, X) or (Y, X)."""
        return tuple(self._file_grid[self.file_axes[axis]] for axis in self._kept_axes)

    @property
    def spacing(self) -> tuple[float, ...]:
        """Distance between voxel centres in mm along each array axis; 1 where it is unknown."""
        lengths = np.linalg.norm(self.affine[:3, :3], axis=0)
        return tuple(float(lengths[axis]) for axis in self._kept_axes)

    @property
    def file_affine_mm(self) -> npt.NDArray[np.float64]:
        """Shape (4, 4). Maps (x, y, z, 1) of a stored voxel to right, anterior, superior in mm."""
        to_file = array_to_file(self._file_grid, self.file_axes, self.file_flips)
        moved: npt.NDArray[np.float64] = self.affine @ np.linalg.inv(to_file)
        return moved

    @property
    def axes_against_ras(self) -> tuple[int, ...]:
        """Array axes that run towards inferior, posterior or left: those to flip for RAS."""
        towards = [self.affine[2 - axis, axis] for axis in self._kept_axes]
        return tuple(axis for axis, step in enumerate(towards) if step < 0)

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel in mL; for a 2-D image, of one pixel at the slice's thickness.

        Without `has_spacing` it is that of a voxel of 1 mm, and no volume to be shown.
        """
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / _MM3_PER_ML

    def moved(self, movement: npt.ArrayLike, *, has_spacing: bool = True) -> Geometry:
        """The same stored grid after its voxels were moved.

        Parameters
        ----------
        movement
            Shape (ndim + 1, ndim + 1): maps the index of an array voxel to the index of the place
            where it now lies, which may be between voxels or outside of the grid.
        has_spacing
            Whether the size of the voxels is known now.

        Returns
        -------
        geometry
            In mm, without the header of the file, which describes another place.

        Raises
        ------
        InputError
            If the voxels cannot be placed any longer.
        """
        rows = (*self._kept_axes, 3)
        step = np.eye(4)
        step[np.ix_(rows, rows)] = np.asarray(movement, dtype=np.float64)
        affine = self.affine @ step
        to_file = array_to_file(self._file_grid, self.file_axes, self.file_flips)
        return replace(
            self,
            affine=affine,
            file_affine=affine @ np.linalg.inv(to_file),
            file_header=b"",
            has_spacing=has_spacing,
        )

    def same_grid(self, other: Geometry, tolerance_mm: float = 1e-2) -> bool:
        """Whether every voxel of `other` lies within `tolerance_mm` of the same voxel here."""
        if self.spatial_shape != other.spatial_shape or self.flat_axis != other.flat_axis:
            return False
        sizes = [self._file_grid[axis] - 1 for axis in self.file_axes]
        corners = np.array(np.meshgrid(*[(0, size) for size in sizes])).reshape(3, -1)
        corners = np.vstack([corners, np.ones(corners.shape[1])])
        apart = (self.affine - other.affine)[:3] @ corners
        return bool(np.linalg.norm(apart, axis=0).max() <= tolerance_mm)

    def cropped(self, region: tuple[slice, ...], flat_axis: int | None = None) -> Geometry:
        """The geometry of a part of a volume, in the same world, as if it came from no file.

        Parameters
        ----------
        region
            Slices of the three array axes, with start and stop.
        flat_axis
            The axis that is left out where the part is a single slice along it.
        """
        affine = self.affine.copy()
        affine[:, 3] = affine @ (*[part.start for part in region], 1)
        shape = tuple(part.stop - part.start for part in reversed(region))
        return Geometry(
            affine,
            shape,
            affine[:, [2, 1, 0, 3]],
            flat_axis=flat_axis,
            has_spacing=self.has_spacing,
        )

    def with_spacing(self, spacing: Sequence[float]) -> Geometry:
        """The same grid with voxels of another size, which is known from now on.

        Parameters
        ----------
        spacing
            mm between voxel centres along each array axis.

        Raises
        ------
        InputError
            If these are not as many positive numbers as the array has axes.
        """
        lengths = check_spacing(spacing, self.spatial_shape)
        return self.moved(np.diag([*(lengths / self.spacing), 1.0]))

    def from_file(self, stored: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Bring an array in file order, `file_shape`, to (C, Z, Y, X) or (C, Y, X).

        The result is a view: no voxel is moved or interpolated.
        """
        grid = stored.reshape(*self._file_grid, -1)
        array = grid.transpose(3, *self.file_axes)[(slice(None), *self._flips())]
        return array if self.flat_axis is None else array.squeeze(self.flat_axis + 1)

    def to_file(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Bring one map per voxel, or a stack of them, back to the order of the file.

        Parameters
        ----------
        array
            Shape `spatial_shape`, or (K, *spatial_shape), with K > 1 for example for class
            probabilities.

        Returns
        -------
        array
            One map has the shape of the file (without its channels); a stack has (X, Y, Z, K).

        Raises
        ------
        InputError
            If the spatial shape is not that of this geometry.
        """
        if array.shape[-self.ndim :] != self.spatial_shape or array.ndim > self.ndim + 1:
            raise InputError(
                f"The image's voxel grid is {self.spatial_shape}, but the array to be placed on "
                f"it has shape {array.shape}. Use an array computed from this image."
            )
        stacked = array if array.ndim == self.ndim + 1 else array[np.newaxis]
        if self.flat_axis is not None:
            stacked = np.expand_dims(stacked, self.flat_axis + 1)
        stacked = stacked[(slice(None), *self._flips())]
        inverse = [1 + self.file_axes.index(axis) for axis in range(3)]
        stored = stacked.transpose(*inverse, 0)
        if array.ndim == self.ndim + 1:
            return stored
        several_channels = any(size > 1 for size in self.file_shape[3:])
        return stored.reshape(self._file_grid if several_channels else self.file_shape)

    def _flips(self) -> tuple[slice, slice, slice]:
        z, y, x = (slice(None, None, -1 if flip else None) for flip in self.file_flips)
        return (z, y, x)
