"""Images and label maps, from files and to files."""

from __future__ import annotations

from napari_structseg.io.atomic import atomic_path
from napari_structseg.io.nifti import read_image, write_volume

__all__ = ["atomic_path", "read_image", "write_volume"]
