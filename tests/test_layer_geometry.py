"""What is saved of a layer lies where the layer lies."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from napari.layers import Image as ImageLayer
from napari.layers import Labels, Layer

from napari_structseg.errors import InputError
from napari_structseg.image import Image
from napari_structseg.io.nifti import read_image, write_volume
from napari_structseg.layer_geometry import transform_of_settings
from napari_structseg.reader import read_layers
from napari_structseg.widgets.viewer.viewing import has_size, image_of_layer, layer_transform
from napari_structseg.writer import write_labels

# napari says so of every layer that is turned; what it draws of it is its own affair.
pytestmark = pytest.mark.filterwarnings("ignore:Non-orthogonal slicing:UserWarning")

OBLIQUE = np.array([[-0.9, -1.6, 0, 80], [-1.2, 1.2, 0, 90], [0, 0, 3, -50], [0, 0, 0, 1]])
SHAPE = (4, 5, 6)
AFFINE = np.array([[1, 0.1, 0, 5], [0, 0.9, 0.2, -3], [0.3, 0, 1.2, 2], [0, 0, 0, 1]])
TRANSFORMS = {
    "scale": {"scale": (3, 2, 1.5)},
    "translate": {"translate": (10, -20, 30), "scale": (3, 2, 1)},
    "rotate": {"rotate": (10, 20, 30), "scale": (3, 2, 1)},
    "shear": {"shear": (0.1, 0.2, 0.3)},
    "lower shear": {"shear": np.array([[1, 0, 0], [0.2, 1, 0], [0.1, 0.3, 1]])},
    "affine": {"affine": AFFINE},
    "all": {
        "scale": (3, 2, 1),
        "translate": (1, 2, 3),
        "rotate": (5, -10, 15),
        "shear": (0.1, 0, 0.2),
        "affine": AFFINE,
        "units": ("mm", "mm", "mm"),
    },
    "micrometres": {"scale": (300, 20, 20), "translate": (100, 0, 50), "units": ("um",) * 3},
}
# The world of a layer that came from no file: Z, Y, X are superior, anterior, right.
RAS = [2, 1, 0]


def marked(shape: tuple[int, ...], voxel: tuple[int, ...]) -> np.ndarray:
    labels = np.zeros(shape, np.uint8)
    labels[voxel] = 7
    return labels


def saved_place(path: Path) -> np.ndarray:
    """Where the only marked voxel of a file lies, as other programs see it, in mm."""
    nifti = nib.load(path)
    (index,) = np.argwhere(np.asarray(nifti.dataobj) == 7)
    index = np.append(index, np.zeros(3 - len(index)))
    return nib.affines.apply_affine(nifti.affine, index)


def save(path: Path, layer: Layer) -> None:
    data, meta, _ = layer.as_layer_data_tuple()
    write_labels(str(path), data, meta)


def in_world(layer: Layer, voxel: tuple[int, ...]) -> np.ndarray:
    """Where napari shows a voxel, in mm."""
    mm = [
        1 if str(unit) == "pixel" else float((1 * unit).to("mm").magnitude) for unit in layer.units
    ]
    return np.asarray(layer.data_to_world(voxel)) * mm


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    voxels = np.random.default_rng(0).integers(0, 99, SHAPE[::-1]).astype(np.int16)
    nib.Nifti1Image(voxels, OBLIQUE).to_filename(tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


def opened(scan: Path) -> ImageLayer:
    ((data, settings, _),) = read_layers(scan)
    return ImageLayer(data, **settings)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_settings_and_layer_give_one_transform(name: str) -> None:
    layer = Labels(np.zeros(SHAPE, np.uint8), **TRANSFORMS[name])
    meta = layer.as_layer_data_tuple()[1]
    np.testing.assert_allclose(transform_of_settings(meta, 3), layer_transform(layer), atol=1e-5)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_labels_of_a_user_are_saved_where_they_are_shown(name: str, tmp_path: Path) -> None:
    voxel = (1, 3, 2)
    layer = Labels(marked(SHAPE, voxel), **TRANSFORMS[name])
    save(tmp_path / "labels.nii.gz", layer)
    place = saved_place(tmp_path / "labels.nii.gz")
    np.testing.assert_allclose(place, in_world(layer, voxel)[RAS], atol=1e-4)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_result_for_a_layer_is_saved_where_the_layer_is_shown(name: str, tmp_path: Path) -> None:
    layer = ImageLayer(np.ones(SHAPE, np.float32), **TRANSFORMS[name])
    image = image_of_layer(layer)
    voxel = (3, 0, 5)
    write_volume(tmp_path / "labels.nii", marked(SHAPE, voxel), image.geometry, dtype=np.uint8)
    expected = in_world(layer, voxel)[RAS]
    np.testing.assert_allclose(saved_place(tmp_path / "labels.nii"), expected, atol=1e-4)


def test_flat_layer_is_saved_where_it_is_shown(tmp_path: Path) -> None:
    settings = {"rotate": 30, "translate": (5, 7), "scale": (2, 3), "shear": [0.2]}
    layer = Labels(marked((5, 6), (1, 4)), **settings)
    save(tmp_path / "labels.nii", layer)
    expected = [*in_world(layer, (1, 4))[::-1], 0]
    np.testing.assert_allclose(saved_place(tmp_path / "labels.nii"), expected, atol=1e-4)
    image = image_of_layer(ImageLayer(np.ones((5, 6)), **settings))
    assert image.spacing == pytest.approx(np.linalg.norm(layer_transform(layer)[:2, :2], axis=0))


def test_opened_layer_that_stays_keeps_its_image(scan: Path) -> None:
    layer = opened(scan)
    assert image_of_layer(layer) is layer.metadata["structseg_image"]


@pytest.mark.parametrize("voxel", [(0, 0, 0), (3, 1, 2)])
def test_opened_layer_that_is_shifted_moves_along_the_axes_of_its_scan(
    scan: Path, tmp_path: Path, voxel: tuple[int, ...]
) -> None:
    layer = opened(scan)
    image = layer.metadata["structseg_image"]
    # By two slices and one row; the rotation of the scan is in its geometry, not in napari.
    layer.translate = (2 * layer.scale[0], -layer.scale[1], 0)
    moved = image_of_layer(layer)
    assert moved.channels == image.channels
    assert np.shares_memory(moved.data, image.data)
    expected = (image.geometry.affine @ [voxel[0] + 2, voxel[1] - 1, voxel[2], 1])[:3]
    shape = image.spatial_shape
    write_volume(tmp_path / "labels.nii", marked(shape, voxel), moved.geometry, dtype=np.uint8)
    np.testing.assert_allclose(saved_place(tmp_path / "labels.nii"), expected, atol=1e-4)
    # A labels layer that is a copy of the layer's settings goes to the same place.
    labels = Labels(
        marked(shape, voxel), scale=layer.scale, translate=layer.translate, metadata=layer.metadata
    )
    save(tmp_path / "copy.nii", labels)
    np.testing.assert_allclose(saved_place(tmp_path / "copy.nii"), expected, atol=1e-4)


def test_opened_layer_that_is_turned_turns_in_the_scanner(scan: Path, tmp_path: Path) -> None:
    layer = opened(scan)
    geometry = layer.metadata["structseg_image"].geometry
    as_opened = layer_transform(layer)
    layer.rotate = (20, 5, -10)
    layer.affine = AFFINE
    voxel = (2, 2, 1)
    place = np.linalg.inv(as_opened) @ layer_transform(layer) @ [*voxel, 1]
    save(
        tmp_path / "labels.nii",
        Labels(
            marked(layer.data.shape, voxel),
            scale=layer.scale,
            rotate=layer.rotate,
            affine=layer.affine,
            metadata=layer.metadata,
        ),
    )
    expected = (geometry.affine @ place)[:3]
    np.testing.assert_allclose(saved_place(tmp_path / "labels.nii"), expected, atol=1e-4)


def test_opened_slice_that_is_shifted_moves_in_its_plane(tmp_path: Path) -> None:
    # A sagittal slice: the first axis of the file has one voxel.
    affine = np.array([[4, 0, 0, 10], [0, 2, 0, 20], [0, 0, 3, 30], [0, 0, 0, 1.0]])
    nib.Nifti1Image(np.ones((1, 5, 6), np.int16), affine).to_filename(tmp_path / "slice.nii")
    layer = opened(tmp_path / "slice.nii")
    before = image_of_layer(layer).geometry
    layer.translate = layer.scale
    after = image_of_layer(layer)
    assert after.spatial_shape == (6, 5)
    assert after.geometry.flat_axis == 2
    step = after.geometry.affine[:3, 3] - before.affine[:3, 3]
    # Rows run to inferior and columns to posterior.
    np.testing.assert_allclose(step, (0, -2, -3), atol=1e-6)


def test_filtered_voxels_of_an_opened_layer_keep_its_place(scan: Path) -> None:
    layer = opened(scan)
    geometry = layer.metadata["structseg_image"].geometry
    layer.data = layer.data * 0.5
    image = image_of_layer(layer)
    assert image.geometry is geometry
    assert np.array_equal(image.data[0], layer.data)


def test_cropped_voxels_of_an_opened_layer_do_not_lie_on_its_grid(scan: Path) -> None:
    layer = opened(scan)
    layer.data = layer.data[1:]
    image = image_of_layer(layer)
    assert image.spatial_shape == layer.data.shape
    assert not image.geometry.file_header


def test_transform_that_cannot_place_voxels_is_refused(tmp_path: Path) -> None:
    # napari itself refuses a singular one.
    layer = Labels(marked(SHAPE, (0, 0, 0)), scale=(1, 1, 1e300))
    with pytest.raises(InputError, match=r"1e\+300 mm"):
        save(tmp_path / "labels.nii", layer)


def test_array_has_no_voxel_size_until_one_is_given() -> None:
    image = Image.from_array(np.zeros((4, 5, 6)))
    assert not image.has_spacing
    assert image.spacing == (1, 1, 1)
    assert not image.geometry.cropped((slice(0, 1), slice(0, 2), slice(0, 3)), 0).has_spacing
    known = image.with_spacing((3, 2, 1))
    assert known.has_spacing
    assert known.spacing == (3, 2, 1)
    assert known.voxel_volume_ml == pytest.approx(0.006)
    assert Image.from_array(np.zeros((4, 5)), spacing=(1, 1)).has_spacing
    assert Image.from_array(np.zeros((4, 5)), affine=np.eye(4)).has_spacing
    with pytest.raises(InputError, match="3 positive numbers"):
        image.with_spacing((1, 2))


def test_voxel_size_that_is_given_keeps_the_directions(scan: Path) -> None:
    image = read_image(scan)
    other = image.with_spacing((1, 2, 4))
    assert other.spacing == pytest.approx((1, 2, 4))
    before, after = (one.geometry.affine[:3, :3] / one.spacing for one in (image, other))
    np.testing.assert_allclose(before, after, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "known"),
    [
        ({}, False),
        ({"scale": (1, 1, 1), "translate": (5, 0, 0)}, False),
        ({"scale": (2, 1, 1)}, True),
        ({"units": ("mm", "mm", "mm")}, True),
    ],
)
def test_layer_says_its_voxel_size_by_scale_or_unit(settings: dict, known: bool) -> None:
    layer = ImageLayer(np.ones(SHAPE), **settings)
    assert has_size(layer) is known
    assert image_of_layer(layer).has_spacing is known


@pytest.mark.parametrize(
    ("affine", "unit", "known"),
    [
        (None, "unknown", False),
        (np.eye(4), "unknown", False),
        (np.eye(4), "mm", True),
        (np.diag([1, 1, 2, 1]), "unknown", True),
        # Voxels of 1 mm somewhere else than at the origin: somebody placed them.
        (nib.affines.from_matvec(np.eye(3), (-90, -126, -72)), "unknown", True),
    ],
)
def test_nifti_says_its_voxel_size_or_not(
    affine: np.ndarray | None, unit: str, known: bool, tmp_path: Path
) -> None:
    nifti = nib.Nifti1Image(np.ones((3, 4, 5), np.uint8), affine)
    nifti.header.set_xyzt_units(unit)
    nifti.to_filename(tmp_path / "scan.nii")
    image = read_image(tmp_path / "scan.nii")
    assert image.has_spacing is known
    ((_, settings, _),) = read_layers(tmp_path / "scan.nii")
    assert settings["units"] == ("mm" if known else "pixel",) * 3


def test_labels_of_an_array_do_not_gain_a_voxel_size_in_a_file(tmp_path: Path) -> None:
    labels = np.ones((3, 4, 5), np.uint8)
    write_volume(tmp_path / "a.nii", labels, Image.from_array(labels).geometry, dtype=np.uint8)
    assert not read_image(tmp_path / "a.nii").has_spacing
    known = Image.from_array(labels, spacing=(1, 1, 1)).geometry
    write_volume(tmp_path / "b.nii", labels, known, dtype=np.uint8)
    assert read_image(tmp_path / "b.nii").has_spacing


def test_voxels_are_not_looked_at_in_the_thread_that_paints() -> None:
    data = np.ones((5, 6), np.float32)
    data[2, 3] = np.nan
    image = image_of_layer(ImageLayer(data))
    with pytest.raises(InputError, match="NaN"):
        image.check_finite()
    # A typed voxel size takes no pass over them either.
    assert image.with_spacing((2.0, 2.0)).spacing == (2.0, 2.0)
