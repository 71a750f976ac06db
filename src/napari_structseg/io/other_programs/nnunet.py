"""Predictions of nnU-Net with their probabilities: an .npz, and a .pkl that says where it lies.

Version 2 writes `probabilities` on the whole grid that its reader gave it; version 1 writes
`softmax`, cropped to what is not 0 in the image, and in rare cases still on its network's grid.
Both count axes as SimpleITK does, (C, z, y, x) against the x, y, z of the file. Isensee et al.,
*nnU-Net*, Nature Methods 2021; read from the sources of nnU-Net 1.7 and 2.5.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_structseg.affines import affine_of_spacing
from napari_structseg.errors import InputError
from napari_structseg.geometry import Geometry
from napari_structseg.image import Image, channel_names
from napari_structseg.io.other_programs.class_names import Labels, find_labels
from napari_structseg.io.other_programs.npz import ArrayInFile, find_array
from napari_structseg.io.other_programs.plain_data import read_plain_data
from napari_structseg.io.other_programs.resampling import resampled
from napari_structseg.memory import check_memory

SUFFIX = ".npz"
_KEYS = ("probabilities", "softmax")
_VERSION_1 = "softmax"
# What nnU-Net's reader of pictures says the distance of slices is: there are none.
_NO_SLICES = 999
# As read, in single precision, in place, and as it is handed on.
_COPIES = 3

Properties = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class NnunetPrediction:
    """One prediction, of which only the headers have been read.

    Attributes
    ----------
    path, properties_path
        The .npz, and the .pkl beside it.
    geometry
        Where its voxels lie.
    labels
        What the model told apart; None: no dataset.json was found.
    """

    path: Path
    properties_path: Path
    geometry: Geometry
    labels: Labels | None
    _array: ArrayInFile
    _properties: Properties

    @property
    def files(self) -> tuple[Path, ...]:
        """What it is made of."""
        return self.path, self.properties_path

    @property
    def names(self) -> tuple[str, ...] | None:
        """Names of its classes; None: nobody has said."""
        return None if self.labels is None else self.labels.names

    @property
    def n_classes(self) -> int:
        """Number of classes, background included."""
        n_outputs = self._array.shape[0]
        return n_outputs if self.labels is None or self.labels.regions is None else n_outputs + 1

    def read(self) -> Image:
        """The probabilities of its classes, ``(C, *spatial)``, on its own grid.

        Raises
        ------
        InputError
            If the file is damaged.
        MemoryLimitError
            If it does not fit into memory.
        """
        check_memory(self.required_bytes, f"Opening {self.path}")
        maps = self._array.read().astype(np.float32, copy=False)
        if self.labels is not None and self.labels.regions is not None:
            maps = _classes_of_regions(maps)
        if self._array.key == _VERSION_1:
            maps = _uncropped(maps, self._properties, self.path)
        # SimpleITK's order is the file's, reversed.
        oriented = self.geometry.from_file(maps.transpose(3, 2, 1, 0))
        return Image(
            np.ascontiguousarray(oriented),
            self.geometry,
            self.names or channel_names(len(maps)),
            self.path.stem,
        )

    @property
    def required_bytes(self) -> int:
        """Memory that reading takes, in bytes."""
        n_voxels = math.prod(self.geometry.spatial_shape)
        return _COPIES * self.n_classes * n_voxels * np.dtype(np.float32).itemsize


def find_prediction(path: Path) -> NnunetPrediction:
    """Look at a prediction, without unpacking it.

    Parameters
    ----------
    path
        The .npz.

    Returns
    -------
    NnunetPrediction
        Its :meth:`~NnunetPrediction.read` gives the probabilities.

    Raises
    ------
    InputError
        If a file is missing or damaged, the .pkl holds more than plain data or does not say where
        the voxels lie, or the shapes do not fit together.
    """
    array = find_array(path, _KEYS)
    properties_path = path.with_suffix(".pkl")
    if not properties_path.is_file():
        raise InputError(
            f"{path} says nothing about where its voxels lie: nnU-Net writes that to "
            f"{properties_path.name}, which is missing. Copy it, too."
        )
    properties = read_plain_data(properties_path)
    if not isinstance(properties, Mapping):
        raise InputError(
            f"{properties_path} must hold the properties of a case, but it holds a "
            f"{type(properties).__name__}. Copy the .pkl that belongs to {path.name}."
        )
    if len(array.shape) != 4 or array.dtype.kind != "f":
        raise InputError(
            f"{path} must hold probabilities as (classes, z, y, x), but {array.key!r} has shape "
            f"{array.shape} and type {array.dtype}. Export the prediction again."
        )
    try:
        grid, affine = _grid(array, properties), _affine(properties)
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise InputError(
            f"{properties_path} does not say where the voxels of {path.name} lie "
            f"({type(error).__name__}: {error}). Copy the .pkl that nnU-Net wrote with it."
        ) from error
    labels = find_labels(path.parent)
    _check_labels(labels, array, path)
    geometry = _geometry(grid, affine, array.shape[0], properties_path.name)
    return NnunetPrediction(path, properties_path, geometry, labels, array, properties)


def _geometry(
    grid: tuple[int, ...], affine: npt.NDArray[np.float64] | None, n_maps: int, name: str
) -> Geometry:
    if affine is None:
        flat = affine_of_spacing((1.0, 1.0), grid[1:])
        return Geometry.from_affine(grid[1:], flat, n_channels=n_maps, has_spacing=False)
    shape = (*reversed(grid), n_maps)
    return Geometry.from_file_order(shape, affine, what=f"The place of the voxels in {name}")


def _grid(array: ArrayInFile, properties: Properties) -> tuple[int, ...]:
    """Shape of the whole grid, (z, y, x)."""
    given = tuple(array.shape[1:])
    if array.key != _VERSION_1:
        return given
    whole = _sizes(properties["original_size_of_raw_data"])
    inside = _sizes(properties.get("size_after_cropping", whole))
    box = _box(properties, whole)
    if any(stop - start != size for (start, stop), size in zip(box, inside, strict=True)):
        raise ValueError(f"the box {box} does not have the size {inside}")
    return whole


def _sizes(value: Any) -> tuple[int, ...]:  # noqa: ANN401 -- as the file has it
    sizes = tuple(int(size) for size in value)
    if len(sizes) != 3 or min(sizes) < 1:
        raise ValueError(f"{sizes} are not three sizes")
    return sizes


def _box(properties: Properties, whole: Sequence[int]) -> list[tuple[int, int]]:
    """Start and stop along each axis of what version 1 has cropped to."""
    given = properties.get("crop_bbox")
    if given is None:
        return [(0, size) for size in whole]
    box = [(int(start), int(stop)) for start, stop in given]
    for (start, stop), size in zip(box, whole, strict=True):
        if not 0 <= start < stop <= size:
            raise ValueError(f"the box {box} is not inside {tuple(whole)}")
    return box


def _affine(properties: Properties) -> npt.NDArray[np.float64] | None:
    """From the voxel (x, y, z) to right, anterior, superior in mm; None: nobody knows the size."""
    nibabel = properties.get("nibabel_stuff")
    if nibabel is not None:
        given = nibabel.get("reoriented_affine", nibabel["original_affine"])
        return np.asarray(given, np.float64).reshape(4, 4)
    itk = properties.get("sitk_stuff")
    if itk is not None:
        return _from_itk(itk["spacing"], itk["origin"], itk["direction"])
    if "itk_spacing" in properties:
        named = (properties[f"itk_{name}"] for name in ("spacing", "origin", "direction"))
        return _from_itk(*named)
    if float(properties["spacing"][0]) == _NO_SLICES:
        return None
    raise KeyError("sitk_stuff")


def _from_itk(spacing: Any, origin: Any, direction: Any) -> npt.NDArray[np.float64]:  # noqa: ANN401
    """ITK's world runs towards left and posterior; a picture lies on the first slice of it."""
    steps = np.asarray(spacing, np.float64)
    n_axes = len(steps)
    if n_axes not in (2, 3):
        raise ValueError(f"there are {n_axes} spacings")
    affine = np.eye(4)
    affine[:n_axes, :n_axes] = np.asarray(direction, np.float64).reshape(n_axes, n_axes) * steps
    affine[:n_axes, 3] = np.asarray(origin, np.float64)
    affine[:2] *= -1
    return affine


