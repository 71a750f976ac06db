"""One's own arrays in the order of a NIfTI file: in as read_image reads them, and back."""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from napari_structseg import Image, read_image, write_volume
from napari_structseg.errors import InputError
from nifti_files import save

SHAPE = (5, 4, 3)
SPACING = (1.5, 1.0, 3.0)
OBLIQUE = np.array(
    [[-1.3, 0.4, 0.2, 40], [0.5, 0.9, -0.4, -25], [0.1, 0.3, 2.9, 12], [0, 0, 0, 1.0]]
)


def orientations() -> list[np.ndarray]:
    """An affine for each of the 48 ways in which a file's axes can run."""
    affines = []
    for axes, signs in product(permutations(range(3)), product((1, -1), repeat=3)):
        affine = np.zeros((4, 4))
        affine[3, 3] = 1
        for axis, (world, sign) in enumerate(zip(axes, signs, strict=True)):
            affine[world, axis] = sign * SPACING[axis]
        affine[:3, 3] = (7, -8, 9)
        affines.append(affine)
    return affines


AFFINES = [*orientations(), OBLIQUE, OBLIQUE @ np.diag([1.0, -1, -1, 1])]


def voxels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("affine", AFFINES)
def test_an_array_is_the_image_of_its_file(affine: np.ndarray, tmp_path: Path) -> None:
    stored = voxels(*SHAPE)
    image = Image.from_file_order(stored, affine)
    read = read_image(save(tmp_path / "scan.nii", stored, affine))
    assert np.array_equal(image.data, read.data)
    np.testing.assert_allclose(image.geometry.affine, read.geometry.affine, atol=1e-5)
    assert np.array_equal(image.to_file_order(image.data[0]), stored)
    assert np.array_equal(read.to_file_order(read.data[0]), stored)


@pytest.mark.parametrize("affine", AFFINES)
def test_voxels_stay_where_they_are_in_the_world(affine: np.ndarray, tmp_path: Path) -> None:
    stored = np.zeros(SHAPE, np.uint8)
    stored[4, 1, 2] = 1
    image = Image.from_file_order(stored, affine)
    (at,) = np.argwhere(image.data[0])
    np.testing.assert_allclose(image.geometry.affine @ (*at, 1), affine @ (4, 1, 2, 1), atol=1e-9)
    write_volume(tmp_path / "labels.nii.gz", image.data[0], image.geometry)
    written = nib.load(tmp_path / "labels.nii.gz")
    assert np.array_equal(np.asanyarray(written.dataobj), stored)
    np.testing.assert_allclose(written.affine, affine, atol=1e-5)


@pytest.mark.parametrize("affine", AFFINES[::7])
def test_channels_and_stacks(affine: np.ndarray, tmp_path: Path) -> None:
    stored = voxels(*SHAPE, 2)
    image = Image.from_file_order(stored, affine, channel_axis=-1, channels=("T1", "T2"))
    assert image.channels == ("T1", "T2")
    assert np.array_equal(image.data, read_image(save(tmp_path / "4d.nii", stored, affine)).data)
    assert np.array_equal(image.to_file_order(image.data), stored)
    assert np.array_equal(image.to_file_order(image.data[1]), stored[..., 1])
    first = Image.from_file_order(np.moveaxis(stored, -1, 0), affine, channel_axis=0)
    assert np.array_equal(first.data, image.data)


@pytest.mark.parametrize("affine", AFFINES[::7])
def test_a_slice(affine: np.ndarray, tmp_path: Path) -> None:
    stored = voxels(5, 4)
    image = Image.from_file_order(stored, affine)
    read = read_image(save(tmp_path / "slice.nii", stored, affine))
    assert image.ndim == 2
    assert np.array_equal(image.data, read.data)
    assert np.array_equal(image.to_file_order(image.data[0]), stored)
    pair = voxels(5, 4, 2)
    image = Image.from_file_order(pair, affine, channel_axis=2)
    assert image.data.shape == (2, *image.spatial_shape)
    assert np.array_equal(image.to_file_order(image.data)[:, :, 0], pair)


def test_what_cannot_be_an_image() -> None:
    with pytest.raises(InputError, match=r"it has 4 .* say which"):
        Image.from_file_order(voxels(2, 3, 4, 5), np.eye(4))
    with pytest.raises(InputError, match="one of the 3 axes of the array, but it is 3"):
        Image.from_file_order(voxels(2, 3, 4), np.eye(4), channel_axis=3)
    with pytest.raises(InputError, match="zero column for axis X"):
        Image.from_file_order(voxels(2, 3, 4), np.diag([0.0, 1, 1, 1]))
    with pytest.raises(InputError, match="no voxels"):
        Image.from_file_order(voxels(0, 3, 4), np.eye(4))
    image = Image.from_file_order(voxels(2, 3, 4), np.eye(4))
    with pytest.raises(InputError, match="voxel grid is"):
        image.to_file_order(voxels(2, 3, 4))
