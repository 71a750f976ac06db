"""What is checked of a NIfTI file before any memory is taken for its voxels."""

from __future__ import annotations

import math
import os
from io import BufferedIOBase
from pathlib import Path
from typing import cast

import numpy as np
from nibabel.arrayproxy import ArrayProxy
from nibabel.nifti1 import Nifti1Header, Nifti1Image

from napari_structseg.errors import InputError
from napari_structseg.memory import check_memory

FILE_AXES = ("X", "Y", "Z")
SUFFIXES = (".nii", ".nii.gz")

# No deflate stream expands further than this (zlib's technical notes give 1032 to 1).
_MAX_GZIP_RATIO = 1040
# Between header and voxels lie only extensions, which are text. All of it must be unpacked.
_MAX_EXTENSIONS = 1 << 26
# What a gzip file may hold behind its voxels. More is no padding, and unpacking it takes hours.
_MAX_TRAILING = 1 << 24
_CHUNK = 1 << 20


def is_nifti_path(path: str | os.PathLike[str]) -> bool:
    """Whether the name is one of a NIfTI file: .nii or .nii.gz, in either case."""
    return os.fspath(path).lower().endswith(SUFFIXES)


def file_stem(path: str | os.PathLike[str]) -> str:
    """Return a NIfTI file's name without folder and suffix."""
    name = Path(path).name
    for suffix in reversed(SUFFIXES):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def check_path(path: Path) -> None:
    """Raise InputError unless `path` names a file that could be NIfTI."""
    if path.is_dir():
        raise InputError(f"{path} is a folder. Give a NIfTI file (.nii or .nii.gz) in it.")
    if not path.exists():
        raise InputError(f"There is no file {path}. Check the name and the folder.")
    if not is_nifti_path(path):
        raise InputError(
            f"{path} is not a NIfTI file by its name: expected .nii or .nii.gz. Convert it, for "
            f"example with dcm2niix (DICOM) or ITK-SNAP (NRRD, MetaImage)."
        )
    if not os.access(path, os.R_OK):
        raise InputError(f"You may not read {path}. Ask its owner, or copy it to your own folder.")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is an empty file. Copy or download it again.")


def check_stored_header(stored: Nifti1Header, path: Path) -> None:
    """Raise InputError for what nibabel would quietly put right, and so make wrong.

    A voxel size of zero would become 1 mm, and every volume in mL would be invented. Voxels that
    begin at byte 0 would be made of the header. `stored` is the header as it is in the file.
    """
    begin = float(stored["vox_offset"])
    if not stored.single_vox_offset <= begin <= stored.sizeof_hdr + _MAX_EXTENSIONS:
        raise InputError(
            f"{path} is damaged: its header says that the voxels begin at byte {begin:g}, which "
            f"is {'inside' if begin < stored.single_vox_offset else 'far behind'} the header. "
            f"Convert it again."
        )
    if int(stored["sform_code"]) > 0:
        return
    n_axes = min(3, int(stored["dim"][0]))
    sizes = stored["pixdim"][1 : 1 + n_axes]
    zero = [axis for axis, size in zip(FILE_AXES, sizes, strict=False) if size == 0]
    if zero:
        raise InputError(
            f"{path} gives no affine (no sform) and a voxel size of zero for axis "
            f"{', '.join(zero)}. Set the voxel size where the image was made or converted, then "
            f"open it again."
        )


def check_header(header: Nifti1Header, path: Path) -> None:
    """Raise InputError unless the header describes an image that can be shown."""
    shape = tuple(int(size) for size in header.get_data_shape())
    if any(size < 1 for size in shape) or len(shape) < 2:
        raise InputError(
            f"{path} must hold an image of 2 or 3 axes, but its header says shape {shape}. "
            f"Convert it again."
        )
    if any(size > 1 for size in shape[4:]):
        raise InputError(
            f"{path} must have at most 4 axes (X, Y, Z, channels), but its shape is {shape}. "
            f"Extract one time point or component of it first."
        )
    dtype = header.get_data_dtype()
    if dtype.kind not in "iuf":
        kind = "RGB colour" if dtype.names else str(dtype)
        raise InputError(
            f"{path} must hold real numbers, but its voxels are {kind}. Convert it to one value "
            f"per voxel, for example to greyscale or magnitude."
        )


def check_size(nifti: Nifti1Image, path: Path) -> None:
    """Compare what the header promises with what the disk holds and the memory can take.

    Raises
    ------
    InputError
        If the file cannot hold the voxels that its header promises.
    MemoryLimitError
        If they do not fit into memory.
    """
    header = nifti.header
    dtype = header.get_data_dtype()
    n_voxels = math.prod(nifti.shape)
    promised = n_voxels * dtype.itemsize
    on_disk = path.stat().st_size
    compressed = path.name.lower().endswith(".gz")
    possible = on_disk * _MAX_GZIP_RATIO if compressed else on_disk
    if promised > possible:
        raise InputError(
            f"{path} is cut short, or its header is wrong: the header promises {promised} bytes "
            f"of voxels (shape {nifti.shape}, {dtype}), but the file has {on_disk} bytes. Copy "
            f"or download it again."
        )
    scaled = not _stays_as_it_is(nifti)
    # As stored and once more (reordered, or unpacked), the float64 and float32 of a scaled
    # image, and the mask of the finite.
    check_memory(n_voxels * (2 * dtype.itemsize + (12 if scaled else 0) + 1), f"Opening {path}")


def _stays_as_it_is(nifti: Nifti1Image) -> bool:
    dtype = nifti.header.get_data_dtype()
    proxy = cast("ArrayProxy", nifti.dataobj)
    unscaled = (proxy.slope, proxy.inter) == (1, 0)
    return unscaled and (dtype.kind in "iu" or dtype.itemsize <= np.float32().itemsize)


def read_to_end(stream: BufferedIOBase, path: Path) -> None:
    """Read what follows the voxels, and raise InputError if it does not end.

    gzip compares its checksum at the end of the stream, which nibabel does not reach: without
    this, a damaged file can open as an image with noise in it.
    """
    left = _MAX_TRAILING
    while found := len(stream.read(_CHUNK)):
        left -= found
        if left < 0:
            raise InputError(
                f"{path} holds more than {_MAX_TRAILING >> 20} MiB behind the voxels that its "
                f"header promises, so the header or the file is wrong. Convert it again."
            )
