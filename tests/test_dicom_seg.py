"""DICOM SEG: over its source slice by slice, valid, and silent about the patient unless asked."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("highdicom", reason="the extra [dicom] is not installed")

import highdicom
import pydicom

from dicom_files import AXIAL, PATIENT, make_enhanced, make_series, oblique, save, save_series
from napari_structseg import Image, read_image
from napari_structseg.errors import InputError
from napari_structseg.exports.dicom.codes import codes_of
from napari_structseg.exports.dicom.segmentation import (
    Maker,
    Place,
    new_uid,
    write_dicom_segmentation,
)
from napari_structseg.exports.dicom.source import read_source
from napari_structseg.exports.segments import Segment, segments_of
from napari_structseg.image import Geometry
from napari_structseg.models import ClassSpec

CLASSES = (
    ClassSpec(name="background", color="#000000"),
    ClassSpec(name="lesion", color="#d62728"),
    ClassSpec(name="ground-glass opacity \\ of a very long name", color="#1f77b4"),
)
MAKER = Maker("tiny", "0123456789ab")


def volume(n: int = 5, rows: int = 12, columns: int = 10) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 3000, (n, rows, columns)).astype(np.uint16)


def label_of(hounsfield: np.ndarray) -> np.ndarray:
    """Labels that every slice's own pixels tell: 0, 1 and 2 by value."""
    return np.digitize(hounsfield, (0, 1200)).astype(np.uint8)


def write(scan: Image, path: Path, voxels: np.ndarray | None = None, **more: object):
    keep = bool(more.pop("keep_patient", False))
    settings = {
        "maker": MAKER,
        "place": Place(new_uid(), 1),
        "what": "the mean",
        "segments": segments_of(CLASSES),
        **more,
    }
    labels = label_of(scan.data[0]) if voxels is None else voxels
    return write_dicom_segmentation(path, labels, read_source(scan, keep_patient=keep), **settings)


def sources_of(folder: Path) -> dict[str, pydicom.Dataset]:
    read = [pydicom.dcmread(path) for path in sorted(folder.glob("*.dcm"))]
    return {str(one.SOPInstanceUID): one for one in read}


@pytest.mark.parametrize("orientation", [AXIAL, oblique()], ids=["axial", "oblique"])
def test_every_frame_lies_over_the_slice_it_refers_to(orientation, tmp_path: Path) -> None:
    # Names and numbers of the files say nothing about their order.
    folder = save_series(tmp_path / "scan", make_series(volume(), orientation=orientation))
    write(read_image(folder), tmp_path / "seg.dcm")
    sources = sources_of(folder)
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    assert seg.SegmentationType == "BINARY"
    seen = set()
    pixels = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    for frame, group in zip(pixels, seg.PerFrameFunctionalGroupsSequence, strict=True):
        number = int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        (image,) = group.DerivationImageSequence[0].SourceImageSequence
        source = sources[str(image.ReferencedSOPInstanceUID)]
        expected = label_of(source.pixel_array.astype(np.int64) - 1024) == number
        assert np.array_equal(frame.astype(bool), expected)
        position = group.PlanePositionSequence[0].ImagePositionPatient
        assert position == pytest.approx(source.ImagePositionPatient, abs=1e-4)
        seen.add((number, str(image.ReferencedSOPInstanceUID)))
    assert len(seen) == 2 * 5
    shared = seg.SharedFunctionalGroupsSequence[0]
    cosines = shared.PlaneOrientationSequence[0].ImageOrientationPatient
    assert cosines == pytest.approx(orientation, abs=1e-6)
    assert [float(one) for one in shared.PixelMeasuresSequence[0].PixelSpacing] == [0.8, 0.6]


