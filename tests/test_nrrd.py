"""Segmentations for 3D Slicer, read back by SimpleITK and held to Slicer's own fields."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_structseg import Image, read_image
from napari_structseg.errors import InputError
from napari_structseg.exports.nrrd import write_map, write_segmentation
from napari_structseg.exports.samples import SampleSet
from napari_structseg.exports.segments import Segment, segments_of, segments_of_modes
from napari_structseg.io.nifti import write_volume
from napari_structseg.models import ClassSpec
from nifti_files import save
from predict_helpers import OBLIQUE, SHAPE, blob

sitk = pytest.importorskip("SimpleITK", reason="the extra [formats] is not installed")

CLASSES = (
    ClassSpec(name="background", color="#000000"),
    ClassSpec(name="grey matter", color="#ff8000"),
    ClassSpec(name="Ödem\nwith \\ two lines", color="#0000ff"),
)


@pytest.fixture
def scan(tmp_path: Path) -> Image:
    return read_image(save(tmp_path / "scan.nii.gz", blob(*SHAPE), OBLIQUE))


def labels_on(scan: Image, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 3, scan.spatial_shape).astype(np.uint8)


def test_it_lies_where_the_nifti_file_lies(scan: Image, tmp_path: Path) -> None:
    labels = labels_on(scan)
    write_segmentation(tmp_path / "a.seg.nrrd", labels, scan.geometry, segments_of(CLASSES))
    write_volume(tmp_path / "a.nii.gz", labels, scan.geometry)
    ours = sitk.ReadImage(str(tmp_path / "a.seg.nrrd"))
    other = sitk.ReadImage(str(tmp_path / "a.nii.gz"))
    assert np.array_equal(sitk.GetArrayFromImage(ours), sitk.GetArrayFromImage(other))
    np.testing.assert_allclose(ours.GetOrigin(), other.GetOrigin(), atol=1e-4)
    np.testing.assert_allclose(ours.GetSpacing(), other.GetSpacing(), atol=1e-5)
    np.testing.assert_allclose(ours.GetDirection(), other.GetDirection(), atol=1e-5)


def test_names_and_colours_are_slicers_fields(scan: Image, tmp_path: Path) -> None:
    labels = np.zeros(scan.spatial_shape, np.uint8)
    labels[2:4, 5, 6] = 1
    write_segmentation(tmp_path / "a.seg.nrrd", labels, scan.geometry, segments_of(CLASSES))
    read = sitk.ReadImage(str(tmp_path / "a.seg.nrrd"))
    fields = {key: read.GetMetaData(key) for key in read.GetMetaDataKeys()}
    assert fields["Segment0_Name"] == "grey matter"
    assert fields["Segment0_Color"] == "1 0.501961 0"
    assert (fields["Segment0_LabelValue"], fields["Segment1_LabelValue"]) == ("1", "2")
    assert fields["Segment0_Layer"] == "0"
    assert fields["Segmentation_ContainedRepresentationNames"] == "Binary labelmap|"
    x, y, z = (
        np.flatnonzero((sitk.GetArrayFromImage(read) == 1).any(axis=axes))
        for axes in ((0, 1), (0, 2), (1, 2))
    )
    extent = " ".join(f"{places[0]} {places[-1]}" for places in (x, y, z))
    assert fields["Segment0_Extent"] == extent
    assert fields["Segment1_Extent"] == "0 -1 0 -1 0 -1"
    # The name stays in its line, and the header ends where it should.
    header = (tmp_path / "a.seg.nrrd").read_bytes().split(b"\n\n")[0].decode("utf-8")
    assert "Segment1_Name:=Ödem\\nwith \\\\ two lines" in header.splitlines()
    assert "Segment2_Name" not in header


def test_hypotheses_are_layers_of_one_file(scan: Image, tmp_path: Path) -> None:
    small, large = (np.zeros(scan.spatial_shape, np.uint8) for _ in range(2))
    small[4:6, 4:6, 4:6] = 1
    large[2:9, 2:9, 2:9] = 1
    gathered = SampleSet(scan, 3, small)
    for one in (small, large, small, large, small):
        gathered.add(one)
    found = gathered.hypotheses()
    assert found is not None
    stack = np.stack([gathered.whole(mode.representative) for mode in found.modes])
    write_segmentation(
        tmp_path / "h.seg.nrrd", stack, scan.geometry, segments_of_modes(CLASSES, found)
    )
    read = sitk.ReadImage(str(tmp_path / "h.seg.nrrd"))
    assert read.GetNumberOfComponentsPerPixel() == 2
    assert read.GetMetaData("Segment0_Name") == "Small (3 of 5 samples): grey matter"
    assert read.GetMetaData("Segment2_Name") == "Large (2 of 5 samples): grey matter"
    assert (read.GetMetaData("Segment0_Layer"), read.GetMetaData("Segment2_Layer")) == ("0", "1")
    write_volume(tmp_path / "s.nii.gz", small, scan.geometry)
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "s.nii.gz")))
    assert np.array_equal(sitk.GetArrayFromImage(read)[..., 0], expected)


def test_maps(scan: Image, tmp_path: Path) -> None:
    values = np.random.default_rng(1).random(scan.spatial_shape)
    write_map(tmp_path / "m.nrrd", values, scan.geometry)
    write_volume(tmp_path / "m.nii.gz", values, scan.geometry)
    ours, other = (sitk.ReadImage(str(tmp_path / name)) for name in ("m.nrrd", "m.nii.gz"))
    assert np.array_equal(sitk.GetArrayFromImage(ours), sitk.GetArrayFromImage(other))
    write_map(tmp_path / "p.nrrd", np.stack([values, 1 - values]), scan.geometry)
    several = sitk.ReadImage(str(tmp_path / "p.nrrd"))
    assert several.GetNumberOfComponentsPerPixel() == 2
    second = sitk.GetArrayFromImage(several)[..., 1]
    np.testing.assert_allclose(second, 1 - sitk.GetArrayFromImage(other), atol=1e-6)


def test_a_picture_is_one_slice_and_one_labelling_one_file(tmp_path: Path) -> None:
    flat = Image.from_array(np.ones((6, 9), np.uint8), spacing=(2, 3))
    labels = np.zeros((6, 9), np.uint8)
    labels[1, 7] = 2
    for name in ("a", "b"):
        write_segmentation(
            tmp_path / f"{name}.seg.nrrd", labels, flat.geometry, segments_of(CLASSES)
        )
    read = sitk.ReadImage(str(tmp_path / "a.seg.nrrd"))
    assert read.GetSize() == (9, 6, 1)
    assert read.GetSpacing()[:2] == (3.0, 2.0)
    assert sitk.GetArrayFromImage(read)[0, 1, 7] == 2
    assert (tmp_path / "a.seg.nrrd").read_bytes() == (tmp_path / "b.seg.nrrd").read_bytes()


def test_other_names_are_refused(scan: Image, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.seg\.nrrd"):
        write_segmentation(
            tmp_path / "a.nrrd", labels_on(scan), scan.geometry, [Segment("a", "#ff0000", 1)]
        )
    with pytest.raises(InputError, match=r"\.nrrd"):
        write_map(tmp_path / "a.nii", np.zeros(scan.spatial_shape), scan.geometry)


def test_the_header_is_that_of_files_other_programs_have_written(
    scan: Image, tmp_path: Path, data_dir: Path
) -> None:
    theirs = data_dir / "dicom_io" / "dcmqi" / "liver_seg.nrrd"
    write_segmentation(tmp_path / "a.seg.nrrd", labels_on(scan), scan.geometry, [])
    keys = []
    for path in (theirs, tmp_path / "a.seg.nrrd"):
        header = path.read_bytes().split(b"\n\n")[0].decode("utf-8").splitlines()
        keys.append([line.split(":")[0] for line in header if ":=" not in line and line[0] != "#"])
    assert keys[0] == keys[1]
