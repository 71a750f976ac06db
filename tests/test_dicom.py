"""Series of DICOM slices become images: in the right order, units and place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import (
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from dicom_files import (
    PATIENT,
    make_enhanced,
    make_series,
    make_slice,
    oblique,
    save,
    save_series,
)
from napari_structseg import read_image
from napari_structseg.image import Image
from napari_structseg.io.channels import read_channels
from napari_structseg.io.dicom.read import read_dicom, to_frames
from napari_structseg.io.references import refer_to_parts


def volume(n: int = 5, rows: int = 6, columns: int = 7) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 3000, (n, rows, columns)).astype(np.uint16)


def world_of(image: Image, stored: tuple[int, int, int]) -> np.ndarray:
    """Where a stored voxel (column, row, slice) lies, towards left, posterior, superior."""
    return np.diag([-1, -1, 1]) @ (image.geometry.file_affine @ (*stored, 1))[:3]


def test_slices_are_sorted_by_place_and_rescaled(tmp_path: Path) -> None:
    voxels = volume()
    image = read_image(save_series(tmp_path, make_series(voxels)))
    # The viewer's axes run to inferior and posterior: DICOM's rows do already.
    assert np.array_equal(image.data[0], voxels[::-1].astype(np.int64) - 1024)
    assert image.data.dtype == np.int16
    assert image.spacing == pytest.approx((2, 0.8, 0.6))
    assert np.array_equal(to_frames(image.data[0], image), voxels.astype(np.int64) - 1024)


def test_every_voxel_of_an_oblique_series_lies_where_dicom_says(tmp_path: Path) -> None:
    slices = make_series(volume(), orientation=oblique())
    image = read_image(save_series(tmp_path, slices))
    for k, one in enumerate(slices):
        rows, columns = np.reshape(one.ImageOrientationPatient, (2, 3)).astype(float)
        for column, row in ((0, 0), (6, 0), (0, 5), (6, 5)):
            there = np.array(one.ImagePositionPatient, float)
            there = there + 0.6 * column * rows + 0.8 * row * columns
            assert world_of(image, (column, row, k)) == pytest.approx(there, abs=1e-6)


def test_the_grid_is_that_of_simpleitk(tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    folder = save_series(tmp_path, make_series(volume(), orientation=oblique(-40)))
    assert_as_simpleitk(read_image(folder), folder, sitk)


@pytest.mark.parametrize(
    "name", ["mr_series/PGBM-002_HippoCrop", "mr_series/PGBM-003_FLAIR", "dcmqi/ct-3slice"]
)
def test_real_series_are_read_as_simpleitk_reads_them(name: str, data_dir: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    folder = data_dir / "dicom_io" / name
    if not folder.is_dir():
        pytest.skip(f"needs {folder}")
    assert_as_simpleitk(read_image(folder), folder, sitk)


def assert_as_simpleitk(image: Image, folder: Path, sitk) -> None:
    found = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    assert np.array_equal(to_frames(image.data[0], image), sitk.GetArrayFromImage(found))
    last = [size - 1 for size in found.GetSize()]
    for corner in ((0, 0, 0), (last[0], 0, 0), (0, last[1], 0), (0, 0, last[2]), tuple(last)):
        there = found.TransformIndexToPhysicalPoint(corner)
        assert world_of(image, corner) == pytest.approx(there, abs=1e-4)


def test_source_names_the_slices_in_their_order(tmp_path: Path) -> None:
    slices = make_series(volume())
    image = read_image(save_series(tmp_path, slices))
    assert image.source is not None
    assert [one.instance_uid for one in image.source.frames] == [
        str(one.SOPInstanceUID) for one in slices
    ]
    assert image.source.series_uid == slices[0].SeriesInstanceUID
    assert len(image.source.files) == 5


def test_names_are_of_the_series_and_not_of_the_patient(tmp_path: Path) -> None:
    image = read_image(save_series(tmp_path / "a", make_series(volume())))
    assert image.name == "Thorax 2.0"
    image = read_image(save_series(tmp_path / "b", make_series(volume(), SeriesDescription=None)))
    assert image.name == "CT series 3"
    assert PATIENT not in repr(image)


def test_files_and_folders_give_the_same_image_and_reference(tmp_path: Path) -> None:
    folder = save_series(tmp_path / "a", make_series(volume()))
    whole = read_channels([folder])
    single = read_channels(sorted(folder.iterdir(), reverse=True))
    assert np.array_equal(whole.data, single.data)
    assert whole.source is not None
    assert single.source is not None
    (reference,) = refer_to_parts(whole.source)
    assert refer_to_parts(single.source) == (reference,)
    # Names do not matter, contents do.
    for path in folder.iterdir():
        path.rename(path.with_name(f"x{path.name}"))
    renamed = read_channels([folder]).source
    assert renamed is not None
    assert refer_to_parts(renamed) == (reference,)


def test_two_folders_are_two_channels(tmp_path: Path) -> None:
    first = save_series(tmp_path / "a", make_series(volume()))
    second = save_series(tmp_path / "b", make_series(volume()[::-1]))
    image = read_channels([first, second])
    assert image.n_channels == 2
    assert image.source is not None
    assert [len(part) for part in image.source.parts] == [5, 5]


def test_each_slice_has_its_own_slope(tmp_path: Path) -> None:
    slices = make_series(volume(), Modality="PT")
    for k, one in enumerate(slices):
        one.RescaleSlope, one.RescaleIntercept = 0.5 + k, 0
    image = read_image(save_series(tmp_path, slices))
    expected = volume() * (0.5 + np.arange(5))[:, None, None]
    assert image.data.dtype == np.float32
    assert np.array_equal(to_frames(image.data[0], image), expected.astype(np.float32))


def test_enhanced_multi_frame_is_the_series_it_holds(tmp_path: Path) -> None:
    whole = read_image(save_series(tmp_path / "a", make_series(volume(), orientation=oblique())))
    slices = make_series(volume(), orientation=oblique())
    path = save(make_enhanced(slices, [3, 0, 4, 1, 2]), tmp_path / "enhanced.dcm")
    image = read_image(path)
    assert np.array_equal(image.data, whole.data)
    assert np.allclose(image.geometry.affine, whole.geometry.affine)
    assert image.source is not None
    assert [one.number for one in image.source.frames] == [2, 4, 5, 1, 3]


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
def test_compressed_series_hold_the_same_voxels(syntax: str, tmp_path: Path) -> None:
    voxels = volume(3, 33, 40)
    slices = make_series(voxels)
    for one in slices:
        one.compress(syntax)
    image = read_image(save_series(tmp_path, slices))
    assert np.array_equal(to_frames(image.data[0], image), voxels.astype(int) - 1024)


def test_one_slice_is_a_picture_in_its_place(tmp_path: Path) -> None:
    (only,) = make_series(volume(1), orientation=oblique())
    image = read_image(save(only, tmp_path / "one"))
    assert image.spatial_shape == (6, 7)
    assert image.spacing == pytest.approx((0.8, 0.6))
    assert image.voxel_volume_ml == pytest.approx(0.8 * 0.6 * 2 / 1000)
    assert world_of(image, (0, 0, 0)) == pytest.approx((-30, 40, -100))


def radiograph(**attributes: object):
    return make_slice(
        volume(1)[0],
        SOPClassUID=SecondaryCaptureImageStorage,
        Modality="DX",
        ImagePositionPatient=None,
        ImageOrientationPatient=None,
        RescaleSlope=None,
        RescaleIntercept=None,
        **attributes,
    )


def test_radiograph_without_a_place_is_upright(tmp_path: Path) -> None:
    image = read_image(save(radiograph(), tmp_path / "dx.dcm"))
    assert np.array_equal(image.data, volume(1))
    assert image.spacing == pytest.approx((0.8, 0.6))
    unknown = read_image(save(radiograph(PixelSpacing=None), tmp_path / "sc.dcm"))
    assert not unknown.has_spacing


def test_white_is_many_where_a_radiograph_says_the_opposite(tmp_path: Path) -> None:
    dataset = radiograph(PhotometricInterpretation="MONOCHROME1")
    image = read_image(save(dataset, tmp_path / "dx.dcm"))
    assert np.array_equal(image.data, 65535 - volume(1))
    # Hounsfield units are what they are, however they are drawn.
    ct = make_slice(volume(1)[0], PhotometricInterpretation="MONOCHROME1")
    assert np.array_equal(
        read_image(save(ct, tmp_path / "ct.dcm")).data, volume(1).astype(int) - 1024
    )


def test_tilted_gantry_keeps_its_shear_and_says_so(tmp_path: Path) -> None:
    slices = make_series(volume())
    for k, one in enumerate(slices):
        one.ImagePositionPatient = [-30, 40 + 0.7 * k, -100 + 2 * k]
    image = read_image(save_series(tmp_path, slices))
    assert world_of(image, (0, 0, 4)) == pytest.approx((-30, 42.8, -92))
    assert image.source is not None
    assert "19.3 degrees" in image.source.notices[0]


def test_rounded_positions_are_one_grid(tmp_path: Path) -> None:
    slices = make_series(volume(), step=0.66)
    for one in slices:
        one.ImagePositionPatient = [round(float(x), 1) for x in one.ImagePositionPatient]
    image = read_image(save_series(tmp_path, slices))
    assert image.spacing[0] == pytest.approx(0.65, abs=0.02)


def test_copies_and_localizers_are_left_out_and_said(tmp_path: Path) -> None:
    folder = save_series(tmp_path, make_series(volume()))
    (folder / "copy.dcm").write_bytes((folder / "I0000.dcm").read_bytes())
    scout = make_slice(
        np.zeros((9, 9), np.uint16),
        orientation=(1, 0, 0, 0, 0, -1),
        ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
    )
    save(scout, folder / "scout.dcm")
    (folder / "notes.txt").write_text("not an image")
    image = read_image(folder)
    assert image.spatial_shape == (5, 6, 7)
    assert image.source is not None
    assert "copies" in image.source.notices[0]
    assert "localizer" in image.source.notices[1]


def test_a_series_is_chosen_by_uid_or_number(tmp_path: Path) -> None:
    save_series(tmp_path / "a", make_series(volume()))
    other = make_series(volume(3), SeriesInstanceUID="1.2.3.4", SeriesNumber=8)
    save_series(tmp_path / "b", other)
    assert read_dicom(tmp_path, series="1.2.3.4").spatial_shape[0] == 3
    assert read_dicom(tmp_path, series="3").spatial_shape[0] == 5


def test_header_without_preamble_is_read(tmp_path: Path) -> None:
    dataset = make_slice(volume(1)[0])
    del dataset.file_meta
    path = tmp_path / "old"
    dataset.save_as(path, implicit_vr=True, little_endian=True, enforce_file_format=False)
    assert np.array_equal(read_image(path).data, volume(1).astype(int) - 1024)