def test_another_library_reads_the_labels_back(tmp_path: Path) -> None:
    folder = save_series(tmp_path / "scan", make_series(volume(), orientation=oblique()))
    scan = read_image(folder)
    write(scan, tmp_path / "seg.dcm")
    seg = highdicom.seg.segread(tmp_path / "seg.dcm")
    uids = [frame.instance_uid for frame in scan.source.frames]
    read = seg.get_pixels_by_source_instance(uids, combine_segments=True)
    sources = sources_of(folder)
    expected = [label_of(sources[uid].pixel_array.astype(np.int64) - 1024) for uid in uids]
    assert np.array_equal(read, expected)
    assert list(seg.segment_numbers) == [1, 2]
    first, second = (seg.get_segment_description(number) for number in (1, 2))
    assert (first.segment_label, first.segmented_property_type.value) == ("lesion", "52988006")
    assert second.segmented_property_type.scheme_designator == "99STRUCTSEG"
    assert "\\" not in second.segment_label
    assert first.algorithm_identification[0].AlgorithmName == "tiny"
    assert seg.FrameOfReferenceUID == sources[uids[0]].FrameOfReferenceUID
    assert seg.StudyInstanceUID == sources[uids[0]].StudyInstanceUID
    assert seg.SeriesInstanceUID != sources[uids[0]].SeriesInstanceUID


def test_probabilities_are_fractional(tmp_path: Path) -> None:
    folder = save_series(tmp_path / "scan", make_series(volume()))
    scan = read_image(folder)
    raw = np.random.default_rng(1).random((3, *scan.spatial_shape)).astype(np.float32)
    probabilities = raw / raw.sum(axis=0)
    write(scan, tmp_path / "seg.dcm", probabilities, what="probabilities")
    seg = highdicom.seg.segread(tmp_path / "seg.dcm")
    assert (seg.SegmentationType, seg.SegmentationFractionalType) == ("FRACTIONAL", "PROBABILITY")
    uids = [frame.instance_uid for frame in scan.source.frames]
    read = seg.get_pixels_by_source_instance(uids, rescale_fractional=True)
    # The array of the image runs the other way along its first axis.
    expected = probabilities[1:, ::-1].transpose(1, 2, 3, 0)
    np.testing.assert_allclose(read, expected, atol=0.5 / 255 + 1e-6)


def test_labellings_that_overlap_are_segments_of_one_file(tmp_path: Path) -> None:
    scan = read_image(save_series(tmp_path / "scan", make_series(volume())))
    layers = np.zeros((2, *scan.spatial_shape), np.uint8)
    layers[0, 1:3], layers[1, 2:4] = 1, 1
    segments = [
        Segment("Small: lesion", "#d62728", 1, 0, "lesion"),
        Segment("Large: lesion", "#d62728", 1, 1, "lesion"),
    ]
    write(scan, tmp_path / "seg.dcm", layers, segments=segments)
    seg = highdicom.seg.segread(tmp_path / "seg.dcm")
    uids = [frame.instance_uid for frame in scan.source.frames]
    read = seg.get_pixels_by_source_instance(uids)
    assert np.array_equal(read[..., 0], layers[0, ::-1])
    assert np.array_equal(read[..., 1], layers[1, ::-1])


def test_frames_of_one_file_are_referred_to_by_number(tmp_path: Path) -> None:
    order = [3, 0, 4, 1, 2]
    folder = tmp_path / "scan"
    folder.mkdir()
    save(make_enhanced(make_series(volume()), order), folder / "enhanced.dcm")
    scan = read_image(folder)
    write(scan, tmp_path / "seg.dcm")
    stored = pydicom.dcmread(folder / "enhanced.dcm").pixel_array.astype(np.int64) - 1024
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    pixels = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    assert len(pixels) == 10
    for frame, group in zip(pixels, seg.PerFrameFunctionalGroupsSequence, strict=True):
        number = int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        (image,) = group.DerivationImageSequence[0].SourceImageSequence
        expected = label_of(stored[int(image.ReferencedFrameNumber) - 1]) == number
        assert np.array_equal(frame.astype(bool), expected)


def everything_in(dataset: pydicom.Dataset) -> str:
    return str(dataset)


