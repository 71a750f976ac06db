"""One array of an .npz file, with everything checked that its header says before it is unpacked."""

from __future__ import annotations

import math
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from napari_structseg.errors import InputError, MemoryLimitError
from napari_structseg.memory import check_memory

# No deflate stream expands further than this (zlib's technical notes give 1032 to 1).
_MAX_RATIO = 1040
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_CHUNK = 1 << 24
_UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    # A header is Python's text, and damaged in many ways.
    SyntaxError,
    TypeError,
    tokenize.TokenError,
    KeyError,
    OverflowError,
    NotImplementedError,
    RuntimeError,
    # What numpy lets through of a header that ends too early.
    TokenError,
    zlib.error,
    zipfile.BadZipFile,
)


@dataclass(frozen=True, slots=True)
class ArrayInFile:
    """An array that has not been unpacked yet.

    Attributes
    ----------
    path
        The .npz file.
    key
        Its name in the file.
    shape, dtype, fortran
        As its header says.
    """

    path: Path
    key: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self) -> npt.NDArray[Any]:
        """Unpack it.

        Raises
        ------
        InputError
            If the file is damaged.
        MemoryLimitError
            If it does not fit into memory.
        """
        check_memory(self.nbytes, f"Opening {self.path}")
        with _reading(self.path) as archive, archive.open(f"{self.key}.npy") as stream:
            _header(stream)
            flat = np.empty(math.prod(self.shape), self.dtype)
            left = flat.view(np.uint8).data
            while left:
                part = stream.read(min(_CHUNK, len(left)))
                if not part:
                    raise EOFError(f"{len(left)} bytes of {self.key!r} are missing")
                left[: len(part)] = part
                left = left[len(part) :]
            # The checksum is compared at the end, which has to be reached.
            if stream.read(1):
                raise ValueError(f"{self.key!r} is longer than its header says")
        return flat.reshape(self.shape, order="F" if self.fortran else "C")


def find_array(path: Path, keys: Sequence[str]) -> ArrayInFile:
    """The first array of a file that has one of these names.

    Parameters
    ----------
    path
        An .npz file.
    keys
        Names, the most wanted first.

    Returns
    -------
    ArrayInFile
        With what its header says. Nothing was unpacked but that.

    Raises
    ------
    InputError
        If there is no such file or array, it is damaged, does not hold real numbers, or promises
        more than the file can hold.
    """
    with _reading(path) as archive:
        names = [info.filename.removesuffix(".npy") for info in archive.infolist()]
        key = next((key for key in keys if key in names), None)
        if key is None:
            raise InputError(
                f"{path} must hold an array called {' or '.join(keys)}, but it holds "
                f"{', '.join(names[:5]) or 'nothing'}. Export the prediction again with its "
                "probabilities (nnUNetv2_predict --save_probabilities)."
            )
        info = archive.getinfo(f"{key}.npy")
        if info.compress_type not in _METHODS:
            raise InputError(
                f"{path} is packed in a way that numpy does not write. Save it again with "
                "numpy.savez_compressed."
            )
        with archive.open(info) as stream:
            shape, fortran, dtype = _header(stream)
    if dtype.hasobject or dtype.kind not in "biuf":
        raise InputError(
            f"{path} must hold real numbers in {key!r}, but they are of the type {dtype}. Arrays "
            "of objects are refused, since reading them can run foreign code. Save the array as "
            "float32."
        )
    array = ArrayInFile(path, key, shape, dtype, fortran)
    if array.nbytes > info.compress_size * _MAX_RATIO:
        raise InputError(
            f"{path} is cut short, or its header is wrong: it promises an array of shape {shape} "
            f"({dtype}), but has {info.compress_size} bytes for it. Copy it again."
        )
    return array


@contextmanager
def _reading(path: Path) -> Iterator[zipfile.ZipFile]:
    if not path.is_file():
        raise InputError(f"There is no file {path}. Check the name and the folder.")
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except MemoryError as error:
        raise MemoryLimitError(
            f"There is not enough memory to open {path}. Close other programs or images."
        ) from error
    except _UNREADABLE as error:
        raise InputError(
            f"Cannot read {path} as .npz: {error}. The file may be damaged or cut short: copy it "
            "again, or export the prediction again."
        ) from error


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether in Fortran order, and type; the stream then stands at the numbers."""
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    elif version == (2, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(stream)
    else:
        raise ValueError(f"version {version} of numpy's format is not known")
    if any(size < 0 for size in shape):
        raise ValueError(f"its shape is {shape}")
    return shape, fortran, dtype
