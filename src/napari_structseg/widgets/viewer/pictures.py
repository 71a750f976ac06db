"""Thumbnails as the canvas shows their slice."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from napari.components import Dims
from napari.layers import Image as ImageLayer

from napari_structseg.distributions import Region, region_shape
from napari_structseg.image import Image
from napari_structseg.session.messages import ModeThumbnails, Thumbnails
from napari_structseg.session.placement import view_outside
from napari_structseg.widgets.viewer.viewing import grey_picture, is_transposed

Picture = npt.NDArray[np.uint8]

THUMBNAIL_SIZE = 128


def pictures_of(
    thumbnails: Thumbnails | ModeThumbnails,
    dims: Dims,
    image: Image,
    layer: ImageLayer,
    region: Region,
) -> tuple[dict[int, Picture], Picture, float]:
    """Thumbnails as the canvas shows their slice.

    Parameters
    ----------
    thumbnails
        In the coordinates of the region.
    dims
        The viewer's dimensions.
    image, layer
        What was segmented.
    region
        The part of it that was.

    Returns
    -------
    labels
        By sample, ``(h, w)``.
    grey
        The image, ``(h, w)``.
    aspect
        Width by height in mm.
    """
    view = view_outside(thumbnails.view, region)
    grey = grey_picture(layer, view, THUMBNAIL_SIZE, region)
    sizes = region_shape(image.spatial_shape, region)
    height, width = (image.spacing[axis] * sizes[axis] for axis in view.plane(len(sizes)))
    labels = dict(thumbnails.labels)
    if is_transposed(dims, layer, view):
        labels = {sample: one.T for sample, one in labels.items()}
        return labels, grey.T, height / width
    return labels, grey, width / height