def test_the_patient_is_named_only_where_asked(tmp_path: Path) -> None:
    private = {
        "PatientBirthDate": "19700203",
        "InstitutionName": "St. Elsewhere",
        "OperatorsName": "Smith^Operator",
        "ReferringPhysicianName": "Referring^Doctor",
        "AccessionNumber": "ACC77",
        "StudyID": "STUDY88",
        "StudyDate": "20240506",
        "StationName": "CTAWP9",
        "PatientComments": "knows nobody",
        "OtherPatientIDs": "ID99",
    }
    folder = save_series(tmp_path / "scan", make_series(volume(), **private))
    scan = read_image(folder)
    write(scan, tmp_path / "seg.dcm")
    silent = (tmp_path / "seg.dcm").read_bytes()
    for word in (PATIENT, "Doe", "4711", *private.values()):
        assert word.encode() not in silent, word
    read = pydicom.dcmread(tmp_path / "seg.dcm")
    assert (str(read.PatientName), read.PatientID, read.PatientBirthDate) == ("", "", "")

    write(scan, tmp_path / "kept.dcm", keep_patient=True)
    kept = pydicom.dcmread(tmp_path / "kept.dcm")
    assert (str(kept.PatientName), kept.PatientID) == (PATIENT, "4711")
    assert (kept.PatientBirthDate, kept.AccessionNumber) == ("19700203", "ACC77")
    # What says nothing about whose images these are is not copied even then.
    assert "St. Elsewhere" not in str(kept)


@pytest.mark.parametrize("what", ["labels", "probabilities", "nothing", "enhanced"])
def test_a_validator_finds_no_fault(what: str, tmp_path: Path) -> None:
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy (Debian's dicom3tools) is not installed")
    slices = make_series(volume(), orientation=oblique())
    folder = tmp_path / "scan"
    if what == "enhanced":
        folder.mkdir()
        save(make_enhanced(slices, [3, 0, 4, 1, 2]), folder / "enhanced.dcm")
    else:
        save_series(folder, slices)
    scan = read_image(folder)
    voxels = None
    if what == "probabilities":
        voxels = np.full((3, *scan.spatial_shape), 1 / 3, np.float32)
    elif what == "nothing":
        voxels = np.zeros(scan.spatial_shape, np.uint8)
    write(scan, tmp_path / "seg.dcm", voxels)
    done = subprocess.run(
        ["dciodvfy", "-new", str(tmp_path / "seg.dcm")], capture_output=True, text=True, check=False
    )
    said = (done.stdout + done.stderr).splitlines()
    assert not [line for line in said if line.startswith("Error")], "\n".join(said)


def test_another_kind_of_image_says_the_way_out(tmp_path: Path) -> None:
    plain = Image.from_array(np.zeros((3, 4, 5), np.uint8), spacing=(1, 1, 1), name="plain")
    with pytest.raises(InputError, match="Save as NIfTI or NRRD"):
        read_source(plain)


def test_an_image_that_was_moved_is_refused(tmp_path: Path) -> None:
    scan = read_image(save_series(tmp_path / "scan", make_series(volume())))
    step = np.eye(4)
    step[0, 3] = 1
    moved: Geometry = scan.geometry.moved(step)
    elsewhere = Image(scan.data, moved, scan.channels, scan.name, scan.source)
    with pytest.raises(InputError, match="was moved"):
        read_source(elsewhere)


def test_files_that_have_gone_or_changed_are_refused(tmp_path: Path) -> None:
    folder = save_series(tmp_path / "scan", make_series(volume()))
    scan = read_image(folder)
    first = sorted(folder.glob("*.dcm"))[0]
    other = make_series(volume())[0]
    save(other, first)
    with pytest.raises(InputError, match="not those that were opened"):
        read_source(scan)
    first.unlink()
    with pytest.raises(InputError, match="Cannot read"):
        read_source(scan)


def test_codes() -> None:
    assert codes_of("Grey-matter")[1].meaning == "Gray Matter"
    assert codes_of("Tumour") == codes_of("tumor")
    one, other = codes_of("class 17")[1], codes_of("class 18")[1]
    assert one.scheme == other.scheme == "99STRUCTSEG"
    assert one.value != other.value
    assert len(one.value) == 16
    assert codes_of("x" * 100)[1].meaning == "x" * 64
