"""Which image a session belongs to, so that it is found again and offered for no other one."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from napari_structseg.image import Image
from napari_structseg.io.references import Sha256, voxel_hash

# So many values are enough to tell images apart, and take a few milliseconds.
_MOST_VALUES = 1 << 20

_Size = Annotated[int, Field(ge=1, lt=2**31)]


class ImageIdentity(BaseModel):
    """What is known of an image without holding it.

    The header of its file is not kept: it may say who the patient is. Name and path are, as the
    user has chosen them, since the image has to be found again.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="What the image is called.")
    path: str | None = Field(description="Its file; None: it came from no file.")
    shape: tuple[_Size, ...] = Field(min_length=2, max_length=3, description="Without channels.")
    grid: Sha256 = Field(description="Of shape and affine.")
    content: Sha256 = Field(description="Of shape, channels and voxels on a regular lattice.")

    def is_of_same_image(self, other: ImageIdentity) -> bool:
        """Whether both are of one image, whatever it is called and wherever it lies."""
        return self.content == other.content


def identify(image: Image, path: str | Path | None = None) -> ImageIdentity:
    """Identity of an image.

    Parameters
    ----------
    image
        The image.
    path
        Its file; None: it came from no file.
    """
    geometry = image.geometry
    grid = hashlib.sha256(repr((image.spatial_shape, geometry.has_spacing)).encode())
    grid.update(np.ascontiguousarray(geometry.affine, "<f8").tobytes())
    step = 1
    while image.data.size / step**image.ndim > _MOST_VALUES:
        step += 1
    lattice = image.data[(slice(None), *[slice(None, None, step)] * image.ndim)]
    what = f"{image.data.shape} {image.data.dtype.newbyteorder('<').str} {voxel_hash(lattice)}"
    return ImageIdentity(
        name=image.name,
        path=None if path is None else str(Path(path).absolute()),
        shape=image.spatial_shape,
        grid=grid.hexdigest(),
        content=hashlib.sha256(what.encode()).hexdigest(),
    )
