"""A normal over logits that was computed elsewhere: its mean, factor and diagonal are given."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_structseg.devices import free_memory
from napari_structseg.distributions import LogitDistribution, LowRankNormal, PointLogits, Region
from napari_structseg.distributions.checks import all_finite
from napari_structseg.errors import Cancelled, InputError
from napari_structseg.geometry import Geometry
from napari_structseg.image import Image
from napari_structseg.io.tensors import StoredTensors, find_tensors
from napari_structseg.memory import check_memory
from napari_structseg.prediction.probabilities import named_classes, unnamed_classes
from napari_structseg.prediction.protocol import ImagePredictor, Prediction
from napari_structseg.prediction.specs import MapSpec
from napari_structseg.refine.refinement import refinement_bytes

Given = Tensor | npt.NDArray[Any]

# What the authors of the SSN add to the diagonal.
_EPSILON = 1e-5
_LARGEST_LOG_DIAGONAL = 80.0
_MAX_CLASSES = 255


class GivenTensors(ImagePredictor):
    """Tensors of a file in the place of a network; the image must lie on their voxel grid.

    Parameters
    ----------
    path
        See :mod:`napari_structseg.io.tensors`.
    device
        Where the distribution will live.

    Raises
    ------
    InputError
        If the file cannot be used.
    """

    def __init__(self, path: Path, device: torch.device | None = None) -> None:
        self._stored: StoredTensors = find_tensors(path)
        shape = self._stored.shapes.get("mean", ())
        if len(shape) not in (3, 4) or not 2 <= shape[0] <= _MAX_CLASSES or 0 in shape:
            raise InputError(
                f"{path} must hold a mean of 2 to {_MAX_CLASSES} classes as (classes, z, y, x) or "
                f"(classes, y, x), but its shape is {shape}."
            )
        names = self._stored.classes
        if names is not None and len(names) != shape[0]:
            raise InputError(f"{path} names {len(names)} classes for {shape[0]} maps.")
        classes = unnamed_classes(shape[0]) if names is None else named_classes(names)
        self.device = torch.device("cpu") if device is None else device
        self.spec: MapSpec = MapSpec(path.name, len(shape) - 1, classes, "tensors")

    def check(self, image: Image, *, refined: bool = False) -> None:
        """Refuse an image that the tensors are not of."""
        spatial = self._stored.shapes["mean"][1:]
        wanted = _stored_shape(image.geometry, is_xyz=self._stored.is_xyz)
        if spatial != wanted:
            order = "x, y, z" if self._stored.is_xyz else "z, y, x"
            raise InputError(
                f"The tensors {self.spec.name!r} must lie on the voxel grid of {image.name!r}, "
                f"which is {wanted} in the order {order} of its file, but they are {spatial}. Add "
                "_xyz to the names of the arrays where their axes are in the order of nibabel."
            )
        check_memory(
            self.required_bytes(image, refined=refined),
            f"Showing {self.spec.name!r}",
            free_memory(self.device),
        )

    def required_bytes(self, image: Image, *, refined: bool = False) -> int:
        """Memory of the tensors as they are read, and as they are kept."""
        shapes = self._stored.shapes
        refining = refined * refinement_bytes(shapes["mean"][0], image.spatial_shape)
        # In single precision as they come, on the axes of the image, and a mean of its own.
        floats = 2 * sum(map(math.prod, shapes.values())) + 2 * math.prod(shapes["mean"])
        return self._stored.nbytes + floats * torch.float32.itemsize + refining

    def stream(
        self,
        image: Image,
        first: Region | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Iterator[Prediction]:
        """Read one tensor after the other."""
        self.check(image)
        names = list(self._stored.shapes)
        tensors: dict[str, Given] = {}
        for done, name in enumerate(names, start=1):
            if cancelled is not None and cancelled():
                raise Cancelled("The run was cancelled.")
            tensors[name] = self._stored.read(name)
            if done < len(names):
                yield Prediction(done, len(names), None)
        if cancelled is not None and cancelled():
            raise Cancelled("The run was cancelled.")
        distribution = distribution_of_tensors(
            **tensors,
            geometry=image.geometry,
            axes="xyz" if self._stored.is_xyz else "zyx",
            device=self.device,
        )
        yield Prediction(len(names), len(names), distribution)


def distribution_of_tensors(
    mean: Given,
    factor: Given | None = None,
    diagonal: Given | None = None,
    *,
    log_diagonal: Given | None = None,
    geometry: Geometry | None = None,
    axes: str = "zyx",
    device: torch.device | str = "cpu",
) -> LogitDistribution:
    """The distribution with these parameters, as a Stochastic Segmentation Network gives them.

    A batch of one is taken as its only entry. Besides the shapes below, the factor may be as the
    authors' network returns it, flat and rank-major ``(R * C, *spatial)``, or as their distribution
    has it, ``(C * voxels, R)``.

    Parameters
    ----------
    mean
        Mean logits, ``(C, *spatial)``.
    factor
        Covariance factor, ``(R, C, *spatial)``; None: none.
    diagonal
        Variances, ``(C, *spatial)``; None: none. Without factor and diagonal it is a point.
    log_diagonal
        Instead: their logarithms, to which 0.00001 is added after exp, as the authors do.
    geometry
        Of the image, whose file the axes are those of; None: they are those of ``Image.data``.
    axes
        With a geometry: ``"zyx"``, as SimpleITK has arrays, or ``"xyz"``, as nibabel has them.
    device
        Where it will live.

    Raises
    ------
    InputError
        If shapes do not fit, a number is not finite, or a variance is negative.

    Examples
    --------
    >>> normal = distribution_of_tensors(torch.zeros(2, 4, 4), torch.ones(3 * 2, 4, 4))
    >>> normal.rank
    3
    """
    logits = _float(mean)
    # Of one class there is nothing to segment: the first axis is a batch.
    logits = logits[0] if logits.ndim > 3 and len(logits) == 1 else logits
    n_classes, shape = len(logits), tuple(logits.shape)
    if n_classes < 2 or len(shape) not in (3, 4):
        raise InputError(f"mean must be (classes, *spatial), but its shape is {shape}.")
    if log_diagonal is not None:
        diagonal = _float(log_diagonal).clamp(max=_LARGEST_LOG_DIAGONAL).exp() + _EPSILON
    variances = None if diagonal is None else _single(_float(diagonal), len(shape))
    columns = None if factor is None else _factor(factor, shape)
    if variances is not None:
        _check_shape("diagonal", variances, shape)
        if bool((variances < 0).any()):
            raise InputError(
                "Variances were expected in diagonal, but some are negative. Are they logarithms? "
                "Then call them log_diagonal."
            )
    for name, one in (("mean", logits), ("factor", columns), ("diagonal", variances)):
        if one is not None and not all_finite(one):
            raise InputError(
                f"Finite numbers were expected in {name}, but some are NaN or infinite."
            )

    def placed(maps: Tensor) -> Tensor:
        return _on_grid(maps, geometry, axes).to(device)

    if columns is None and variances is None:
        return PointLogits(placed(logits), checked=True)
    if variances is None:
        variances = torch.full_like(logits, _EPSILON)
    if columns is None:
        columns = logits.new_zeros(0, *shape)
    flat = placed(columns.flatten(0, 1)) if len(columns) else None
    moved, spread = placed(logits), placed(variances)
    whole = (
        spread.new_zeros(0, *moved.shape) if flat is None else flat.unflatten(0, (-1, n_classes))
    )
    return LowRankNormal(moved, whole, spread)


def _factor(factor: Given, shape: tuple[int, ...]) -> Tensor:
    """To ``(R, C, *spatial)``, rank-major."""
    found = _float(factor)
    n_classes, n_rows = shape[0], math.prod(shape)
    if found.ndim == 3 and found.shape[:2] == (1, n_rows) and found.shape != (1, *shape):
        found = found[0]
    if found.ndim == 2 and found.shape[0] == n_rows:
        columns: Tensor = found.T.reshape(-1, *shape)
        return columns
    if found.ndim > len(shape) and len(found) == 1 and found.shape[1:] != shape:
        found = found[0]
    if found.ndim == len(shape) and found.shape[1:] == shape[1:] and not len(found) % n_classes:
        by_rank: Tensor = found.unflatten(0, (-1, n_classes))
        return by_rank
    if found.ndim != len(shape) + 1 or found.shape[1:] != shape:
        raise InputError(
            f"A factor (rank, {', '.join(map(str, shape))}) was expected, but its shape is "
            f"{tuple(found.shape)}."
        )
    return found


def _single(maps: Tensor, n_axes: int) -> Tensor:
    """Without a batch of one."""
    return maps[0] if maps.ndim == n_axes + 1 and len(maps) == 1 else maps


def _check_shape(name: str, maps: Tensor, wanted: tuple[int, ...]) -> None:
    if tuple(maps.shape) != wanted:
        raise InputError(f"{name} must be {wanted}, but its shape is {tuple(maps.shape)}.")


def _on_grid(maps: Tensor, geometry: Geometry | None, axes: str) -> Tensor:
    """From the order of the image's file to that of ``Image.data``."""
    if geometry is None:
        return maps
    spatial = tuple(maps.shape[1:])
    wanted = _stored_shape(geometry, is_xyz=axes == "xyz")
    if spatial != wanted:
        raise InputError(f"The voxel grid of the image is {wanted}, but the tensors are {spatial}.")
    stored = maps.numpy().T if axes == "zyx" else np.moveaxis(maps.numpy(), 0, -1)
    return torch.from_numpy(np.ascontiguousarray(geometry.from_file(stored)))


def _stored_shape(geometry: Geometry, *, is_xyz: bool) -> tuple[int, ...]:
    """Shape of the image in its file, in one of two orders; of a flat one without that axis."""
    grid, flat = (*geometry.file_shape, 1)[:3], geometry.flat_axis
    dropped = None if flat is None else geometry.file_axes[flat]
    sizes = tuple(size for axis, size in enumerate(grid) if axis != dropped)
    return sizes if is_xyz else tuple(reversed(sizes))


def _float(values: Given) -> Tensor:
    tensor = values if isinstance(values, Tensor) else torch.from_numpy(np.asarray(values))
    if tensor.is_complex() or not tensor.numel():
        raise InputError(f"Real numbers were expected in tensors, but they are {tensor.dtype}.")
    return tensor.detach().float().cpu()
