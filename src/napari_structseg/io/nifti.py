"""NIfTI files in and out.

Files are shown on the voxel grid they came on. Axes are permuted and flipped so that the array's
Z, Y, X run as nearly as possible towards inferior, posterior and left, which a viewer shows
upright with the patient's right on the left; no voxel is resampled.
What is written goes back through the same permutation onto the file's own grid, with the file's
own header, so that it overlays the input exactly in any other tool.
"""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from nibabel.filebasedimages import ImageFileError
from nibabel.fileholders import FileHolder
from nibabel.nifti1 import Nifti1Header, Nifti1Image
from nibabel.nifti2 import Nifti2Header, Nifti2Image
from nibabel.spatialimages import HeaderDataError

from napari_structseg.errors import InputError, MemoryLimitError
from napari_structseg.geometry import Geometry
from napari_structseg.image import Image, channel_names
from napari_structseg.io.atomic import atomic_path
from napari_structseg.io.checks import (
    check_header,
    check_path,
    check_size,
    check_stored_header,
    file_stem,
    is_nifti_path,
    read_to_end,
)

_HEADER_BYTES = 540
_UNREADABLE = (
    OSError,
    EOFError,
    zlib.error,
    ValueError,
    OverflowError,
    struct.error,
    ImageFileError,
    HeaderDataError,
)
_INTENT_LABEL = 1002
# NIfTI's codes for metres and micrometres; everything else means millimetres.
_MM_PER_UNIT = {1: 1e3, 3: 1e-3}
_MAX_NIFTI1_SIZE = 32767


def read_image(path: str | os.PathLike[str]) -> Image:
    """Read a NIfTI file.

    Integers stay what they are unless the header scales them; everything else becomes float32.
    A fourth axis holds channels. A file of one voxel along an axis is a 2-D image.

    Parameters
    ----------
    path
        A .nii or .nii.gz file.

    Returns
    -------
    image
        With `data` (C, Z, Y, X) or (C, Y, X) and the geometry to write results back with.

    Raises
    ------
    InputError
        If there is no such file, it is not NIfTI, it is damaged, its affine cannot place voxels,
        or it holds something other than finite real numbers on 2 or 3 spatial axes.
    MemoryLimitError
        If it does not fit into memory. Nothing was allocated.
    """
    path = Path(path)
    check_path(path)
    try:
        with _open(path) as stream:
            nifti = _open_nifti(stream, path)
            geometry = _geometry(nifti, path.name)
            check_size(nifti, path)
            data = geometry.from_file(_real_numbers(np.asanyarray(nifti.dataobj)))
            data = np.ascontiguousarray(data)
            if path.name.lower().endswith(".gz"):
                read_to_end(stream, path)
    except MemoryError as error:
        raise MemoryLimitError(
            f"There is not enough memory to open {path}. Close other programs or images, or crop "
            f"or downsample the image."
        ) from error
    except _UNREADABLE as error:
        raise InputError(
            f"Cannot read {path} as NIfTI: {error}. The file may be damaged or cut short: copy or "
            f"download it again, or convert it again."
        ) from error
    return Image(data, geometry, channel_names(data.shape[0]), file_stem(path))


def read_geometry(path: str | os.PathLike[str]) -> Geometry:
    """Where the voxels of a NIfTI file lie, from its header alone.

    Parameters
    ----------
    path
        A .nii or .nii.gz file.

    Raises
    ------
    InputError
        As :func:`read_image`, but for what the voxels hold.
    """
    path = Path(path)
    check_path(path)
    try:
        with _open(path) as stream:
            return _geometry(_open_nifti(stream, path), path.name)
    except _UNREADABLE as error:
        raise InputError(
            f"Cannot read {path} as NIfTI: {error}. The file may be damaged or cut short: copy or "
            f"download it again, or convert it again."
        ) from error


def holds_labels(geometry: Geometry) -> bool:
    """Whether the file that an image came from says that its numbers are labels."""
    if not geometry.file_header:
        return False
    return int(_header(geometry.file_header)["intent_code"]) == _INTENT_LABEL


def says_orientation(geometry: Geometry) -> bool:
    """Whether it was said how the patient lies on the voxel grid.

    A file without a coordinate system (neither sform nor qform) says nothing: which side is left
    is then a guess. Nor does an array with a spacing alone, or with none.
    """
    if not geometry.file_header:
        return not np.array_equal(geometry.affine, _affine_of_spacing(geometry))
    header = _header(geometry.file_header)
    return int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0


def _affine_of_spacing(geometry: Geometry) -> npt.NDArray[np.float64]:
    """What :meth:`Image.from_array` makes of a spacing."""
    affine = np.zeros((4, 4))
    affine[(2, 1, 0), (0, 1, 2)] = np.linalg.norm(geometry.affine[:3, :3], axis=0)
    affine[3, 3] = 1
    return affine


