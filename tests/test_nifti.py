from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nibabel.affines import apply_affine
from nibabel.eulerangles import euler2mat

from napari_structseg.image import Image
from napari_structseg.io.nifti import holds_labels, read_image, write_volume
from nifti_files import save

DTYPES = (np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64)


def upright(voxels: np.ndarray) -> np.ndarray:
    """What an array stored X, Y, Z towards right, anterior, superior is in the viewer.

    The first row is superior or anterior, the first column right.
    """
    return voxels.transpose()[..., ::-1, ::-1, ::-1]


@st.composite
def affines(draw: st.DrawFn) -> np.ndarray:
    """Any axis order and direction, turned, sheared a little, with any spacing and origin."""
    angles = st.floats(-0.7, 0.7)
    turn = euler2mat(draw(angles), draw(angles), draw(angles))
    order = np.eye(3)[draw(st.permutations(range(3)))]
    signs = np.diag(draw(st.lists(st.sampled_from([-1, 1]), min_size=3, max_size=3)))
    spacing = np.diag(draw(st.lists(st.floats(0.1, 8), min_size=3, max_size=3)))
    shear = np.eye(3)
    shear[0, 1] = draw(st.floats(-0.2, 0.2))
    affine = np.eye(4)
    affine[:3, :3] = turn @ order @ signs @ shear @ spacing
    affine[:3, 3] = draw(st.lists(st.floats(-200, 200), min_size=3, max_size=3))
    return affine


@st.composite
def nifti_images(draw: st.DrawFn) -> nib.Nifti1Image:
    """A small file whose voxels are numbered, placed by its sform, its qform or neither."""
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=3, max_size=3)))
    shape += draw(st.sampled_from([(), (1,), (1, 1), (3,)]))
    if draw(st.booleans()) and shape[2:] == (1,):
        shape = shape[:2]
    voxels = np.arange(np.prod(shape)).reshape(shape).astype(draw(st.sampled_from(DTYPES)))
    image_class = draw(st.sampled_from([nib.Nifti1Image, nib.Nifti2Image]))
    affine = draw(affines())
    nifti = image_class(voxels, affine)
    nifti.header.set_sform(affine, code=draw(st.integers(0, 4)))
    nifti.header.set_qform(affine, code=draw(st.integers(0, 4)), strip_shears=True)
    nifti.header.set_xyzt_units(draw(st.sampled_from(["unknown", "mm"])))
    return image_class(voxels, None, nifti.header)


suffixes = st.sampled_from([".nii", ".nii.gz", ".NII.GZ"])


@given(nifti_images(), suffixes)
def test_every_voxel_is_where_nibabel_says_it_is(nifti: nib.Nifti1Image, suffix: str) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"scan{suffix}"
        nifti.to_filename(path)
        image = read_image(path)
        stored = nib.load(path)
        numbers = np.asarray(stored.dataobj)
    geometry = image.geometry
    assert image.name == "scan"
    # (z, y, x) of every voxel of the full three-axis grid, in the array's order.
    grid = image.spatial_shape
    if geometry.flat_axis is not None:
        grid = (*grid[: geometry.flat_axis], 1, *grid[geometry.flat_axis :])
    for channel in image.data:
        indices = np.argwhere(np.ones(grid))
        found = [np.argwhere(numbers == number)[0] for number in channel.ravel()]
        file_indices = np.array([(*index, 0)[:3] for index in found])
        expected = apply_affine(stored.affine, file_indices)
        np.testing.assert_allclose(apply_affine(geometry.affine, indices), expected, atol=1e-9)


@given(nifti_images())
def test_array_axes_run_towards_inferior_posterior_and_left(nifti: nib.Nifti1Image) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "scan.nii"
        nifti.to_filename(path)
        image = read_image(path)
    assert nib.aff2axcodes(image.geometry.affine[:, [2, 1, 0, 3]]) == ("L", "P", "I")
    assert image.data.flags.c_contiguous
    assert image.data.dtype.isnative


@given(nifti_images(), suffixes, suffixes)
def test_what_is_written_overlays_what_was_read(
    nifti: nib.Nifti1Image, suffix_in: str, suffix_out: str
) -> None:
    with TemporaryDirectory() as folder:
        path, again = Path(folder) / f"scan{suffix_in}", Path(folder) / f"labels{suffix_out}"
        nifti.to_filename(path)
        image = read_image(path)
        write_volume(again, image.data[-1].astype(np.uint8), image.geometry, dtype=np.uint8)
        before, after = nib.load(path), nib.load(again)
        numbers, labels = np.asarray(before.dataobj), np.asarray(after.dataobj)
        assert np.array_equal(read_image(again).data[0], image.data[-1])
    assert np.array_equal(after.affine, before.affine)
    for form in ("sform", "qform"):
        assert int(after.header[f"{form}_code"]) == int(before.header[f"{form}_code"])
        written, given_ = (getattr(one.header, f"get_{form}")() for one in (after, before))
        assert np.array_equal(written, given_)
    assert after.header.get_xyzt_units() == before.header.get_xyzt_units()
    assert type(after) is type(before)
    if image.n_channels > 1:
        numbers = numbers[..., -1]
    assert labels.shape == numbers.shape
    assert labels.dtype == np.uint8
    assert np.array_equal(labels, numbers)


