"""Probabilities and label maps that any program wrote as NIfTI files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_structseg.errors import InputError
from napari_structseg.geometry import Geometry
from napari_structseg.image import Image, channel_names
from napari_structseg.io.checks import file_stem, is_nifti_path
from napari_structseg.io.formats import PNG, has_ending
from napari_structseg.io.nifti import read_geometry, read_image
from napari_structseg.io.png import read_png
from napari_structseg.memory import check_memory

# What a label map leaves to all other classes together: it says nothing of how sure it is.
OTHER_CLASSES = 1e-3
# Sums of maps that were stored as bytes or half floats are wrong by so much.
SUM_TOLERANCE = 0.01
BACKGROUND = "background"
_MAX_CLASSES = 255
_MAX_FILES = 1000
_ITEM = np.dtype(np.float32).itemsize


@dataclass(frozen=True, slots=True)
class StackedMaps:
    """A 4-D file with a map for each class along its last axis, the background first."""

    path: Path
    geometry: Geometry
    n_classes: int

    @property
    def files(self) -> tuple[Path, ...]:
        """What it is made of."""
        return (self.path,)

    @property
    def names(self) -> None:
        """None: the file does not say."""

    @property
    def required_bytes(self) -> int:
        """Memory that reading takes, in bytes."""
        return 3 * self.n_classes * math.prod(self.geometry.spatial_shape) * _ITEM

    def read(self) -> Image:
        """The probabilities, ``(C, *spatial)``."""
        image = read_image(self.path)
        data = image.data.astype(np.float32, copy=False)
        if image.data.dtype.kind in "iu" and int(image.data.max()) > 1:
            raise InputError(
                f"{self.path} must hold probabilities from 0 to 1, but it holds whole numbers up "
                f"to {int(image.data.max())}. Divide them by the largest that there can be."
            )
        return replace(image, data=softened(data), checked=True)


@dataclass(frozen=True, slots=True)
class MapOfEachClass:
    """A folder with one 3-D file for each class, named after it: TotalSegmentator's way.

    Where no file is called "background", the background is what the others leave of 1.
    """

    path: Path
    geometry: Geometry
    files: tuple[Path, ...]
    names: tuple[str, ...]

    @property
    def n_classes(self) -> int:
        """Number of classes, background included."""
        return len(self.names)

    @property
    def required_bytes(self) -> int:
        """Memory that reading takes, in bytes."""
        return 2 * (self.n_classes + 1) * math.prod(self.geometry.spatial_shape) * _ITEM

    def read(self) -> Image:
        """The probabilities, ``(C, *spatial)``."""
        check_memory(self.required_bytes, f"Opening the maps in {self.path}")
        first = self.n_classes - len(self.files)
        maps = np.zeros((self.n_classes, *self.geometry.spatial_shape), np.float32)
        for one, path in zip(maps[first:], self.files, strict=True):
            image = read_image(path)
            if not image.geometry.same_grid(self.geometry) or image.n_channels > 1:
                raise InputError(
                    f"The maps of the classes in {self.path} must lie on one voxel grid, one in "
                    f"each file, but {path.name} has shape {image.spatial_shape} and "
                    f"{image.n_channels} channels, and {self.files[0].name} has "
                    f"{self.geometry.spatial_shape}, or they lie in different places."
                )
            one[:] = image.data[0]
        if first:
            np.subtract(1, maps[1:].sum(axis=0), out=maps[0])
            if float(maps[0].min()) < -SUM_TOLERANCE:
                raise InputError(
                    f"The maps of the classes in {self.path} must not sum to more than 1, but "
                    f"they sum to {1 - float(maps[0].min()):.6g} somewhere. They overlap, or are "
                    "no probabilities from 0 to 1."
                )
            np.maximum(maps[0], 0, out=maps[0])
        return Image(softened(maps), self.geometry, self.names, self.path.name)


@dataclass(frozen=True, slots=True)
class LabelMap:
    """A file with one label for each voxel, or with the probability of the one foreground class.

    Attributes
    ----------
    path, geometry
        The file, and where its voxels lie.
    values
        The labels that it and all members beside it hold, in order, the background 0 first; None:
        it holds probabilities of a foreground.
    """

    path: Path
    geometry: Geometry
    values: tuple[int, ...] | None
    _voxels: npt.NDArray[Any]

    @property
    def files(self) -> tuple[Path, ...]:
        """What it is made of."""
        return (self.path,)

    @property
    def n_classes(self) -> int:
        """Number of classes, background included."""
        return 2 if self.values is None else max(2, len(self.values))

    @property
    def names(self) -> tuple[str, ...] | None:
        """The labels, where classes do not count as they do; None: they do."""
        if self.values is None or self.values == tuple(range(len(self.values))):
            return None
        return (BACKGROUND, *(f"label {value}" for value in self.values[1:]))

    @property
    def required_bytes(self) -> int:
        """Memory that reading takes, in bytes."""
        return 2 * self.n_classes * math.prod(self.geometry.spatial_shape) * _ITEM

    def read(self) -> Image:
        """The probabilities, ``(C, *spatial)``."""
        check_memory(self.required_bytes, f"Opening {self.path}")
        shape = (self.n_classes, *self._voxels.shape)
        if self.values is None:
            maps = np.stack([1 - self._voxels, self._voxels]).astype(np.float32)
        else:
            maps = np.zeros(shape, np.float32)
            for one, value in zip(maps, self.values, strict=False):
                one[self._voxels == value] = 1
        names = self.names or channel_names(self.n_classes)
        return Image(softened(maps), self.geometry, names, file_stem(self.path), checked=True)


FileMaps = StackedMaps | MapOfEachClass | LabelMap


def find_maps(path: Path) -> StackedMaps | LabelMap:
    """Look at a NIfTI file of probabilities or labels, or at a PNG of labels.

    Raises
    ------
    InputError
        If it cannot be read, or holds neither.
    """
    is_picture = has_ending(path, PNG)
    geometry = None if is_picture else read_geometry(path)
    n_maps = 1 if geometry is None else math.prod(geometry.file_shape[3:])
    if geometry is not None and n_maps > 1:
        return StackedMaps(path, geometry, n_maps)
    image = read_png(path) if is_picture else read_image(path)
    if image.n_channels > 1:
        raise InputError(
            f"{path} must hold labels, one for each pixel, but it is in colour. Save it in grey."
        )
    voxels = image.data[0]
    least, most = float(voxels.min()), float(voxels.max())
    if voxels.dtype.kind == "f" and not np.array_equal(voxels, np.round(voxels)):
        if least < 0 or most > 1:
            raise InputError(
                f"{path} must hold labels (whole numbers) or the probability of a foreground, "
                f"from 0 to 1, but its values lie between {least:.6g} and {most:.6g}. Give a file "
                "with a map for each class along the fourth axis."
            )
        return LabelMap(path, image.geometry, None, voxels)
    if least < 0 or most > np.iinfo(np.uint16).max:
        raise InputError(
            f"{path} must hold labels from 0 to 65535, but they lie between {least:.6g} and "
            f"{most:.6g}. Renumber them."
        )
    labels = voxels.astype(np.uint8 if most <= np.iinfo(np.uint8).max else np.uint16)
    return with_values(LabelMap(path, image.geometry, (), labels), np.unique(labels).tolist())


def with_values(one: LabelMap, values: Sequence[int]) -> LabelMap:
    """The label map among others, whose values together are these."""
    found = sorted({0, *values})
    if found[-1] < _MAX_CLASSES:
        # Labels without a gap are what other programs mean by 0, 1, 2.
        full = list(range(found[-1] + 1))
        found = full if len(full) <= 2 * len(found) else found
    if len(found) > _MAX_CLASSES:
        raise InputError(
            f"{one.path} must hold at most {_MAX_CLASSES} labels, but it and the members beside "
            f"it hold {len(found)}. Leave out some, or join them."
        )
    return replace(one, values=tuple(found))


def find_map_of_each_class(folder: Path) -> MapOfEachClass:
    """Look at a folder with one file for each class.

    Raises
    ------
    InputError
        If there are no files in it, too many, or one cannot be read.
    """
    files = sorted(path for path in folder.iterdir() if is_nifti_path(path))
    if not 1 <= len(files) <= _MAX_FILES:
        raise InputError(
            f"{folder} must hold one NIfTI file for each class, but it holds {len(files)}."
        )
    files.sort(key=lambda path: file_stem(path).lower() != BACKGROUND)
    names = tuple(file_stem(path) for path in files)
    if names[0].lower() != BACKGROUND:
        names = (BACKGROUND, *names)
    if not 2 <= len(names) <= _MAX_CLASSES:
        raise InputError(
            f"{folder} must hold maps of 2 to {_MAX_CLASSES} classes, the background included, "
            f"but there are {len(names)}. Add files, or leave some out."
        )
    return MapOfEachClass(folder, read_geometry(files[0]), tuple(files), names)


def softened(maps: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Probabilities as they are; of maps of zeros and ones, less certain ones, in place."""
    if not all(np.isin(channel, (0, 1)).all() for channel in maps):
        return maps
    maps *= 1 - OTHER_CLASSES - OTHER_CLASSES / (len(maps) - 1)
    maps += OTHER_CLASSES / (len(maps) - 1)
    return maps
