"""NRRD and MetaImage files, read with SimpleITK."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_structseg.errors import InputError, MemoryLimitError
from napari_structseg.geometry import Geometry
from napari_structseg.image import Image, channel_names
from napari_structseg.io.extras import require
from napari_structseg.io.formats import META, NRRD, has_ending, stem_of
from napari_structseg.io.text_headers import TextHeader, read_meta_header, read_nrrd_header
from napari_structseg.memory import is_out_of_memory
from napari_structseg.source_files import SourceFiles

# ITK counts towards left, posterior, superior.
_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_header(path: Path) -> TextHeader:
    """The header of an NRRD or a MetaImage file, checked.

    Raises
    ------
    InputError, MemoryLimitError
        If it cannot be right, names voxels in another folder, or they do not fit into memory.
    """
    return read_nrrd_header(path) if has_ending(path, NRRD) else read_meta_header(path)


def read_itk(path: str | os.PathLike[str]) -> Image:
    """Read an NRRD or a MetaImage file.

    Parameters
    ----------
    path
        Ends in .nrrd, .nhdr, .mha or .mhd.

    Returns
    -------
    image
        With `data` (C, Z, Y, X) or (C, Y, X): components of a voxel, or a fourth axis, are
        channels.

    Raises
    ------
    InputError
        If there is no such file, it is damaged, its voxels are in a file of another folder, or
        SimpleITK is not installed.
    MemoryLimitError
        If it does not fit into memory. Nothing was allocated.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no file {path}. Check the name and the folder.")
    require("SimpleITK", extra="formats", what="NRRD and MetaImage files")
    import SimpleITK as sitk  # noqa: N813 -- its own name for itself

    header = read_header(path)
    try:
        reader = sitk.ImageFileReader()
        reader.SetFileName(os.fspath(path))
        reader.SetImageIO("NrrdImageIO" if has_ending(path, NRRD) else "MetaImageIO")
        reader.ReadImageInformation()
        ndim, size = reader.GetDimension(), reader.GetSize()
        components = reader.GetNumberOfComponents()
        if np.prod([*size, components], dtype=np.float64) != np.prod(header.sizes, dtype=float):
            raise InputError(
                f"{path} can be read in two ways: as {header.sizes} or as {size} voxels. Save it "
                "again."
            )
        stored = sitk.GetArrayFromImage(reader.Execute())
    # What ITK raises is a RuntimeError, for every reason.
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise MemoryLimitError(f"There is not enough memory to open {path}.") from error
        raise InputError(
            f"Cannot read {path}: {_last_line(error)}. The file may be damaged: save it again."
        ) from error
    channels = _channels_first(stored, ndim, components, path)
    spatial = min(ndim, 3)
    direction = np.array(reader.GetDirection()).reshape(ndim, ndim)[:spatial, :spatial]
    affine = np.eye(4)
    affine[:spatial, :spatial] = direction * np.array(reader.GetSpacing()[:spatial])
    affine[:spatial, 3] = reader.GetOrigin()[:spatial]
    in_file_order = channels.T
    geometry = Geometry.from_file_order(
        (*in_file_order.shape[:-1], *(1,) * (3 - spatial), *in_file_order.shape[-1:])
        if len(channels) > 1
        else in_file_order.shape[:-1],
        _TO_RAS @ affine,
        has_spacing=header.has_spacing,
        what=f"The place of {path.name}",
    )
    data = np.ascontiguousarray(geometry.from_file(in_file_order))
    if data.dtype == np.float64:
        with np.errstate(over="ignore"):
            data = data.astype(np.float32)
    name = stem_of(path, NRRD + META)
    return Image(data, geometry, channel_names(len(data)), name, SourceFiles((header.files,)))


def _channels_first(
    stored: npt.NDArray[np.generic], ndim: int, components: int, path: Path
) -> npt.NDArray[np.generic]:
    """Shape (C, Z, Y, X) or (C, Y, X), of an array as SimpleITK gives it."""
    if ndim not in (2, 3, 4) or (ndim == 4 and components > 1):
        raise InputError(
            f"{path} must have 2 or 3 axes, and one more for channels, but it has {ndim} axes and "
            f"{components} components. Extract one time point of it first."
        )
    if components > 1:
        return np.moveaxis(stored, -1, 0)
    return stored if ndim == 4 else stored[np.newaxis]


def _last_line(error: RuntimeError) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else "the library gives no reason"
