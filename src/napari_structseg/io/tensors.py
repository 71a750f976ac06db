"""Mean, factor and diagonal of a normal over logits, in an .npz or .safetensors file.

Arrays are called ``mean`` (C, z, y, x), ``factor`` (R, C, z, y, x) and ``diagonal`` (C, z, y, x),
as SimpleITK has the axes of images; with ``_xyz`` behind the name, in the order of nibabel. The
diagonal can be ``log_diagonal``. What one of these is missing is left out of the distribution.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from napari_structseg.errors import InputError
from napari_structseg.io.other_programs.npz import find_array
from napari_structseg.memory import check_memory

Array = npt.NDArray[Any]

_NAMES = ("mean", "factor", "diagonal", "log_diagonal")
_XYZ = "_xyz"
_KNOWN = frozenset({*_NAMES, *(name + _XYZ for name in _NAMES)})
_NPZ, _SAFETENSORS = ".npz", ".safetensors"
_CLASSES_KEY = "classes"
_OURS = "napari_structseg"
_TYPES = {"F16": 2, "F32": 4, "F64": 8}
_BROKEN = (SafetensorError, OSError, ValueError)


@dataclass(frozen=True, slots=True)
class StoredTensors:
    """Tensors that have not been read yet.

    Attributes
    ----------
    path
        Their file.
    shapes
        By name, without ``_xyz``, as stored.
    is_xyz
        Whether the spatial axes are in the order of nibabel.
    classes
        Names of the classes; None: the file does not say.
    nbytes
        Of all of them.
    read
        Reads one by its name.
    """

    path: Path
    shapes: dict[str, tuple[int, ...]]
    is_xyz: bool
    classes: tuple[str, ...] | None
    nbytes: int
    read: Callable[[str], Array]


def holds_tensors(path: str | Path) -> bool:
    """Whether a file holds a mean, and is no model of ours."""
    path = Path(path)
    try:
        if path.suffix.lower() == _NPZ:
            with zipfile.ZipFile(path) as archive:
                names = {one.removesuffix(".npy") for one in archive.namelist()}
        elif path.suffix == _SAFETENSORS:
            with safe_open(path, framework="np") as file:
                if _OURS in (file.metadata() or {}):
                    return False
                names = set(file.keys())
        else:
            return False
    except (*_BROKEN, zipfile.BadZipFile, zlib.error, RuntimeError):
        # Whoever reads it says what is wrong.
        return False
    return bool(names & {"mean", "mean" + _XYZ})


def find_tensors(path: Path) -> StoredTensors:
    """What a file holds, by its headers.

    Raises
    ------
    InputError
        If it is damaged, holds other arrays, or those of two orders of axes.
    """
    return _in_npz(path) if path.suffix.lower() == _NPZ else _in_safetensors(path)


def _in_npz(path: Path) -> StoredTensors:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [one.removesuffix(".npy") for one in archive.namelist()]
    except (OSError, zipfile.BadZipFile, RuntimeError, ValueError) as error:
        raise InputError(f"{path} is no readable .npz file ({error}).") from error
    is_xyz = _order(path, names)
    arrays = {_plain(name): find_array(path, [name]) for name in names}
    shapes = {name: one.shape for name, one in arrays.items()}
    n_bytes = sum(one.nbytes for one in arrays.values())

    def read(name: str) -> Array:
        return np.asarray(arrays[name].read())

    return StoredTensors(path, shapes, is_xyz, None, n_bytes, read)


def _in_safetensors(path: Path) -> StoredTensors:
    with _reading(path), safe_open(path, framework="np") as file:
        names, metadata = list(file.keys()), file.metadata() or {}
        is_xyz = _order(path, names)
        slices = {name: file.get_slice(name) for name in names}
        types = {name: one.get_dtype() for name, one in slices.items()}
        wrong = {name: kind for name, kind in types.items() if kind not in _TYPES}
        if wrong:
            raise InputError(
                f"{path} must hold float16, float32 or float64, but {next(iter(wrong))!r} is "
                f"{next(iter(wrong.values()))}. Save it as float32."
            )
        shapes = {_plain(name): tuple(one.get_shape()) for name, one in slices.items()}
        stored = {_plain(name): name for name in names}
    n_bytes = sum(
        int(np.prod(shape, dtype=object)) * _TYPES[types[stored[name]]]
        for name, shape in shapes.items()
    )

    def read(name: str) -> Array:
        check_memory(n_bytes, f"Opening {path}")
        with _reading(path), safe_open(path, framework="np") as file:
            return np.asarray(file.get_tensor(stored[name]))

    return StoredTensors(path, shapes, is_xyz, _classes(path, metadata), n_bytes, read)


def _order(path: Path, names: list[str]) -> bool:
    """Whether axes are in the order x, y, z; refuse names that mean nothing."""
    unknown = sorted(set(names) - _KNOWN)
    if unknown:
        raise InputError(
            f"{path} must hold mean, factor and diagonal (or log_diagonal), with _xyz behind each "
            f"where the axes are in that order, but it holds {unknown[0]!r:.80}. Leave it out."
        )
    orders = {name.endswith(_XYZ) for name in names}
    if len(orders) != 1 or len({_plain(name) for name in names}) != len(names):
        raise InputError(f"{path} must hold each array once, all in one order of axes.")
    if {"diagonal", "log_diagonal"} <= {_plain(name) for name in names}:
        raise InputError(f"{path} holds diagonal and log_diagonal. Leave one of them out.")
    return orders == {True}


def _plain(name: str) -> str:
    return name.removesuffix(_XYZ)


def _classes(path: Path, metadata: dict[str, str]) -> tuple[str, ...] | None:
    if _CLASSES_KEY not in metadata:
        return None
    try:
        names = json.loads(metadata[_CLASSES_KEY])
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list) or not all(isinstance(one, str) and one for one in names):
        raise InputError(
            f"{path}: its metadata {_CLASSES_KEY!r} must be a JSON list of the classes' names."
        )
    return tuple(names)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except _BROKEN as error:
        raise InputError(
            f"{path} is no readable safetensors file ({error}). Copy or write it again."
        ) from error
