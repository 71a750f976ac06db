from __future__ import annotations

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image as ImageLayer
from napari.layers import Labels, Layer

from napari_structseg.errors import InputError
from napari_structseg.image import Image
from napari_structseg.reader import get_reader, read_layers
from napari_structseg.writer import write_labels

PLUGIN = "napari-structseg"
OBLIQUE = np.array([[-0.9, -1.6, 0, 80], [-1.2, 1.2, 0, 90], [0, 0, 3, -50], [0, 0, 0, 1]])


@pytest.fixture
def viewer(npe2pm):
    """A viewer without a window that knows this plugin and no other."""
    with npe2pm.tmp_plugin(manifest=str(files("napari_structseg") / "napari.yaml")):
        yield ViewerModel()


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    voxels = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    nib.Nifti1Image(voxels, OBLIQUE).to_filename(tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


def open_layers(path: Path) -> list[Layer]:
    reader = get_reader(str(path))
    assert reader is not None
    return [Layer.create(*layer) for layer in reader(str(path))]


def save_layer(path: Path, layer: Layer) -> list[str]:
    data, meta, _ = layer.as_layer_data_tuple()
    return write_labels(str(path), data, meta)


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz", "SCAN.NII.GZ"])
def test_nifti_names_are_read(name: str) -> None:
    assert get_reader(name) is read_layers
    assert get_reader(Path(name)) is read_layers
    assert get_reader([name, name]) is read_layers


@pytest.mark.parametrize("name", ["scan.png", "scan.gz", "nii", ["a.nii", "b.png"], "."])
def test_other_names_are_left_to_other_plugins(name: str | list[str]) -> None:
    assert get_reader(name) is None


def test_layer_shows_the_voxel_grid_and_remembers_the_image(scan: Path) -> None:
    (layer,) = open_layers(scan)
    assert isinstance(layer, ImageLayer)
    assert layer.name == "scan"
    # A quarter turn and a bit: the nearest axes are swapped, and the rotation is not shown.
    assert layer.data.shape == (5, 3, 4)
    assert layer.scale == pytest.approx((3, 1.5, 2))
    assert np.array_equal(layer.affine.linear_matrix, np.eye(3))
    assert np.array_equal(layer.translate, (0, 0, 0))
    assert [str(unit) for unit in layer.units] == ["millimeter"] * 3
    assert layer.axis_labels == ("z", "y", "x")
    image = layer.metadata["structseg_image"]
    assert isinstance(image, Image)
    assert np.shares_memory(layer.data, image.data)


def test_channels_become_layers_of_one_image(tmp_path: Path) -> None:
    voxels = np.arange(120, dtype=np.float32).reshape(3, 4, 5, 2)
    nib.Nifti1Image(voxels, np.eye(4)).to_filename(tmp_path / "scan.nii")
    first, second = open_layers(tmp_path / "scan.nii")
    assert (first.name, second.name) == ("scan channel 1", "scan channel 2")
    assert np.array_equal(second.data, voxels[::-1, ::-1, ::-1, 1].transpose())
    assert first.metadata["structseg_image"] is second.metadata["structseg_image"]


def test_slice_becomes_a_2d_layer(tmp_path: Path) -> None:
    voxels = np.arange(12, dtype=np.uint8).reshape(3, 4, 1)
    nib.Nifti1Image(voxels, np.diag([2, 3, 5, 1])).to_filename(tmp_path / "slice.nii")
    (layer,) = open_layers(tmp_path / "slice.nii")
    assert layer.data.shape == (4, 3)
    assert layer.scale == pytest.approx((3, 2))


def test_several_files_become_several_layers(scan: Path) -> None:
    assert [layer[1]["name"] for layer in read_layers([scan, str(scan)])] == ["scan", "scan"]


def test_bad_file_is_a_readable_error_and_opens_nothing(viewer, tmp_path: Path) -> None:
    path = tmp_path / "scan.nii"
    path.write_text("not an image")
    viewer.add_image(np.zeros((3, 4)))
    with pytest.raises(InputError, match="not a NIfTI file"):
        viewer.open(str(path), plugin=PLUGIN)
    assert len(viewer.layers) == 1


def test_napari_opens_and_saves_through_the_manifest(viewer, scan: Path, tmp_path: Path) -> None:
    (image,) = viewer.open(str(scan), plugin=PLUGIN)
    layer = viewer.add_labels((image.data % 3).astype(np.uint8), metadata=image.metadata)
    path = str(tmp_path / "labels.nii.gz")
    assert layer.save(path) == [path]
    (opened,) = viewer.open(path, plugin=PLUGIN)
    assert isinstance(opened, Labels)
    assert np.array_equal(opened.data, layer.data)


def test_labels_of_an_opened_image_overlay_its_file(scan: Path, tmp_path: Path) -> None:
    (layer,) = open_layers(scan)
    values = (layer.data % 3).astype(np.uint8)
    labels = Labels(values, scale=layer.scale, metadata=layer.metadata)
    path = tmp_path / "labels.nii.gz"
    assert save_layer(path, labels) == [str(path)]
    before, after = nib.load(scan), nib.load(path)
    assert np.array_equal(after.affine, before.affine)
    assert np.array_equal(after.dataobj, np.asarray(before.dataobj) % 3)


def test_labels_that_were_saved_open_as_labels_and_save_again(scan: Path, tmp_path: Path) -> None:
    (layer,) = open_layers(scan)
    first, second = tmp_path / "first.nii", tmp_path / "second.nii.gz"
    save_layer(first, Labels((layer.data % 3).astype(np.int64), metadata=layer.metadata))
    (opened,) = open_layers(first)
    assert isinstance(opened, Labels)
    assert opened.data.dtype == np.uint8
    assert np.array_equal(opened.data, layer.data % 3)
    save_layer(second, opened)
    before, after = nib.load(first), nib.load(second)
    assert np.array_equal(after.affine, before.affine)
    assert np.array_equal(after.dataobj, before.dataobj)


def test_labels_beyond_uint8_keep_their_numbers(tmp_path: Path) -> None:
    nifti = nib.Nifti1Image(np.full((3, 4, 5), 1024, np.int16), np.eye(4))
    nifti.header.set_intent("label")
    nifti.to_filename(tmp_path / "labels.nii")
    (layer,) = open_layers(tmp_path / "labels.nii")
    assert isinstance(layer, Labels)
    assert (np.asarray(layer.data) == 1024).all()


@pytest.mark.parametrize(("units", "factor"), [("pixel", 1), ("mm", 1), ("um", 0.001)])
def test_layer_of_unknown_origin_is_saved_where_napari_shows_it(
    tmp_path: Path, units: str, factor: float
) -> None:
    values = np.zeros((4, 5, 6), np.uint8)
    values[1, 2, 3] = 9
    layer = Labels(values, scale=(3, 2, 1), translate=(10, 20, 30), units=units)
    save_layer(tmp_path / "labels.nii", layer)
    nifti = nib.load(tmp_path / "labels.nii")
    assert nifti.shape == (6, 5, 4)
    assert nifti.dataobj[3, 2, 1] == 9
    expected = np.array([[1, 0, 0, 30], [0, 2, 0, 20], [0, 0, 3, 10], [0, 0, 0, 1.0]])
    expected[:3] *= factor
    np.testing.assert_allclose(nifti.affine, expected, rtol=1e-6)


def test_flat_and_multiscale_layers_are_saved(tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.uint8).reshape(4, 6)
    save_layer(tmp_path / "flat.nii", Labels(values, scale=(2, 1)))
    save_layer(tmp_path / "levels.nii", Labels([values, values[::2, ::2]], scale=(2, 1)))
    for name in ("flat.nii", "levels.nii"):
        nifti = nib.load(tmp_path / name)
        assert np.array_equal(nifti.dataobj, values.transpose())
        assert nifti.header.get_zooms() == (1, 2)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Labels(np.full((3, 4), 300)), "between 0 and 255"),
        (Labels(np.zeros((2, 3, 4, 5), int), name="tracks"), "Layer 'tracks' must have 2 or 3"),
    ],
)
def test_layer_that_cannot_be_saved_is_refused(tmp_path: Path, layer: Labels, message: str) -> None:
    with pytest.raises(InputError, match=message):
        save_layer(tmp_path / "labels.nii", layer)
    assert list(tmp_path.iterdir()) == []


def test_labels_of_another_shape_than_their_image_are_refused(scan: Path, tmp_path: Path) -> None:
    (layer,) = open_layers(scan)
    cropped = Labels(np.zeros((2, 3, 4), np.uint8), metadata=layer.metadata)
    with pytest.raises(InputError, match=r"grid is \(5, 3, 4\), but the array .* \(2, 3, 4\)"):
        save_layer(tmp_path / "labels.nii", cropped)


def test_reading_imports_neither_torch_nor_qt(scan: Path) -> None:
    code = """
import sys
from napari_structseg.reader import get_reader
import napari_structseg.sample_data, napari_structseg.writer
get_reader(sys.argv[1])(sys.argv[1])
print(*{"torch", "qtpy", "napari", "nilearn", "sklearn"} & set(sys.modules))
"""
    finished = subprocess.run(
        [sys.executable, "-c", code, str(scan)], capture_output=True, text=True, check=True
    )
    assert finished.stdout.strip() == ""
