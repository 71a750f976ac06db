"""The pixels of a series: decoded, rescaled, stacked; their size is checked first."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import chain, groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_structseg.errors import InputError
from napari_structseg.io.dicom.codestreams import check_codestream
from napari_structseg.io.dicom.headers import Header, reading
from napari_structseg.io.dicom.slices import Place
from napari_structseg.memory import check_memory

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Pixels = npt.NDArray[Any]

_BITS = (8, 16, 32)
# pydicom's `config.IGNORE`: an invalid UID is refused here, with a message of ours.
_WITHOUT_WARNING = 0
# Where the numbers are a physical quantity, MONOCHROME1 only says how to draw them.
_MEASURED = ("CT", "PT", "NM")
_INTEGERS = (np.uint8, np.int8, np.uint16, np.int16, np.int32)


def read_pixels(places: Sequence[Place], what: str) -> Pixels:
    """Decode and rescale all slices.

    Parameters
    ----------
    places
        The slices in order. Their headers agree in rows and columns.
    what
        What to call the series in messages.

    Returns
    -------
    pixels
        Shape (slices, rows, columns): integers where slopes are 1 and intercepts whole numbers,
        else float32.

    Raises
    ------
    InputError
        If a file is damaged, or cannot hold what its header promises.
    MemoryLimitError
        If they do not fit into memory. Nothing was allocated.
    """
    rows, columns = places[0].header.rows, places[0].header.columns
    for header in {id(place.header): place.header for place in places}.values():
        _check_header(header)
    dtype = _dtype(places)
    n_voxels = len(places) * rows * columns
    # As stacked and once more in the order of the viewer, and the mask of the finite; beside it a
    # frame in double precision and the file that it is in.
    largest = max(place.header.path.stat().st_size for place in places)
    check_memory(
        n_voxels * (2 * dtype.itemsize + 1) + 16 * rows * columns + 2 * largest, f"Opening {what}"
    )
    decoded = _decode(places)
    first = next(decoded)
    # Allocated only now: a damaged first frame takes no memory for the others.
    # 16 bits with an intercept could need more than 16 bits, and hardly ever do.
    pixels = np.empty((len(places), rows, columns), np.int16 if dtype == np.int32 else dtype)
    for index, stored in chain([first], decoded):
        found = _rescaled(stored, places[index], dtype)
        if pixels.dtype != dtype and not _fits(found, pixels.dtype):
            pixels = pixels.astype(dtype)
        pixels[index] = found
    return pixels


def _fits(values: Pixels, dtype: np.dtype[Any]) -> bool:
    limits = np.iinfo(dtype)
    return limits.min <= int(values.min()) and int(values.max()) <= limits.max


def _check_header(header: Header) -> None:
    if header.bits_allocated not in _BITS or not 1 <= header.bits_stored <= header.bits_allocated:
        raise InputError(
            f"{header.path} stores {header.bits_stored} bits of {header.bits_allocated} for a "
            "pixel, but 8, 16 or 32 bits were expected. Export it again."
        )
    if header.has_lut:
        raise InputError(
            f"{header.path} maps its values through a table (Modality LUT Sequence), which is not "
            "read. Export it with Rescale Slope and Intercept."
        )
    for frame in header.frames:
        if not (math.isfinite(frame.slope) and math.isfinite(frame.intercept)) or frame.slope == 0:
            raise InputError(
                f"{header.path} has the Rescale Slope {frame.slope:g} and Intercept "
                f"{frame.intercept:g}, which make no numbers of its pixels. Export it again."
            )
    if not _is_compressed(header):
        promised = _frame_bytes(header) * len(header.frames)
        there = header.path.stat().st_size
        if promised > there:
            raise InputError(
                f"{header.path} is cut short, or its header is wrong: the header promises "
                f"{promised} bytes of pixels, but the file has {there} bytes. Copy or download it "
                "again."
            )


def _frame_bytes(header: Header) -> int:
    return header.rows * header.columns * header.bits_allocated // 8


def _is_compressed(header: Header) -> bool:
    from pydicom.uid import UID

    if not header.transfer_syntax:
        return False
    uid = UID(header.transfer_syntax, _WITHOUT_WARNING)
    if not uid.is_transfer_syntax:
        raise InputError(
            f"{header.path} is stored in an unknown way (transfer syntax {uid}). Export it as "
            "Explicit VR Little Endian."
        )
    return bool(uid.is_encapsulated)


def _stored_range(header: Header) -> tuple[int, int]:
    bits = header.bits_stored
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if header.is_signed else (0, (1 << bits) - 1)


def _dtype(places: Sequence[Place]) -> np.dtype[Any]:
    """The smallest that holds all values exactly, float32 where they are no integers."""
    least, most = 0, 0
    for place in places:
        frame = place.frame
        if frame.slope != 1 or not float(frame.intercept).is_integer():
            return np.dtype(np.float32)
        low, high = _stored_range(place.header)
        least, most = min(least, low + int(frame.intercept)), max(most, high + int(frame.intercept))
    for kind in _INTEGERS:
        limits = np.iinfo(kind)
        if limits.min <= least and most <= limits.max:
            return np.dtype(kind)
    return np.dtype(np.float32)


def _decode(places: Sequence[Place]) -> Iterator[tuple[int, Pixels]]:
    """Index and stored values of each slice, file by file."""
    import pydicom

    wanted = sorted(enumerate(places), key=lambda one: (str(one[1].header.path), one[0]))
    for path, group in groupby(wanted, key=lambda one: one[1].header.path):
        with reading(path):
            dataset = pydicom.dcmread(path, force=True)
            for index, place in group:
                yield index, _frame(dataset, place)


def _frame(dataset: Dataset, place: Place) -> Pixels:
    from pydicom.encaps import get_frame
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import ImplicitVRLittleEndian, RLELossless

    header, at = place.header, place.frame.number - 1
    shape = (header.rows, header.columns)
    if "PixelData" not in dataset:
        raise ValueError("it has no Pixel Data")
    if header.transfer_syntax and _is_compressed(header):
        compressed = get_frame(dataset.PixelData, at, number_of_frames=len(header.frames))
        check_codestream(compressed, *shape, _frame_bytes(header), str(header.path))
    syntax = header.transfer_syntax or ImplicitVRLittleEndian
    # The plugin for run lengths panics on damaged ones, past every exception.
    plugin = "pydicom" if syntax == RLELossless else ""
    decoder = get_decoder(syntax)
    stored, _ = decoder.as_array(dataset, index=at, raw=True, decoding_plugin=plugin)
    if stored.shape != shape or stored.dtype.kind not in "iu":
        raise ValueError(f"a frame of {stored.dtype} and shape {stored.shape} came out of it")
    low, high = _stored_range(header)
    if int(stored.min()) < low or int(stored.max()) > high:
        raise ValueError(f"its pixels need more than {header.bits_stored} bits")
    return stored


def _rescaled(stored: Pixels, place: Place, dtype: np.dtype[Any]) -> Pixels:
    """Stored values in the units of the image (PS3.3, C.11.1), bright where more is there."""
    header, frame = place.header, place.frame
    is_measured = header.modality in _MEASURED or header.rescale_type not in ("", "US")
    if header.photometric == "MONOCHROME1" and not is_measured:
        low, high = _stored_range(header)
        stored = low + high - stored.astype(np.int64)
    if dtype.kind != "f":
        whole: Pixels = (stored.astype(np.int64) + int(frame.intercept)).astype(dtype)
        return whole
    rescaled: Pixels = (stored.astype(np.float64) * frame.slope + frame.intercept).astype(dtype)
    return rescaled
