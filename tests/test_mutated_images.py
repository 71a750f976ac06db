"""Damaged DICOM, NRRD, MetaImage and TIFF files end with a message, whatever was damaged."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image as Pillow
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from dicom_files import make_enhanced, make_series, make_slice, save
from fuzz.mutators import bytes_
from napari_structseg.errors import StructSegError
from napari_structseg.io.images import read_image

sitk = pytest.importorskip("SimpleITK")

CASES = 25
NAMES = (
    "native.dcm", "jpeg2000.dcm", "jpegls.dcm", "rle.dcm", "enhanced.dcm",
    "a.nrrd", "a.nhdr", "a.mha", "a.mhd", "a.tif",
)  # fmt: skip
COMPRESSED = {
    "jpeg2000.dcm": JPEG2000Lossless,
    "jpegls.dcm": JPEGLSLossless,
    "rle.dcm": RLELossless,
}


def write(path: Path) -> None:
    voxels = np.random.default_rng(0).integers(0, 3000, (3, 33, 40)).astype(np.uint16)
    if path.name == "enhanced.dcm":
        save(make_enhanced(make_series(voxels), [2, 0, 1]), path)
    elif path.suffix == ".dcm":
        dataset = make_slice(voxels[0])
        if path.name in COMPRESSED:
            dataset.compress(COMPRESSED[path.name])
        save(dataset, path)
    elif path.suffix == ".tif":
        Pillow.fromarray(voxels[0]).save(path)
    else:
        sitk.WriteImage(sitk.GetImageFromArray(voxels), str(path))


def in_the_header(rng: Random, data: bytes) -> bytes:
    """A few bytes near the beginning, which hold the names and sizes of things."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 3))):
        found[rng.randrange(min(len(found), 1400))] = rng.choice((0, 1, 0x7F, 0xFF, 0x20, 0x39))
    return bytes(found)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", NAMES)
def test_mutated_files_are_read_or_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    write(path)
    whole = path.read_bytes()
    for number in range(CASES):
        rng = Random(f"{name} {number}")
        mutate = rng.choice((bytes_, in_the_header))
        path.write_bytes(mutate(rng, whole))
        with suppress(StructSegError):
            read_image(path)