@given(affines(), st.booleans())
def test_array_without_a_file_is_written_where_its_affine_says(
    affine: np.ndarray, flat: bool
) -> None:
    labels = np.zeros((4, 5, 6), np.uint8)
    labels[1, 2, 3] = 7
    marked = apply_affine(affine, (1, 2, 3))
    if flat:
        labels = labels[1]
        marked = apply_affine(affine, (0, 2, 3))
    image = Image.from_array(labels, affine=affine)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "labels.nii.gz"
        write_volume(path, labels, image.geometry, dtype=np.uint8)
        nifti = nib.load(path)
        (index,) = np.argwhere(np.asarray(nifti.dataobj) == 7)
    np.testing.assert_allclose(
        apply_affine(nifti.affine, (*index, 0)[:3]), marked, rtol=1e-6, atol=1e-4
    )


@pytest.mark.parametrize("dtype", [*DTYPES, np.int8, np.uint32, np.int64, np.uint64])
def test_integers_keep_their_dtype_and_floats_become_float32(tmp_path: Path, dtype) -> None:
    voxels = np.arange(24).reshape(2, 3, 4).astype(dtype)
    nib.Nifti1Image(voxels, np.eye(4), dtype=dtype).to_filename(tmp_path / "scan.nii")
    data = read_image(tmp_path / "scan.nii").data
    assert data.dtype == (np.float32 if np.dtype(dtype).kind == "f" else dtype)
    assert np.array_equal(data[0], upright(voxels))


def test_big_endian_file_is_read_in_native_order(tmp_path: Path) -> None:
    voxels = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    nifti = nib.Nifti1Image(voxels, np.diag([2, 3, 4, 1]))
    swapped = nib.Nifti1Image(voxels, None, nifti.header.as_byteswapped())
    swapped.to_filename(tmp_path / "scan.nii")
    image = read_image(tmp_path / "scan.nii")
    assert image.data.dtype.isnative
    assert image.spacing == (4, 3, 2)
    assert np.array_equal(image.data[0], upright(voxels))
    write_volume(tmp_path / "map.nii", image.data[0], image.geometry, dtype=np.float32)
    written = nib.load(tmp_path / "map.nii")
    assert np.array_equal(written.affine, nifti.affine)
    assert np.array_equal(written.dataobj, voxels)


def test_scaled_integers_become_float32(tmp_path: Path) -> None:
    voxels = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    path = save(tmp_path / "ct.nii.gz", voxels, scl_slope=0.5, scl_inter=-1024)
    data = read_image(path).data
    assert data.dtype == np.float32
    assert np.array_equal(data[0], upright(voxels) * 0.5 - 1024)


def test_fourth_axis_holds_channels(tmp_path: Path) -> None:
    voxels = np.arange(48, dtype=np.int16).reshape(2, 3, 4, 2)
    image = read_image(save(tmp_path / "scan.nii", voxels))
    assert image.data.shape == (2, 4, 3, 2)
    assert image.channels == ("channel 1", "channel 2")
    assert np.array_equal(image.data, upright(voxels))


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 1), (3, 4, 1, 1), (1, 3, 4), (3, 1, 4)])
def test_file_of_one_slice_is_a_2d_image(tmp_path: Path, shape: tuple[int, ...]) -> None:
    voxels = np.arange(12, dtype=np.uint8).reshape(shape)
    image = read_image(save(tmp_path / "slice.nii", voxels, np.diag([2, 3, 5, 1])))
    assert image.data.shape == (1, 4, 3)
    # The two axes that are left are the longer ones, in the same order.
    assert np.array_equal(image.data[0], voxels.reshape(3, 4).transpose()[::-1, ::-1])
    assert image.voxel_volume_ml == pytest.approx(0.03)
    write_volume(tmp_path / "labels.nii", image.data[0], image.geometry, dtype=np.uint8)
    assert np.array_equal(nib.load(tmp_path / "labels.nii").dataobj, voxels)


@pytest.mark.parametrize(("unit", "factor"), [("meter", 1000), ("mm", 1), ("micron", 0.001)])
def test_spacing_is_in_mm_whatever_the_unit_of_the_file(
    tmp_path: Path, unit: str, factor: float
) -> None:
    nifti = nib.Nifti1Image(np.zeros((3, 4, 5), np.uint8), np.diag([1, 2, 4, 1]))
    nifti.header.set_xyzt_units(unit)
    nifti.to_filename(tmp_path / "scan.nii")
    image = read_image(tmp_path / "scan.nii")
    assert image.spacing == pytest.approx((4 * factor, 2 * factor, factor))
    write_volume(tmp_path / "labels.nii", image.data[0], image.geometry, dtype=np.uint8)
    labels = nib.load(tmp_path / "labels.nii")
    assert np.array_equal(labels.affine, nifti.affine)
    assert labels.header.get_xyzt_units() == (unit, "unknown")