def write_volume(
    path: str | os.PathLike[str],
    array: npt.NDArray[Any],
    geometry: Geometry,
    *,
    dtype: npt.DTypeLike | None = None,
    description: str = "",
) -> None:
    """Write labels or maps of an image on the grid and with the affine of the image's file.

    Parameters
    ----------
    path
        Ends in .nii or .nii.gz. Written atomically.
    array
        Shape `geometry.spatial_shape`, or (K, *spatial_shape) for a stack, which becomes a
        fourth axis.
    geometry
        Of the image that the array was computed from.
    dtype
        uint8 for labels, which are marked as labels in the header, or float32 for maps. None:
        labels if the array is of integers, a map if not.
    description
        At most 79 ASCII characters are kept.

    Raises
    ------
    InputError
        If the name, the shape, or a value of the array does not fit, or the system refuses.
    """
    if not is_nifti_path(path):
        raise InputError(f"Cannot write {path}: the name must end in .nii or .nii.gz.")
    array = np.asarray(array)
    if dtype is None:
        dtype = np.uint8 if array.dtype.kind in "iub" else np.float32
    stored = geometry.to_file(_as_dtype(array, np.dtype(dtype)))
    nifti = _nifti_on_grid(stored, geometry)
    header = nifti.header
    header.set_data_dtype(stored.dtype)
    header.set_intent("label" if stored.dtype.kind == "u" else "none")
    header["descrip"] = description.encode("ascii", "replace")[:79]
    # These describe the voxels of the input, not of what is computed from it.
    header["cal_min"] = header["cal_max"] = 0
    header["aux_file"] = b""
    with atomic_path(path) as temporary:
        nifti.to_filename(temporary)


def _open(path: Path) -> BufferedIOBase:
    return gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb")


def _open_nifti(stream: BufferedIOBase, path: Path) -> Nifti1Image:
    """Read the header, and refuse what nibabel would quietly put right or fail on later."""
    block = stream.read(_HEADER_BYTES)
    for image_class in (Nifti1Image, Nifti2Image):
        if image_class.header_class.may_contain_header(block):
            break
    else:
        raise InputError(
            f"{path} is not a NIfTI file: it does not begin with a NIfTI header. Open the "
            f"original in the program that made it, and export it as NIfTI."
        )
    stream.seek(0)
    check_stored_header(image_class.header_class.from_fileobj(stream, check=False), path)
    stream.seek(0)
    # No memory map: an image on screen must not change when its file does.
    nifti: Nifti1Image = image_class.from_file_map(
        {"image": FileHolder(fileobj=stream)}, mmap=False
    )
    check_header(nifti.header, path)
    return nifti


def _real_numbers(stored: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Integers in native byte order, floating numbers as float32."""
    if stored.dtype.kind in "iu" or stored.dtype.itemsize <= np.float32().itemsize:
        return stored.astype(stored.dtype.newbyteorder("="), copy=False)
    # What float32 cannot hold becomes infinite, and the image is then refused for that.
    with np.errstate(over="ignore"):
        return stored.astype(np.float32)


def _geometry(nifti: Nifti1Image, name: str) -> Geometry:
    header = nifti.header
    return Geometry.from_file_order(
        nifti.shape,
        nifti.affine,
        mm_per_unit=_MM_PER_UNIT.get(int(header["xyzt_units"]) % 8, 1.0),
        file_header=header.binaryblock,
        what=f"The affine of {name}",
        has_spacing=_says_size(header, nifti.affine),
    )


def _says_size(header: Nifti1Header, affine: npt.NDArray[np.float64]) -> bool:
    """Whether a file says how large its voxels are.

    A unit says so. Without one: programs that know nothing of space write voxels of 1 at the
    origin, or no affine at all. Any other numbers are mm, which is what most files without a unit
    mean.
    """
    if int(header["xyzt_units"]) % 8:
        return True
    if int(header["sform_code"]) <= 0 and int(header["qform_code"]) <= 0:
        return not np.allclose(header.get_zooms()[:3], 1)
    return not np.array_equal(affine, np.eye(4))


def _header(block: bytes) -> Nifti1Header:
    if len(block) == Nifti1Header.sizeof_hdr:
        return Nifti1Header(block, check=False)
    return Nifti2Header(block, check=False)


def _nifti_on_grid(stored: npt.NDArray[Any], geometry: Geometry) -> Nifti1Image:
    header = _header(geometry.file_header) if geometry.file_header else None
    # With no affine given, nibabel leaves the sform and the qform of a header as they are.
    affine = geometry.file_affine if header is None else None
    too_large = max(stored.shape) > _MAX_NIFTI1_SIZE
    if too_large or isinstance(header, Nifti2Header):
        nifti: Nifti1Image = Nifti2Image(stored, affine, header)
    else:
        nifti = Nifti1Image(stored, affine, header)
    if header is None:
        nifti.header.set_xyzt_units("mm" if geometry.has_spacing else "unknown")
    return nifti


def _as_dtype(array: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    if dtype == np.uint8:
        if array.dtype.kind not in "iub":
            raise InputError(f"Labels must be integers, but they are {array.dtype}.")
        if array.size and not 0 <= int(array.min()) <= int(array.max()) <= np.iinfo(np.uint8).max:
            raise InputError(
                f"Labels must lie between 0 and 255, but they lie between {array.min()} and "
                f"{array.max()}. Renumber them first."
            )
    elif dtype == np.float32:
        if not np.isfinite(array).all():
            raise InputError("A map must hold finite numbers, but some are NaN or infinite.")
    else:
        raise InputError(f"Volumes are written as uint8 (labels) or float32, not {dtype}.")
    return array.astype(dtype, copy=False)
