"""PNG and TIFF files: 2-D images without a voxel size, for data sets in nnU-Net's layout."""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from napari_structseg.errors import InputError, MemoryLimitError
from napari_structseg.image import Image
from napari_structseg.memory import check_memory

SUFFIX = ".png"
_COLOUR = ("red", "green", "blue", "alpha")
# Signature, length and name of the first chunk, then width and height (PNG, 11.2.2).
_HEADER = struct.Struct(">8s4s4sII")
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Twice what Pillow warns of, where it refuses. A few kilobytes can claim more.
_MAX_PIXELS = 1 << 27
# Up to four channels of 16 bits, as unpacked and once more.
_BYTES_PER_PIXEL = 16


def read_png(path: str | os.PathLike[str]) -> Image:
    """Read a greyscale or colour PNG as a 2-D image whose pixels have no known size.

    Parameters
    ----------
    path
        A .png file.

    Returns
    -------
    image
        With `data` (1, Y, X), or (3, Y, X) for colour, (4, Y, X) with transparency.

    Raises
    ------
    InputError
        If there is no such file, it is damaged, or it has too many pixels.
    MemoryLimitError
        If it does not fit into memory. Nothing was allocated.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no file {path}. Check the name and the folder.")
    return _read(path, "PNG", SUFFIX)


def read_tiff(path: str | os.PathLike[str]) -> Image:
    """Read a TIFF of one page as a 2-D image whose pixels have no known size.

    Resolutions in TIFF files are those of printers and screens, so they are not taken for mm.

    Parameters
    ----------
    path
        A .tif or .tiff file.

    Raises
    ------
    InputError
        If there is no such file, it is damaged, has several pages, or too many pixels.
    MemoryLimitError
        If it does not fit into memory. Nothing was allocated.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no file {path}. Check the name and the folder.")
    return _read(path, "TIFF", path.suffix)


def _read(path: Path, kind: str, ending: str) -> Image:
    try:
        if kind == "PNG":
            _check_header(path)
        with warnings.catch_warnings():
            # Of many pixels: they fit.
            warnings.simplefilter("ignore", Pillow.DecompressionBombWarning)
            # This format alone: what is another by its contents is not what its name says.
            with Pillow.open(path, formats=[kind]) as picture:
                _check_picture(picture, path)
                pixels = np.asarray(_direct(picture))
    except MemoryError as error:
        raise MemoryLimitError(
            f"There is not enough memory to open {path}. Close other programs or images."
        ) from error
    # Pillow calls a damaged PNG a SyntaxError, and runs into others in a damaged TIFF.
    except (
        OSError,
        KeyError,
        IndexError,
        TypeError,
        OverflowError,
        RuntimeError,
        ValueError,
        SyntaxError,
        EOFError,
        zlib.error,
        struct.error,
        Pillow.DecompressionBombError,
    ) as error:
        raise InputError(
            f"Cannot read {path} as {kind}: {error}. Copy it again, or export it again."
        ) from error
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8)
    name = path.name[: -len(ending)]
    if pixels.ndim == 2:
        return Image.from_array(pixels, name=name)
    return Image.from_array(
        pixels, channel_axis=-1, channels=_COLOUR[: pixels.shape[-1]], name=name
    )


def _direct(picture: Pillow.Image) -> Pillow.Image:
    """Colours instead of numbers in a palette; grey with transparency as colour with it."""
    if picture.mode == "P":
        return picture.convert("RGBA" if "transparency" in picture.info else "RGB")
    return picture.convert("RGBA") if picture.mode in ("LA", "PA") else picture


def _check_header(path: Path) -> None:
    """Refuse what is no PNG, or too large, before a pixel is unpacked."""
    with path.open("rb") as file:
        head = file.read(_HEADER.size)
    if len(head) < _HEADER.size or not head.startswith(_SIGNATURE):
        raise InputError(
            f"{path} is not a PNG file: it does not begin with a PNG header. Export it again."
        )
    _, _, _, width, height = _HEADER.unpack(head)
    _check_size(width, height, path)


def _check_picture(picture: Pillow.Image, path: Path) -> None:
    """Refuse several pages, and what is too large, before a pixel is unpacked."""
    n_pages = int(getattr(picture, "n_frames", 1))
    if picture.format == "TIFF" and n_pages > 1:
        raise InputError(
            f"{path} has {n_pages} pages, and nobody says how far they are apart. Save one of them "
            "as a picture, or the stack as NIfTI with its voxel size."
        )
    _check_size(*picture.size, path)


def _check_size(width: int, height: int, path: Path) -> None:
    if width * height > _MAX_PIXELS:
        raise InputError(
            f"{path} says that it has {width} x {height} pixels, but at most {_MAX_PIXELS} are "
            "read. Crop or downsample it."
        )
    check_memory(width * height * _BYTES_PER_PIXEL, f"Opening {path}")
