"""The voxels of a data set: read, checked and prepared before training starts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from napari_structseg.data.dataset import Case, Dataset
from napari_structseg.errors import ConfigError, InputError
from napari_structseg.image import Image
from napari_structseg.io.channels import read_channels
from napari_structseg.io.png import SUFFIX as PNG_SUFFIX
from napari_structseg.memory import check_memory
from napari_structseg.models.spec import IntensitySpec
from napari_structseg.prediction.preprocess import normalise, resample, size_at_spacing

_MAX_NAMED = 5
UNREVIEWED = 255
"""Label of voxels of which nobody has said the class: they carry no loss and no score. No class has
it, since there are at most 255, counted from 0."""


@dataclass(frozen=True, eq=False)
class ReadCase:
    """One case in memory, on its own grid.

    Attributes
    ----------
    name, patient
        What it is called, and whom it is of.
    image
        As it is in its files.
    raters
        Labels of each rater, ``(M, *spatial)``.
    where
        The file that messages name.
    has_spacing
        Whether the data set says how large its voxels are.
    """

    name: str
    patient: str
    image: Image
    raters: npt.NDArray[np.uint8]
    where: str = ""
    has_spacing: bool = True


@dataclass(frozen=True, eq=False)
class PreparedCase:
    """One case as the network sees it, in memory.

    Attributes
    ----------
    name
        Of the case.
    image
        ``(C, *spatial)`` float32, normalised and resampled, its axes towards superior, anterior
        and right.
    labels
        ``(*spatial)`` uint8 of each rater.
    spacing
        Voxel size in mm, in array order.
    """

    name: str
    image: npt.NDArray[np.float32]
    labels: tuple[npt.NDArray[np.uint8], ...]
    spacing: tuple[float, ...]


def read_case(
    case: Case,
    dataset: Dataset,
    dimensions: int | None = None,
    raters: Sequence[str] | None = None,
) -> ReadCase:
    """Read the image of a case and the labels of its raters, and check them.

    Parameters
    ----------
    case, dataset
        Which.
    dimensions
        That the image must have, 2 or 3; None: any.
    raters
        Whose labels, by name, in this order; None: all.

    Raises
    ------
    ConfigError
        If the case does not fit the configuration or dataset.json.
    InputError
        If a file is damaged, not finite, or not on the same grid as the first of its case.
    MemoryLimitError
        If the case does not fit into memory.
    """
    image = _read_image(case, dataset)
    first = case.images[0]
    if dimensions not in (None, image.ndim):
        raise ConfigError(
            f"The configuration has dimensions = {dimensions}, but {first} is {image.ndim}-D with "
            f"shape {image.spatial_shape}. Set dimensions = {image.ndim}, or use other images."
        )
    files = dict(zip(case.raters, case.labels, strict=True))
    chosen = case.raters if raters is None else raters
    labels = [_read_labels(files[rater], image, dataset) for rater in chosen]
    has_spacing = not first.name.endswith(PNG_SUFFIX)
    return ReadCase(case.name, "", image, np.stack(labels), str(first), has_spacing)


def prepare(
    case: ReadCase,
    *,
    intensity: IntensitySpec,
    spacing: Sequence[float] | None,
) -> PreparedCase:
    """Normalise the image of a case and bring image and labels to the grid of a network.

    Parameters
    ----------
    case
        Which.
    intensity
        How to normalise.
    spacing
        Voxel size of the model in mm, in array order; None: the case stays on its grid.

    Raises
    ------
    ConfigError
        If the case does not fit the configuration.
    InputError
        If its intensities cannot be normalised.
    MemoryLimitError
        If the prepared case does not fit into memory.
    """
    image = case.image
    if spacing is not None and not case.has_spacing:
        raise ConfigError(
            f"{case.where} has no voxel size, since it is a PNG, so it cannot be resampled. "
            "Remove spacing from the configuration."
        )
    size = size_at_spacing(image.spatial_shape, image.spacing, spacing)
    n_voxels = math.prod(size) + math.prod(image.spatial_shape)
    check_memory(
        n_voxels * (4 * image.n_channels + len(case.raters)), f"Preparing the case {case.name!r}"
    )
    try:
        normalised = normalise(in_ras(image), intensity)
    except InputError as error:
        raise InputError(f"{case.where}: {error}") from error
    raters = torch.from_numpy(_flipped_to_ras(case.raters, image))
    labels = tuple(resample(rater[None], size, nearest=True)[0].numpy() for rater in raters)
    actual = tuple(
        n_old * step / n_new
        for n_old, step, n_new in zip(image.spatial_shape, image.spacing, size, strict=True)
    )
    return PreparedCase(case.name, resample(normalised, size).numpy(), labels, actual)


def in_ras(image: Image) -> npt.NDArray[Any]:
    """Channels and voxels with axes towards superior, anterior and right, as networks see them.

    Returns
    -------
    data
        ``(C, *spatial)``.
    """
    return _flipped_to_ras(image.data, image)


def _read_image(case: Case, dataset: Dataset) -> Image:
    """Read the image of a case, on its own grid.

    Raises
    ------
    ConfigError
        If it has other channels than dataset.json says.
    InputError, MemoryLimitError
        If a file cannot be used.
    """
    image = read_channels(case.images)
    if image.n_channels != len(dataset.channels):
        raise ConfigError(
            f"The case {case.name!r} has {image.n_channels} channels (the first file is "
            f"{case.images[0]}), but dataset.json names {len(dataset.channels)}: "
            f"{', '.join(dataset.channels)}. Add the missing files, or correct dataset.json."
        )
    return image


def _read_labels(path: Path, image: Image, dataset: Dataset) -> npt.NDArray[np.uint8]:
    """Read the labels of one rater, ``(*spatial)``, on the grid of the image.

    Raises
    ------
    InputError
        If they lie on another grid, or hold values that dataset.json does not name.
    """
    labels = read_channels([path])
    if labels.n_channels != 1:
        raise InputError(
            f"{path} must hold one label per voxel, but it has {labels.n_channels} channels. Merge "
            "them into one label map."
        )
    if not image.geometry.same_grid(labels.geometry):
        raise InputError(
            f"{path} lies on another voxel grid than its image: shape {labels.spatial_shape} "
            f"against {image.spatial_shape}, spacing {_mm(labels)} against {_mm(image)} mm, or "
            "another position. Resample it onto that grid first."
        )
    values = np.unique(labels.data)
    wrong = [value for value in values if not (0 <= value < len(dataset.classes)) or value % 1]
    if wrong:
        named = ", ".join(f"{value:g}" for value in wrong[:_MAX_NAMED])
        raise InputError(
            f"{path} holds the values {named}, but dataset.json names the labels 0 to "
            f"{len(dataset.classes) - 1} ({', '.join(dataset.classes)}). Renumber the labels, or "
            "name them all in dataset.json."
        )
    result: npt.NDArray[np.uint8] = labels.data[0].astype(np.uint8)
    return result


def _flipped_to_ras(data: npt.NDArray[Any], image: Image) -> npt.NDArray[Any]:
    """Arrays ``(C, *spatial)`` on the grid of an image."""
    axes = tuple(1 + axis for axis in image.geometry.axes_against_ras)
    return np.ascontiguousarray(np.flip(data, axes))


def _mm(image: Image) -> str:
    return " x ".join(f"{step:g}" for step in image.spacing)
