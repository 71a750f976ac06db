"""napari opens NIfTI, DICOM, NRRD and MetaImage files through this module.

A layer shows voxels: its only transform is the spacing in mm. The rest of the affine, an oblique
rotation above all, is kept in the layer's metadata instead, because napari would otherwise show
slices through a rotated grid, resampled for display, and not the slices that were acquired and
that a model sees. Everything that is saved uses the metadata, and how far the layer was moved
since.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_structseg.image import Image
from napari_structseg.io.formats import DICOM, META, NIFTI, NRRD, has_ending
from napari_structseg.io.images import read_image
from napari_structseg.io.nifti import holds_labels
from napari_structseg.layer_geometry import GEOMETRY_KEY, IMAGE_KEY

if TYPE_CHECKING:
    from napari_structseg.io.dicom.series import Series
    from napari_structseg.io.segments import SegmentMap

# The last is napari's sign for a file that was read and has nothing to show.
LayerData = tuple[npt.NDArray[Any], dict[str, Any], str] | tuple[None]
Path = str | os.PathLike[str]

_AXIS_LABELS = ("z", "y", "x")
_FILES = NIFTI + NRRD + META


def get_reader(path: Path | Sequence[Path]) -> Callable[[Any], list[LayerData]] | None:
    """Return a function that reads `path`, or None if it is no image of a format known here.

    Parameters
    ----------
    path
        One file or folder, or several.

    Returns
    -------
    reader
        Takes `path` and returns layer data tuples. It raises `InputError` or `MemoryLimitError`
        for a file that cannot be shown; napari displays the message.
    """
    paths = _as_list(path)
    if all(has_ending(one, _FILES) for one in paths) or all(map(_may_be_dicom, paths)):
        return read_layers
    return None


def read_layers(path: Path | Sequence[Path]) -> list[LayerData]:
    """Read image files, or a DICOM series, into layer data tuples."""
    paths = _as_list(path)
    if all(map(_may_be_dicom, paths)):
        return _dicom_layers([FilePath(one) for one in paths])
    return [layer for one in paths for layer in _file_layers(FilePath(one))]


def _may_be_dicom(path: Path) -> bool:
    if not os.path.isdir(path):
        return has_ending(path, DICOM)
    from napari_structseg.io.dicom.series import has_dicom_files

    return has_dicom_files(FilePath(path))


def _file_layers(path: FilePath) -> list[LayerData]:
    if has_ending(path, NRRD):
        from napari_structseg.io.itk import read_header
        from napari_structseg.io.segments import maps_of_nrrd, segments_of_nrrd

        image = read_image(path)
        segments = segments_of_nrrd(read_header(path).values)
        if segments:
            return [_segment_layer(one) for one in maps_of_nrrd(image, segments)]
        return image_layers(image)
    return image_layers(read_image(path))


def _dicom_layers(paths: list[FilePath]) -> list[LayerData]:
    """The series that files or folders hold; one file stands for its series.

    Several files that are dropped come one by one: the first opens the series, and for the others
    there is nothing left to open.
    """
    from napari_structseg.io.dicom.read import find_series, read_series

    if len(paths) > 1 or paths[0].is_dir():
        series = find_series(paths)
    elif _is_shown(paths[0]):
        return [(None,)]
    else:
        series = _series_of(paths[0])
    images = [one for one in series if one.is_image]
    segmentations = [one for one in series if one.is_segmentation]
    layers: list[LayerData] = []
    if images:
        image = read_series(images[0])
        _tell([*_about_others(images), *(image.source.notices if image.source else ())])
        layers += image_layers(image)
    for one in segmentations:
        for header in one.headers:
            layers += _segmentation_layers(header.path)
    if not layers:
        from napari_structseg.io.dicom.series import choose_series

        choose_series(series, None, str(paths[0]))
    return layers


def _series_of(path: FilePath) -> list[Series]:
    """The series that a file belongs to, of all files beside it."""
    from napari_structseg.io.dicom.read import find_series

    (own,) = find_series([path])
    if not own.is_image:
        return [own]
    found = find_series([path.parent])
    return [one for one in found if any(header.path == path for header in one.headers)]


def _segmentation_layers(path: FilePath) -> list[LayerData]:
    from napari_structseg.io.dicom.segments import read_segments

    found = read_segments(path)
    if isinstance(found, Image):
        return image_layers(found)
    return [_segment_layer(one) for one in found]


def _is_shown(path: FilePath) -> bool:
    """Whether a layer of the viewer was made of this file already."""
    # Where napari is not loaded, there is no viewer; and this module loads no window.
    napari = sys.modules.get("napari")
    viewer = None if napari is None else napari.current_viewer()
    images = [layer.metadata.get(IMAGE_KEY) for layer in (viewer.layers if viewer else ())]
    return any(
        isinstance(image, Image) and image.source is not None and path in image.source.files
        for image in images
    )


def _about_others(images: Sequence[Series]) -> list[str]:
    if len(images) == 1:
        return []
    others = ", ".join(repr(one.name) for one in images[1:6])
    return [
        f"{len(images)} series were found, and the largest was opened ({images[0].name!r}). The "
        f"others are {others}{' and more' if len(images) > 6 else ''}: open a file of theirs."
    ]


def _tell(notices: Sequence[str]) -> None:
    # napari shows warnings as notifications.
    for notice in notices:
        warnings.warn(notice, stacklevel=2)


def _segment_layer(found: SegmentMap) -> LayerData:
    nothing = (0.0, 0.0, 0.0, 0.0)
    settings = {
        **_common(found.geometry.spacing, found.geometry.has_spacing),
        "name": found.name,
        "metadata": {GEOMETRY_KEY: found.geometry},
        "features": {
            "index": [one.value for one in found.segments],
            "name": [one.name for one in found.segments],
        },
    }
    colors: dict[int | None, Any] = {None: nothing, 0: nothing}
    for one in found.segments:
        if one.color is not None:
            colors[one.value] = (*one.color, 1.0)
    # Of segments without colours napari chooses all.
    if len(colors) == len(found.segments) + 2:
        settings["colormap"] = colors
    return (_smallest_labels(found.labels), settings, "labels")


def _common(spacing: tuple[float, ...], has_spacing: bool) -> dict[str, Any]:
    """Settings of every layer of ours."""
    return {
        "scale": spacing,
        "units": ("mm" if has_spacing else "pixel",) * len(spacing),
        "axis_labels": _AXIS_LABELS[-len(spacing) :],
    }


def image_layers(image: Image) -> list[LayerData]:
    """Return the layer data tuples that show an image, one for each channel.

    A file that declares its numbers to be labels becomes labels layers.
    """
    is_labels = holds_labels(image.geometry) and image.data.dtype.kind in "iu"
    layers: list[LayerData] = []
    for channel, data in zip(image.channels, image.data, strict=True):
        settings: dict[str, Any] = {
            "name": image.name if image.n_channels == 1 else f"{image.name} {channel}",
            **_common(image.spacing, image.has_spacing),
        }
        if is_labels:
            settings["metadata"] = {GEOMETRY_KEY: image.geometry}
            layers.append((_smallest_labels(data), settings, "labels"))
        else:
            settings["metadata"] = {IMAGE_KEY: image}
            layers.append((data, settings, "image"))
    return layers


def _as_list(path: Path | Sequence[Path]) -> Sequence[Path]:
    return [path] if isinstance(path, str | os.PathLike) else path


def _smallest_labels(data: npt.NDArray[Any]) -> npt.NDArray[Any]:
    # napari draws uint8 labels many times faster than any other integers.
    fits = int(data.min()) >= 0 and int(data.max()) <= np.iinfo(np.uint8).max
    return data.astype(np.uint8, copy=False) if fits else data
