"""A data set of many images of one size, as two arrays: thousands of files would take minutes.

.. code-block:: text

    DATASET/
        dataset.json    channel_names and labels as in nnU-Net; raters, spacing (mm) if known
        images.npy      (N, C, *spatial), any integer or floating type
        labels.npy      (N, R, *spatial), uint8: the labels of each of R raters
        cases.csv       columns case, patient, split (train, val or test); a line for each image

Arrays are mapped, not read: only the images in use are in memory. Rows of a 2-D image run
downwards and columns to the right; volumes are in RAS order, (Z, Y, X).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from napari_structseg.data.cases import PreparedCase, ReadCase
from napari_structseg.data.description import (
    DESCRIPTION,
    channels_of,
    classes_of,
    read_description,
)
from napari_structseg.data.stack_table import StackCase, read_cases
from napari_structseg.errors import ConfigError, InputError
from napari_structseg.image import SPATIAL_NDIMS, Image, check_finite
from napari_structseg.models import IntensitySpec
from napari_structseg.prediction.preprocess import normalise

IMAGES, LABELS, CASES = "images.npy", "labels.npy", "cases.csv"
# Images whose labels are looked through at a time.
_CHUNK = 256


@dataclass(frozen=True, eq=False)
class Stack:
    """A data set of images of one size.

    Attributes
    ----------
    folder
        Where it is.
    channels, classes, raters
        Names.
    spacing
        Pixel or voxel size in mm, in array order; 1 if the description has none.
    cases
        In the order of the arrays.
    """

    folder: Path
    channels: tuple[str, ...]
    classes: tuple[str, ...]
    raters: tuple[str, ...]
    spacing: tuple[float, ...]
    cases: tuple[StackCase, ...]
    _images: npt.NDArray[Any]
    _labels: npt.NDArray[np.uint8]

    @property
    def ndim(self) -> int:
        """Spatial dimensions, 2 or 3."""
        return self._images.ndim - 2

    def of_split(self, split: str) -> tuple[StackCase, ...]:
        """The cases of a split, in the order of the arrays."""
        return tuple(case for case in self.cases if case.split == split)

    def pixels(self, case: StackCase) -> npt.NDArray[Any]:
        """The image of a case as an array, ``(C, *spatial)``.

        Raises
        ------
        InputError
            If it holds numbers that are not finite.
        """
        pixels = np.array(self._images[case.index])
        check_finite(pixels, f"{case.name} of {self.folder / IMAGES}")
        return pixels

    def image(self, case: StackCase) -> Image:
        """The image of a case.

        Raises
        ------
        InputError
            As :meth:`pixels`.
        """
        return Image.from_array(
            self.pixels(case),
            channel_axis=0,
            channels=self.channels,
            spacing=self.spacing,
            name=case.name,
        )

    def labels(self, case: StackCase) -> npt.NDArray[np.uint8]:
        """The labels of each rater, ``(R, *spatial)``."""
        return np.array(self._labels[case.index])

    def read(self, case: StackCase, raters: Sequence[str] | None = None) -> ReadCase:
        """A case with some of its raters, by name, in this order; None: all.

        Raises
        ------
        InputError
            As :meth:`pixels`.
        """
        labels = self.labels(case)
        if raters is not None:
            labels = labels[[self.raters.index(rater) for rater in raters]]
        return ReadCase(case.name, case.patient, self.image(case), labels)


class StackCases(Sequence[PreparedCase]):
    """Some cases of a stack, each prepared when it is asked for.

    Parameters
    ----------
    stack
        The data set.
    cases
        Which of it.
    intensity
        How to normalise.
    """

    def __init__(self, stack: Stack, cases: Sequence[StackCase], intensity: IntensitySpec) -> None:
        self.stack = stack
        self.cases = tuple(cases)
        self.intensity = intensity

    def __len__(self) -> int:
        return len(self.cases)

    @overload
    def __getitem__(self, index: int) -> PreparedCase: ...
    @overload
    def __getitem__(self, index: slice) -> StackCases: ...

    def __getitem__(self, index: int | slice) -> PreparedCase | StackCases:
        if isinstance(index, slice):
            return StackCases(self.stack, self.cases[index], self.intensity)
        case = self.cases[index]
        pixels = self.stack.pixels(case)
        try:
            image = normalise(pixels, self.intensity).numpy()
        except InputError as error:
            raise InputError(f"{case.name} of {self.stack.folder / IMAGES}: {error}") from error
        return PreparedCase(case.name, image, tuple(self.stack.labels(case)), self.stack.spacing)

    def __iter__(self) -> Iterator[PreparedCase]:
        return (self[index] for index in range(len(self)))


def is_stack(folder: Path) -> bool:
    """Whether a folder holds a data set as arrays rather than as files."""
    return (folder / IMAGES).is_file()


def read_stack(folder: Path) -> Stack:
    """Open a data set and check all that does not need its images to be read.

    Parameters
    ----------
    folder
        See the module.

    Raises
    ------
    ConfigError
        If a file is missing or not valid, or they do not fit together.
    InputError
        If labels.npy holds values that dataset.json does not name.
    """
    description = read_description(folder / DESCRIPTION)
    channels, classes = channels_of(description, folder), classes_of(description, folder)
    images, labels = _mapped(folder / IMAGES), _mapped(folder / LABELS)
    ndim = images.ndim - 2
    if ndim not in SPATIAL_NDIMS or images.dtype.kind not in "uif" or not images.size:
        raise ConfigError(
            f"{folder / IMAGES} must hold numbers of shape (images, channels, Y, X) or (images, "
            f"channels, Z, Y, X), but it holds {images.dtype} of shape {images.shape}."
        )
    if images.shape[1] != len(channels):
        raise ConfigError(
            f"{folder / IMAGES} has {images.shape[1]} channels (its second axis), but "
            f"{DESCRIPTION} names {len(channels)}: {', '.join(channels)}."
        )
    fits = labels.ndim == images.ndim and labels.shape[1] > 0
    if labels.dtype != np.uint8 or not fits or _grid(labels) != _grid(images):
        raise ConfigError(
            f"{folder / LABELS} must be uint8 with the shape (images, raters, ...) for images of "
            f"shape {images.shape}, but it is {labels.dtype} with the shape {labels.shape}."
        )
    raters = description.raters or tuple(str(n) for n in range(1, labels.shape[1] + 1))
    if len(raters) != labels.shape[1] or len(set(raters)) < len(raters):
        raise ConfigError(
            f"{folder / LABELS} has {labels.shape[1]} raters (its second axis), but {DESCRIPTION} "
            f"names {len(raters)}: {', '.join(raters)}. Give each a name of their own, or none."
        )
    spacing = description.spacing or (1.0,) * ndim
    if len(spacing) != ndim:
        raise ConfigError(
            f"{folder / DESCRIPTION}: spacing {list(spacing)} needs {ndim} values, one for each "
            "spatial axis."
        )
    _check_labels(folder / LABELS, labels, classes)
    cases = read_cases(folder / CASES, len(images))
    return Stack(folder, channels, classes, raters, spacing, cases, images, labels)


def _mapped(path: Path) -> npt.NDArray[Any]:
    try:
        _check_array_header(path)
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    # NumPy parses a header as Python, and maps a shape as it stands.
    except (
        OSError,
        ValueError,
        EOFError,
        SyntaxError,
        TypeError,
        OverflowError,
        TokenError,
    ) as error:
        raise ConfigError(
            f"Cannot read the array {path}: {error}. Write it with numpy.save; docs/training.md "
            "says what it holds."
        ) from error
    return array


def _check_array_header(path: Path) -> None:
    """Raise ValueError for a shape that is none, or that the file cannot hold."""
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        read_header = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read_header(file)
        begin = file.tell()
    if any(size < 0 for size in shape):
        raise ValueError(f"its header says shape {shape}")
    # As integers of Python: NumPy's product of a damaged shape overflows.
    promised = math.prod(shape) * dtype.itemsize
    if promised > path.stat().st_size - begin:
        raise ValueError(f"its header promises {promised} bytes, which it does not hold")


def _grid(array: npt.NDArray[Any]) -> tuple[int, ...]:
    """Number of images, and their size."""
    return (array.shape[0], *array.shape[2:])


def _check_labels(path: Path, labels: npt.NDArray[np.uint8], classes: Sequence[str]) -> None:
    for start in range(0, len(labels), _CHUNK):
        largest = int(labels[start : start + _CHUNK].max())
        if largest >= len(classes):
            raise InputError(
                f"{path} holds the value {largest}, but {DESCRIPTION} names the labels 0 to "
                f"{len(classes) - 1} ({', '.join(classes)}). Renumber the labels, or name them "
                "all."
            )
