from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from napari_structseg.errors import InputError, MemoryLimitError
from napari_structseg.image import Image
from napari_structseg.io.nifti import read_image, write_volume
from nifti_files import save

# What cannot be read.


def refused(path: Path, *parts: str) -> None:
    with pytest.raises(InputError) as caught:
        read_image(path)
    message = str(caught.value)
    assert path.name in message
    assert message.endswith(".")
    for part in parts:
        assert part in message


def test_missing_file(tmp_path: Path) -> None:
    refused(tmp_path / "scan.nii", "There is no file", "Check the name")


def test_folder(tmp_path: Path) -> None:
    refused(tmp_path, "is a folder", "Give a NIfTI file")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_empty_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"scan{suffix}"
    path.touch()
    refused(path, "empty file")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read every file")
def test_file_of_somebody_else(tmp_path: Path) -> None:
    path = save(tmp_path / "scan.nii", np.zeros((3, 4, 5), np.int16))
    path.chmod(0)
    refused(path, "You may not read", "Ask its owner")


def test_name_of_another_format(tmp_path: Path) -> None:
    path = tmp_path / "scan.nrrd"
    path.write_bytes(b"NRRD0004\n")
    refused(path, "expected .nii or .nii.gz", "Convert it")


@pytest.mark.parametrize("content", [b"not an image " * 100, b"\x5c\x01", bytes(1000)])
def test_content_of_another_format(tmp_path: Path, content: bytes) -> None:
    plain, compressed, misnamed = (tmp_path / f"{n}" for n in ("a.nii", "b.nii.gz", "c.nii.gz"))
    plain.write_bytes(content)
    compressed.write_bytes(gzip.compress(content))
    misnamed.write_bytes(content)
    refused(plain, "not a NIfTI file", "export it as NIfTI")
    refused(compressed, "not a NIfTI file", "export it as NIfTI")
    refused(misnamed, "Cannot read", "copy or download it again")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("keep", [0.02, 0.1, 0.5, 0.9, 0.999])
def test_truncated_file(tmp_path: Path, suffix: str, keep: float) -> None:
    noise = np.random.default_rng(0).normal(size=(20, 20, 20)).astype(np.float32)
    path = save(tmp_path / f"scan{suffix}", noise)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    refused(path, "cut short")


def test_damage_inside_a_compressed_file(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(size=(20, 20, 20)).astype(np.float32)
    path = save(tmp_path / "scan.nii.gz", noise)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    refused(path, "damaged or cut short")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_header_that_promises_more_than_the_file_holds(tmp_path: Path, suffix: str) -> None:
    path = save(
        tmp_path / f"scan{suffix}",
        np.zeros((3, 4, 5), np.int16),
        dim=[3, 30000, 30000, 30000, 1, 1, 1, 1],
    )
    refused(path, "promises 54000000000000 bytes", "Copy or download it again")


def test_image_beyond_memory(tmp_path: Path) -> None:
    path = save(
        tmp_path / "scan.nii",
        np.zeros((3, 4, 5), np.uint8),
        dim=[3, 16384, 16384, 4096, 1, 1, 1, 1],
    )
    # A sparse file: it has the size but not the blocks.
    os.truncate(path, 352 + 2**40)
    with pytest.raises(MemoryLimitError, match=r"Opening .*scan.nii needs about 3298.5 GB"):
        read_image(path)


@pytest.mark.parametrize(
    ("dim", "message"),
    [
        ([3, 0, 4, 5, 1, 1, 1, 1], "shape (0, 4, 5)"),
        ([3, -3, 4, 5, 1, 1, 1, 1], "shape (-3, 4, 5)"),
        ([1, 60, 1, 1, 1, 1, 1, 1], "shape (60,)"),
        ([0, 3, 4, 5, 1, 1, 1, 1], "shape"),
        ([5, 3, 4, 1, 1, 5, 1, 1], "at most 4 axes (X, Y, Z, channels), but its shape is"),
    ],
)
def test_shape_that_is_no_image(tmp_path: Path, dim: list[int], message: str) -> None:
    refused(save(tmp_path / "scan.nii", np.zeros((3, 4, 5), np.int16), dim=dim), message)


@pytest.mark.parametrize(
    ("datatype", "bitpix", "message"),
    [
        (128, 24, "RGB colour"),
        (32, 64, "complex64"),
        (1, 1, "damaged"),
        (9999, 16, "damaged"),
    ],
)
def test_voxels_that_are_not_real_numbers(
    tmp_path: Path, datatype: int, bitpix: int, message: str
) -> None:
    path = save(
        tmp_path / "scan.nii", np.zeros((9, 9, 9), np.float64), datatype=datatype, bitpix=bitpix
    )
    refused(path, message)


@pytest.mark.parametrize(
    ("affine", "message"),
    [
        (np.zeros((3, 4)), "zero column for axis X, Y, Z"),
        (np.diag([1, 0, 1, 0])[:3], "zero column for axis Y"),
        ([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0]], "singular"),
        (np.full((3, 4), np.nan), "NaN or infinite entries"),
        (np.full((3, 4), np.inf), "NaN or infinite entries"),
    ],
)
def test_sform_that_places_no_voxels(tmp_path: Path, affine, message: str) -> None:
    rows = dict(zip(("srow_x", "srow_y", "srow_z"), np.array(affine), strict=True))
    path = save(tmp_path / "scan.nii", np.zeros((3, 4, 5), np.int16), sform_code=1, **rows)
    refused(path, message, "Correct it")


