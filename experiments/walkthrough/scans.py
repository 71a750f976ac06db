"""Two scans of another contrast, made of the MNI152 brain, and the tissue that is there.

Grey values of the brain are folded, as those of the magnitude of an inversion recovery are: fluid
is brightest, and what lies between grey and white matter is darkest. The second scan
is the first one mirrored, with another bias field and other noise: another head, as far as a
network can tell.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_structseg.image import Image
from napari_structseg.sample_data import load_mni152, load_mni152_tissue_maps

# So many slices in the middle: a laptop follows them.
N_SLICES = 24
CLASSES = ("background", "CSF", "grey matter", "white matter")
_FOLD = 0.85
_BIAS, _NOISE, _SMOOTH_VOXELS = 0.15, 0.02, 40
_CROP = (slice(20, 215), slice(20, 178))


def scan(number: int) -> tuple[Image, npt.NDArray[np.uint8]]:
    """A scan and the tissue of each voxel.

    Parameters
    ----------
    number
        1 or 2.
    """
    image, maps = load_mni152(), load_mni152_tissue_maps()
    middle = image.spatial_shape[0] // 2
    region = (slice(middle - N_SLICES // 2, middle + N_SLICES // 2), *_CROP)
    values = image.data[0][region].astype(np.float32)
    brain = values > 0
    labels = np.where(brain, np.uint8(1), np.uint8(0))
    for label, name in ((2, "gm"), (3, "wm")):
        labels[brain & (maps[name][region] > 0.5)] = label
    if number == 2:
        values, brain, labels = values[..., ::-1], brain[..., ::-1], labels[..., ::-1]
    chance = np.random.default_rng(number)
    top = np.percentile(values[brain], 99)
    folded = 3 * np.abs(values / top - _FOLD)
    turned = np.where(brain, np.clip(folded, 0.05, None), 0)
    field = ndimage.gaussian_filter(chance.standard_normal(values.shape), _SMOOTH_VOXELS)
    turned *= np.exp(_BIAS * field / field.std())
    turned += np.where(brain, chance.normal(0, _NOISE, values.shape), 0)
    data = (1000 * turned.clip(0)).astype(np.float32)
    return (
        replace(
            image,
            data=data[None],
            geometry=image.geometry.cropped(region),
            name=f"scan {number}",
            channels=("inversion recovery",),
        ),
        np.ascontiguousarray(labels),
    )
