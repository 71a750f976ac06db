from __future__ import annotations

import gzip
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nibabel.affines import apply_affine
from nibabel.eulerangles import euler2mat

from napari_structseg.errors import InputError, MemoryLimitError
from napari_structseg.image import Image
from napari_structseg.io.atomic import atomic_path
from napari_structseg.io.nifti import holds_labels, read_image, write_volume

DTYPES = (np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64)


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
def test_array_axes_run_towards_superior_anterior_and_right(nifti: nib.Nifti1Image) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "scan.nii"
        nifti.to_filename(path)
        image = read_image(path)
    assert nib.aff2axcodes(image.geometry.affine[:, [2, 1, 0, 3]]) == ("R", "A", "S")
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


def save(path: Path, voxels: np.ndarray, affine: np.ndarray | None = None, **fields) -> Path:
    """Write a NIfTI file with header fields as given, however wrong they are."""
    nifti = nib.Nifti1Image(voxels, np.eye(4) if affine is None else affine)
    nifti.to_filename(path)
    if fields:
        header = nifti.header
        header["vox_offset"] = 352
        for name, value in fields.items():
            header[name] = value
        content = path.read_bytes()
        if path.name.endswith(".gz"):
            path.write_bytes(gzip.compress(header.binaryblock + gzip.decompress(content)[348:]))
        else:
            path.write_bytes(header.binaryblock + content[348:])
    return path


@pytest.mark.parametrize("dtype", [*DTYPES, np.int8, np.uint32, np.int64, np.uint64])
def test_integers_keep_their_dtype_and_floats_become_float32(tmp_path: Path, dtype) -> None:
    voxels = np.arange(24).reshape(2, 3, 4).astype(dtype)
    nib.Nifti1Image(voxels, np.eye(4), dtype=dtype).to_filename(tmp_path / "scan.nii")
    data = read_image(tmp_path / "scan.nii").data
    assert data.dtype == (np.float32 if np.dtype(dtype).kind == "f" else dtype)
    assert np.array_equal(data[0], voxels.transpose())


def test_big_endian_file_is_read_in_native_order(tmp_path: Path) -> None:
    voxels = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    nifti = nib.Nifti1Image(voxels, np.diag([2, 3, 4, 1]))
    swapped = nib.Nifti1Image(voxels, None, nifti.header.as_byteswapped())
    swapped.to_filename(tmp_path / "scan.nii")
    image = read_image(tmp_path / "scan.nii")
    assert image.data.dtype.isnative
    assert image.spacing == (4, 3, 2)
    assert np.array_equal(image.data[0], voxels.transpose())
    write_volume(tmp_path / "map.nii", image.data[0], image.geometry, dtype=np.float32)
    written = nib.load(tmp_path / "map.nii")
    assert np.array_equal(written.affine, nifti.affine)
    assert np.array_equal(written.dataobj, voxels)


def test_scaled_integers_become_float32(tmp_path: Path) -> None:
    voxels = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    path = save(tmp_path / "ct.nii.gz", voxels, scl_slope=0.5, scl_inter=-1024)
    data = read_image(path).data
    assert data.dtype == np.float32
    assert np.array_equal(data[0], voxels.transpose() * 0.5 - 1024)


def test_fourth_axis_holds_channels(tmp_path: Path) -> None:
    voxels = np.arange(48, dtype=np.int16).reshape(2, 3, 4, 2)
    image = read_image(save(tmp_path / "scan.nii", voxels))
    assert image.data.shape == (2, 4, 3, 2)
    assert image.channels == ("channel 1", "channel 2")
    assert np.array_equal(image.data[1], voxels[..., 1].transpose())


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 1), (3, 4, 1, 1), (1, 3, 4), (3, 1, 4)])
def test_file_of_one_slice_is_a_2d_image(tmp_path: Path, shape: tuple[int, ...]) -> None:
    voxels = np.arange(12, dtype=np.uint8).reshape(shape)
    image = read_image(save(tmp_path / "slice.nii", voxels, np.diag([2, 3, 5, 1])))
    assert image.data.shape == (1, 4, 3)
    assert np.array_equal(image.data[0], voxels.reshape(3, 4).transpose())
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
    refused(path, f"voxels begin at byte {offset}, which is inside the header", "Convert it anew")


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


def fail_half_way(path: Path) -> None:
    with atomic_path(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.name.endswith(".nii.gz")
        temporary.write_text("half of the new")
        raise RuntimeError("half way")


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "labels.nii.gz"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="half way"):
        fail_half_way(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_successful_write_replaces_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match=r"there is no folder .*missing. Create it"),
        atomic_path(tmp_path / "missing" / "report.json"),
    ):
        pytest.fail("the block must not run")


def test_refusal_by_the_system_is_a_readable_error(tmp_path: Path) -> None:
    (tmp_path / "report.json").mkdir()
    with (
        pytest.raises(InputError, match=r"Cannot write .*report.json: .*choose another folder"),
        atomic_path(tmp_path / "report.json") as temporary,
    ):
        temporary.write_text("{}")
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


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