@pytest.mark.parametrize("qform_code", [0, 1])
def test_voxel_size_of_zero(tmp_path: Path, qform_code: int) -> None:
    path = save(
        tmp_path / "scan.nii",
        np.zeros((3, 4, 5), np.int16),
        sform_code=0,
        qform_code=qform_code,
        pixdim=[1, 1, 0, 0, 0, 0, 0, 0],
    )
    refused(path, "voxel size of zero for axis Y, Z", "Set the voxel size")


@pytest.mark.parametrize("offset", [0, 100, -5])
def test_voxels_that_begin_inside_the_header(tmp_path: Path, offset: int) -> None:
    path = save(tmp_path / "scan.nii", np.zeros((3, 4, 5), np.int16), vox_offset=offset)
    refused(path, f"voxels begin at byte {offset}, which is inside the header", "Convert it again")


def test_quaternion_that_is_no_rotation(tmp_path: Path) -> None:
    path = save(
        tmp_path / "scan.nii",
        np.zeros((3, 4, 5), np.int16),
        sform_code=0,
        qform_code=1,
        quatern_b=2,
    )
    refused(path, "damaged")


def test_numbers_that_are_not_finite(tmp_path: Path) -> None:
    voxels = np.zeros((3, 4, 5))
    voxels[0, 0, :2] = np.nan
    voxels[0, 0, 2] = -np.inf
    voxels[0, 0, 3] = 1e300
    path = save(tmp_path / "scan.nii.gz", voxels)
    with pytest.raises(InputError, match="'scan' must hold finite numbers, but 4 of 60 voxels"):
        read_image(path)


# What cannot be written.


@pytest.mark.parametrize(
    ("array", "dtype", "message"),
    [
        (np.zeros((5, 4, 3)), np.uint8, "Labels must be integers, but they are float64"),
        (np.full((5, 4, 3), 256), np.uint8, "between 0 and 255, but they lie between 256 and"),
        (np.full((5, 4, 3), -1), np.uint8, "between 0 and 255, but they lie between -1 and"),
        (np.full((5, 4, 3), np.nan), np.float32, "finite numbers"),
        (np.zeros((5, 4, 3)), np.int16, r"as uint8 \(labels\) or float32, not int16"),
        (np.zeros((5, 4, 4), np.uint8), np.uint8, r"grid is \(5, 4, 3\)"),
    ],
)
def test_array_that_does_not_fit_is_not_written(tmp_path: Path, array, dtype, message: str) -> None:
    geometry = Image.from_array(np.zeros((5, 4, 3))).geometry
    with pytest.raises(InputError, match=message):
        write_volume(tmp_path / "labels.nii", array, geometry, dtype=dtype)
    assert list(tmp_path.iterdir()) == []


def test_name_without_a_nifti_suffix_is_not_written(tmp_path: Path) -> None:
    labels = np.zeros((5, 4, 3), np.uint8)
    with pytest.raises(InputError, match=r"labels.png: the name must end in .nii or .nii.gz"):
        write_volume(
            tmp_path / "labels.png", labels, Image.from_array(labels).geometry, dtype=np.uint8
        )