def test_image_on_screen_does_not_change_with_its_file(tmp_path: Path) -> None:
    path = save(tmp_path / "scan.nii", np.full((3, 4, 5), 7, np.int16))
    image = read_image(path)
    with path.open("r+b") as stream:
        stream.seek(352)
        stream.write(bytes(120))
    assert (image.data == 7).all()


def test_labels_are_marked_as_labels_and_maps_are_not(tmp_path: Path) -> None:
    image = read_image(
        save(tmp_path / "scan.nii", np.ones((3, 4, 5), np.int16), cal_max=900, intent_code=1001)
    )
    assert not holds_labels(image.geometry)
    write_volume(
        tmp_path / "labels.nii",
        image.data[0],
        image.geometry,
        dtype=np.uint8,
        description="mean of the brain-tissue model",
    )
    write_volume(tmp_path / "map.nii", image.data[0], image.geometry, dtype=np.float32)
    labels, entropy = (nib.load(tmp_path / name).header for name in ("labels.nii", "map.nii"))
    assert labels.get_intent()[0] == "label"
    assert labels["descrip"] == b"mean of the brain-tissue model"
    assert labels["cal_max"] == 0
    assert entropy.get_intent()[0] == "none"
    assert holds_labels(read_image(tmp_path / "labels.nii").geometry)
    assert not holds_labels(Image.from_array(np.zeros((3, 4))).geometry)


def test_integers_are_labels_and_other_numbers_a_map_unless_told_otherwise(tmp_path: Path) -> None:
    image = Image.from_array(np.zeros((3, 4, 5), np.int16))
    for name, voxels in (("labels", np.ones((3, 4, 5), np.int64)), ("map", np.ones((3, 4, 5)))):
        write_volume(tmp_path / f"{name}.nii", voxels, image.geometry)
    assert nib.load(tmp_path / "labels.nii").get_data_dtype() == np.uint8
    assert holds_labels(read_image(tmp_path / "labels.nii").geometry)
    assert nib.load(tmp_path / "map.nii").get_data_dtype() == np.float32
    assert not holds_labels(read_image(tmp_path / "map.nii").geometry)


def test_stack_of_maps_is_written_as_a_fourth_axis(tmp_path: Path) -> None:
    image = read_image(
        save(tmp_path / "scan.nii", np.zeros((3, 4, 5), np.int16), np.diag([-1, 2, -3, 1]))
    )
    maps = np.random.default_rng(0).random((4, 5, 4, 3), dtype=np.float32)
    write_volume(tmp_path / "maps.nii.gz", maps, image.geometry, dtype=np.float32)
    assert nib.load(tmp_path / "maps.nii.gz").shape == (3, 4, 5, 4)
    assert np.array_equal(read_image(tmp_path / "maps.nii.gz").data, maps)


def test_same_labels_give_the_same_bytes(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 4, (4, 5, 6), dtype=np.uint8)
    geometry = Image.from_array(labels).geometry
    for name in ("one", "two"):
        write_volume(tmp_path / f"{name}.nii.gz", labels, geometry, dtype=np.uint8)
    assert (tmp_path / "one.nii.gz").read_bytes() == (tmp_path / "two.nii.gz").read_bytes()


# Real scans.


def assert_overlays(path: Path, folder: Path) -> Image:
    image = read_image(path)
    labels = (image.data[0] > image.data[0].mean()).astype(np.uint8)
    write_volume(folder / "labels.nii.gz", labels, image.geometry, dtype=np.uint8)
    before, after = nib.load(path), nib.load(folder / "labels.nii.gz")
    assert after.shape == before.shape
    assert np.array_equal(after.affine, before.affine)
    numbers = np.asarray(before.dataobj)
    assert np.array_equal(np.asarray(after.dataobj), numbers > image.data[0].mean())
    return image


def test_ibsr_scan_overlays(data_dir: Path, tmp_path: Path) -> None:
    path = data_dir / "ibsr18" / "1.0mm" / "IBSR_09.nii.gz"
    if not path.exists():
        pytest.skip(f"no {path}")
    image = assert_overlays(path, tmp_path)
    # Stored as (256, 128, 256, 1), axes right, anterior, superior.
    assert image.data.shape == (1, 256, 128, 256)
    assert image.data.dtype == np.int16
    assert image.spacing == (1, 1.5, 1)


@pytest.mark.parametrize(
    "name",
    [
        "hippocampus/images/hippocampus_024.nii.gz",
        "ixi10_2mm_dlmuse/nifti/IXI049-HH-1358-T1_ds.nii.gz",
        "brats2015/brats_2013_pat0006_1/Flair_subtrMeanDivStd.nii.gz",
    ],
)
def test_real_scan_overlays(data_dir: Path, tmp_path: Path, name: str) -> None:
    if not (data_dir / name).exists():
        pytest.skip(f"no {data_dir / name}")
    assert_overlays(data_dir / name, tmp_path)
