"""The MNI152 brain that nilearn brings along, as sample data and to evaluate against."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import as_file, files

import numpy as np
import numpy.typing as npt

from napari_structseg.errors import InputError
from napari_structseg.image import Image
from napari_structseg.io.nifti import read_image
from napari_structseg.reader import LayerData, image_layers

_FILE_NAME = "mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"


def mni152() -> list[LayerData]:
    """Return the layer of the MNI152 T1 brain, for napari's sample menu."""
    return image_layers(load_mni152())


def load_mni152() -> Image:
    """Return the MNI152 2009a symmetric T1, 1 mm, (189, 233, 197), with its skull removed.

    Raises
    ------
    InputError
        If nilearn, which carries the image, is not installed.
    """
    return replace(_read("t1"), name="MNI152 T1", channels=("T1",))


def load_mni152_tissue_maps() -> dict[str, npt.NDArray[np.float32]]:
    """Return the probabilities of grey (`gm`) and white matter (`wm`) on the grid of the T1.

    They are averages over 152 people, and so smoother than the tissue of any one of them.

    Raises
    ------
    InputError
        If nilearn, which carries the maps, is not installed.
    """
    # Stored as uint8, 255 for certain.
    return {name: _read(name).data[0] / np.float32(255) for name in ("gm", "wm")}


def _read(name: str) -> Image:
    # nilearn's own loaders give float32 images with new headers, and importing them takes
    # seconds, since they import scikit-learn; its packaged file is what they read.
    try:
        packaged = files("nilearn") / "datasets" / "data" / _FILE_NAME.format(name)
    except ModuleNotFoundError as error:
        raise InputError(
            "The MNI152 brain comes with nilearn, which is not installed. Run: pip install "
            '"napari-structseg[demo]"'
        ) from error
    with as_file(packaged) as path:
        return read_image(path)