def _check_labels(labels: Labels | None, array: ArrayInFile, path: Path) -> None:
    """Refuse outputs that the dataset.json does not explain."""
    if labels is None:
        return
    expected = len(labels.names) if labels.regions is None else len(labels.regions)
    if array.shape[0] != expected:
        raise InputError(
            f"{path} has {array.shape[0]} maps, but the dataset.json near it describes "
            f"{expected} ({', '.join(labels.names)}). Put the dataset.json of the model that made "
            "the prediction beside it."
        )
    regions = labels.regions or ()
    # Each is in the one before it, so that the difference is a class.
    if any(not later < earlier for earlier, later in pairwise(regions)):
        raise InputError(
            f"{path} holds the probabilities of regions that do not lie one in the other "
            f"({', '.join(labels.names[1:])}), so that nobody can say how probable each class is. "
            "Give probabilities of classes."
        )


def _classes_of_regions(maps: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Probabilities of classes from those of regions that lie one in the other.

    A class is what is in its region and not in the next one. Where an inner region is said to be
    more probable than the one around it, it counts as much.
    """
    whole = np.ones_like(maps[:1])
    nested = np.minimum.accumulate(np.concatenate([whole, maps]), axis=0)
    nested[:-1] -= nested[1:]
    return nested


def _uncropped(
    maps: npt.NDArray[np.float32], properties: Properties, path: Path
) -> npt.NDArray[np.float32]:
    """Version 1's maps on the whole grid: what it has cropped away is background."""
    whole = _sizes(properties["original_size_of_raw_data"])
    box = _box(properties, whole)
    inside = tuple(stop - start for start, stop in box)
    if maps.shape[1:] != inside:
        resampled_to = properties.get("size_after_resampling")
        if resampled_to is None or sorted(resampled_to) != sorted(maps.shape[1:]):
            raise InputError(
                f"{path} has maps of {maps.shape[1:]} voxels, but its .pkl says that the image "
                f"was cropped to {inside}. Copy the .pkl that belongs to it."
            )
        maps = resampled(maps, inside, [float(step) for step in properties["original_spacing"]])
    result = np.zeros((len(maps), *whole), np.float32)
    result[0] = 1
    index = tuple(slice(start, stop) for start, stop in box)
    result[(slice(None), *index)] = maps
    return result
