"""Predictions of other programs lie where their images lie."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from napari_structseg import Image, read_image
from napari_structseg.errors import InputError
from napari_structseg.io.other_programs.maps import OTHER_CLASSES
from napari_structseg.io.other_programs.members import find_members
from napari_structseg.io.other_programs.nnunet import find_prediction
from napari_structseg.io.other_programs.resampling import resampled
from nifti_files import save
from other_programs import (
    CROP,
    OBLIQUE,
    SHAPE,
    in_file_order,
    probabilities,
    truth,
    write_dataset,
    write_image,
    write_v1,
    write_v2,
)


def overlays(maps: Image, image: Path, expected: np.ndarray) -> None:
    """The maps lie on the grid of the image, and are as expected in the order of its file."""
    opened = read_image(image)
    assert maps.geometry.same_grid(opened.geometry)
    stored = opened.to_file_order(maps.data)
    np.testing.assert_allclose(stored, expected, atol=2e-3)
    assert maps.data.dtype == np.float32


def test_version_2_overlays_an_oblique_anisotropic_image(tmp_path: Path) -> None:
    image, maps = write_image(tmp_path), probabilities(truth())
    found = find_prediction(write_v2(tmp_path / "fold_0", maps))
    assert (found.n_classes, found.names) == (3, None)
    overlays(found.read(), image, maps)


def test_version_2_read_with_nibabel(tmp_path: Path) -> None:
    image, maps = write_image(tmp_path), probabilities(truth())
    itself = {"sitk_stuff": None, "nibabel_stuff": {"original_affine": OBLIQUE}}
    overlays(find_prediction(write_v2(tmp_path / "a", maps, **itself)).read(), image, maps)
    # Its other reader turns the volume to right, anterior, superior first.
    turned = nib.as_closest_canonical(nib.Nifti1Image(maps, OBLIQUE))
    stuff = {"original_affine": OBLIQUE, "reoriented_affine": turned.affine}
    assert not np.allclose(turned.affine, OBLIQUE)
    path = write_v2(tmp_path / "b", turned.get_fdata(), sitk_stuff=None, nibabel_stuff=stuff)
    overlays(find_prediction(path).read(), image, maps)


def test_version_2_of_a_picture(tmp_path: Path) -> None:
    maps = probabilities(truth()[:, :, :1])
    path = write_v2(tmp_path, maps, sitk_stuff=None, spacing=[999, 1, 1])
    read = find_prediction(path).read()
    picture = Image.from_array(np.zeros(SHAPE[1::-1], np.uint8))
    assert read.geometry.same_grid(picture.geometry)
    np.testing.assert_allclose(read.data, maps[:, :, 0].transpose(2, 1, 0), atol=1e-6)


def test_version_1_is_put_back_where_it_was_cropped(tmp_path: Path) -> None:
    image, maps = write_image(tmp_path), probabilities(truth())
    path = write_v1(tmp_path, maps)
    expected = np.zeros_like(maps)
    expected[..., 0] = 1
    z, y, x = (slice(*part) for part in CROP)
    expected[x, y, z] = maps[x, y, z]
    overlays(find_prediction(path).read(), image, expected)


def test_version_1_that_was_left_on_the_grid_of_its_network(tmp_path: Path) -> None:
    image = write_image(tmp_path)
    ramp = np.broadcast_to((np.arange(SHAPE[0]) + 0.5)[:, None, None] / SHAPE[0], SHAPE)
    maps = np.stack([1 - ramp, ramp], axis=-1).astype(np.float32)
    whole = [(0, size) for size in SHAPE[::-1]]
    path = write_v1(tmp_path, maps, crop=whole, size_after_resampling=(5, 7, 22))
    coarse = np.linspace(0, 1, 22, endpoint=False) + 1 / 44
    softmax = np.broadcast_to(np.stack([1 - coarse, coarse])[:, None, None], (2, 5, 7, 22))
    np.savez_compressed(path, softmax=softmax.astype(np.float16))
    overlays(find_prediction(path).read(), image, maps)


def test_coarse_slices_are_not_mixed() -> None:
    maps = np.zeros((2, 3, 4, 4), np.float32)
    maps[0, :2] = maps[1, 2] = 1
    made = resampled(maps, (6, 8, 8), (5.0, 1.0, 1.0))
    assert set(np.unique(made)) == {0, 1}
    assert made[1, :, 0, 0].tolist() == [0, 0, 0, 0, 1, 1]
    between = resampled(maps, (6, 8, 8), (2.0, 1.0, 1.0))
    assert 0 < between[1, 3, 0, 0] < 1
    np.testing.assert_allclose(between.sum(axis=0), 1, atol=1e-6)


def test_a_real_case_of_version_1_overlays_its_image(data_dir: Path, tmp_path: Path) -> None:
    """The softmax of the labels that nnU-Net wrote, cropped as its .pkl says, gives them again."""
    folder = data_dir / "nnunet_v1"
    case = folder / "fold_0" / "validation_raw" / "IBSR_12.pkl"
    labels = in_file_order(case.with_suffix(".nii.gz"))
    (z, y, x) = (slice(67, 200), slice(7, 118), slice(57, 200))
    softmax = np.stack([labels.transpose(2, 1, 0)[z, y, x] == label for label in range(4)])
    np.savez_compressed(tmp_path / "IBSR_12.npz", softmax=softmax.astype(np.float16))
    (tmp_path / "IBSR_12.pkl").write_bytes(case.read_bytes())
    found = find_prediction(tmp_path / "IBSR_12.npz")
    image = read_image(folder / "imagesTr" / "IBSR_12_0000.nii.gz")
    assert found.geometry.same_grid(image.geometry)
    made = image.to_file_order(found.read().data).argmax(axis=-1)
    assert np.array_equal(made, labels)
    # An image that lies elsewhere is not overlaid.
    other = read_image(folder / "imagesTr" / "IBSR_03_0000.nii.gz")
    assert not found.geometry.same_grid(other.geometry)


def test_names_of_classes_come_from_the_dataset(tmp_path: Path) -> None:
    path = write_v2(tmp_path / "trainer" / "fold_0" / "validation", probabilities(truth()))
    write_dataset(tmp_path / "trainer", {"background": 0, "cyst": 2, "kidney": 1, "ignore": 3})
    assert find_prediction(path).names == ("background", "kidney", "cyst")
    write_dataset(path.parent, {"0": "background", "1": "liver", "2": "tumour"})
    assert find_prediction(path).names == ("background", "liver", "tumour")
    write_dataset(path.parent, {"background": 0, "liver": 1})
    with pytest.raises(InputError, match=r"3 maps, but .* describes 2"):
        find_prediction(path)
    for damaged in ({"background": 0, "liver": "x"}, {"background": 0, "liver": []}, {}):
        write_dataset(path.parent, damaged)
        with pytest.raises(InputError, match="does not say which labels"):
            find_prediction(path)


def test_regions_become_classes(tmp_path: Path) -> None:
    maps = np.zeros((*SHAPE, 2), np.float32)
    maps[..., 0], maps[..., 1] = 0.9, 0.3
    maps[0, ..., 0], maps[0, ..., 1] = 0.2, 0.6
    path = write_v2(tmp_path, maps)
    regions = {"background": 0, "whole": [1, 2], "core": [2]}
    write_dataset(tmp_path, regions, regions_class_order=[1, 2])
    found = find_prediction(path)
    assert (found.names, found.n_classes) == (("background", "whole", "core"), 3)
    read = read_image(write_image(tmp_path)).to_file_order(found.read().data)
    np.testing.assert_allclose(read[5, 5, 5], (0.1, 0.6, 0.3), atol=1e-6)
    # The core cannot be more probable than the whole.
    np.testing.assert_allclose(read[0, 5, 5], (0.8, 0, 0.2), atol=1e-6)
    regions = {"background": 0, "left": [1, 3], "right": [2, 3]}
    write_dataset(tmp_path, regions, regions_class_order=[1, 2])
    with pytest.raises(InputError, match="do not lie one in the other"):
        find_prediction(path)


def test_the_file_of_the_case_is_found(tmp_path: Path) -> None:
    maps = probabilities(truth())
    folders = [tmp_path / f"fold_{fold}" for fold in range(2)]
    for folder in folders:
        for case in ("case", "another"):
            write_v2(folder, maps, case)
    found = find_members(folders, "case_0000")
    assert [one.path for one in found] == [folder / "case.npz" for folder in folders]
    assert find_members([folders[0]], "another")[0].path == folders[0] / "another.npz"
    with pytest.raises(InputError, match="no prediction of the case 'third'"):
        find_members(folders, "third")
    (folders[0] / "another.npz").unlink()
    # One prediction alone is meant, whatever the image is called.
    assert find_members(folders[:1], "third")[0].path.name == "case.npz"


def test_members_of_any_program(tmp_path: Path) -> None:
    image, labels = write_image(tmp_path), truth()
    maps = probabilities(labels)
    stack = save(tmp_path / "stack.nii.gz", maps, OBLIQUE)
    (label_map,) = find_members([save(tmp_path / "labels.nii.gz", labels, OBLIQUE)], "case")
    (stacked,) = find_members([stack], "case")
    overlays(stacked.read(), image, maps)
    hard = np.full_like(maps, OTHER_CLASSES / 2)
    np.put_along_axis(hard, labels[..., np.newaxis].astype(int), 1 - OTHER_CLASSES, axis=-1)
    overlays(label_map.read(), image, hard)
    folder = tmp_path / "one_for_each"
    folder.mkdir()
    save(folder / "kidney.nii.gz", maps[..., 1], OBLIQUE)
    save(folder / "cyst.nii.gz", maps[..., 2], OBLIQUE)
    (each,) = find_members([folder], "case")
    assert each.names == ("background", "cyst", "kidney")
    overlays(each.read(), image, maps[..., [0, 2, 1]])
    (foreground,) = find_members([folder / "cyst.nii.gz"], "case")
    overlays(foreground.read(), image, np.stack([1 - maps[..., 2], maps[..., 2]], axis=-1))


def test_label_maps_know_the_labels_of_each_other(tmp_path: Path) -> None:
    labels = truth()
    far = np.where(labels == 2, 250, labels).astype(np.int16)
    none = np.zeros_like(far)
    paths = [save(tmp_path / f"{n}.nii.gz", one, OBLIQUE) for n, one in enumerate((far, none))]
    found = find_members(paths, "case")
    assert [one.names for one in found] == [("background", "label 1", "label 250")] * 2
    assert [one.read().data.shape[0] for one in found] == [3, 3]
    image = read_image(write_image(tmp_path))
    made = image.to_file_order(found[0].read().data).argmax(axis=-1)
    assert np.array_equal(made, labels)


def test_members_that_do_not_fit_together(tmp_path: Path) -> None:
    maps = probabilities(truth())
    one = write_v2(tmp_path / "a", maps)
    fewer = write_v2(tmp_path / "b", maps[..., :2] / maps[..., :2].sum(axis=-1, keepdims=True))
    with pytest.raises(InputError, match="same classes"):
        find_members([one, fewer], "case")
    elsewhere = save(tmp_path / "c.nii.gz", maps, OBLIQUE + np.eye(4))
    with pytest.raises(InputError, match="different places"):
        find_members([one, elsewhere], "case")
    with pytest.raises(InputError, match="From 1 to"):
        find_members([], "case")
    with pytest.raises(InputError, match="is no prediction"):
        find_members([Path("scan.dcm")], "case")
