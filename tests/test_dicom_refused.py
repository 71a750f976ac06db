"""What is no image on a regular grid is refused, and the message says where and why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
    RTStructureSetStorage,
    SegmentationStorage,
)

from dicom_files import make_enhanced, make_series, make_slice, oblique, save, save_series
from napari_structseg import read_image
from napari_structseg.errors import InputError, MemoryLimitError
from napari_structseg.io.dicom.read import read_dicom


def volume(n: int = 6) -> np.ndarray:
    return np.arange(n * 20, dtype=np.uint16).reshape(n, 4, 5)


def test_missing_slices_are_said_with_their_place(tmp_path: Path) -> None:
    slices = make_series(volume(9))
    del slices[3:5]
    with pytest.raises(InputError, match=r"-96\.00 to -90\.00 \(2 missing\)"):
        read_image(save_series(tmp_path, slices))


def test_uneven_slices_are_said_with_their_place(tmp_path: Path) -> None:
    slices = make_series(volume())
    slices[5].ImagePositionPatient = [-30, 40, -90.7]
    with pytest.raises(InputError, match=r"usually 2\.00 mm.*-92\.00 to -90\.70[,.]"):
        read_image(save_series(tmp_path, slices))


def test_a_slice_beside_the_others_is_refused(tmp_path: Path) -> None:
    slices = make_series(volume())
    slices[2].ImagePositionPatient = [-20, 40, -96]
    with pytest.raises(InputError, match=r"-96\.00 mm along the normal lies 10\.00 mm beside"):
        read_image(save_series(tmp_path, slices))


def test_time_points_at_one_place_are_named(tmp_path: Path) -> None:
    slices = make_series(volume(), TemporalPositionIdentifier=1)
    slices += make_series(volume(), TemporalPositionIdentifier=2)
    with pytest.raises(InputError, match=r"at 6 places.*-100\.00.*TemporalPositionIdentifier"):
        read_image(save_series(tmp_path, slices))


def test_two_orientations_are_listed(tmp_path: Path) -> None:
    slices = make_series(volume()) + make_series(volume(2), orientation=oblique())
    with pytest.raises(InputError, match=r"2 orientations.*6 with 1, 0, 0.*2 with"):
        read_image(save_series(tmp_path, slices))


def test_two_sizes_are_listed(tmp_path: Path) -> None:
    slices = [*make_series(volume()), make_slice(np.zeros((9, 9), np.uint16))]
    with pytest.raises(InputError, match=r"6 of 4 x 5, 1 of 9 x 9"):
        read_image(save_series(tmp_path, slices))


def test_several_series_are_listed_with_the_way_to_choose(tmp_path: Path) -> None:
    save_series(tmp_path / "a", make_series(volume()))
    other = make_series(volume(2), SeriesInstanceUID="1.2.3.4", SeriesDescription="Bone")
    save_series(tmp_path / "b", other)
    with pytest.raises(InputError) as raised:
        read_image(tmp_path)
    message = str(raised.value)
    assert "--series" in message
    assert "CT 'Bone' (number 3, 2 slices): 1.2.3.4" in message
    # Both have the number 3.
    with pytest.raises(InputError, match="several series '3'"):
        read_dicom(tmp_path, series="3")
    with pytest.raises(InputError, match="no series of images '7'"):
        read_dicom(tmp_path, series="7")


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"SOPClassUID": SegmentationStorage}, "is a segmentation"),
        ({"SOPClassUID": RTStructureSetStorage}, "is a set of contours"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, r"a colour picture \(RGB\)"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "a colour picture"),
        ({"Rows": None, "Columns": None, "PixelData": None}, "a document without pixels"),
        ({"Modality": "SM"}, "microscopy"),
        ({"PixelData": None}, "no Pixel Data"),
        ({"Rows": 60000, "Columns": 60000}, "cut short"),
        ({"BitsAllocated": 12}, "8, 16 or 32 bits"),
        ({"RescaleSlope": 0}, "Rescale Slope 0"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "perpendicular"),
        ({"ImageOrientationPatient": [0, 0, 0, 0, 0, 0]}, "perpendicular"),
        ({"PixelSpacing": [0, 1]}, "which is no size"),
    ],
)
def test_files_that_are_no_images_say_what_they_are(
    attributes: dict[str, object], words: str, tmp_path: Path
) -> None:
    path = save(make_slice(volume(1)[0], **attributes), tmp_path / "one.dcm")
    with pytest.raises(InputError, match=words):
        read_image(path)


def test_frames_that_are_not_described_are_refused(tmp_path: Path) -> None:
    enhanced = make_enhanced(make_series(volume(2)), [0, 1])
    enhanced.NumberOfFrames = 7
    with pytest.raises(InputError, match="7 frames, but describes 2"):
        read_image(save(enhanced, tmp_path / "a.dcm"))


def test_film_without_places_is_refused(tmp_path: Path) -> None:
    film = make_slice(volume(3), NumberOfFrames=3, ImagePositionPatient=None)
    with pytest.raises(InputError, match="does not say where"):
        read_image(save(film, tmp_path / "film.dcm"))


def test_conflicting_copies_are_refused(tmp_path: Path) -> None:
    slices = make_series(volume())
    slices[1].SOPInstanceUID = slices[0].SOPInstanceUID
    with pytest.raises(InputError, match="the same SOP Instance UID"):
        read_image(save_series(tmp_path, slices))


def test_folder_without_dicom_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("nothing")
    with pytest.raises(InputError, match="a folder without DICOM files"):
        read_image(tmp_path)
    with pytest.raises(InputError, match="does not begin with a DICOM header"):
        read_image((tmp_path / "a.txt").rename(tmp_path / "a.dcm"))


def test_cut_file_is_refused(tmp_path: Path) -> None:
    path = save(make_slice(np.zeros((64, 64), np.uint16)), tmp_path / "one.dcm")
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(InputError, match="cut short"):
        read_image(path)


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, RLELossless])
def test_compressed_frame_of_another_size_is_refused_before_it_is_unpacked(
    syntax: str, tmp_path: Path
) -> None:
    dataset = make_slice(np.zeros((64, 64), np.uint16))
    dataset.compress(syntax)
    dataset.Rows = dataset.Columns = 8_000
    with pytest.raises(InputError, match=r"64 x 64|cannot come from"):
        read_image(save(dataset, tmp_path / "one.dcm"))


def test_more_than_the_memory_is_refused_before_any_is_taken(tmp_path: Path) -> None:
    slices = make_series(np.zeros((20, 64, 64), np.uint16))
    for one in slices:
        one.compress(JPEG2000Lossless)
        one.Rows = one.Columns = 65_535
    with pytest.raises(MemoryLimitError, match="GB of memory"):
        read_image(save_series(tmp_path, slices))


def test_deflated_file_is_refused(tmp_path: Path) -> None:
    dataset = make_slice(volume(1)[0])
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    with pytest.raises(InputError, match="deflated"):
        read_image(save(dataset, tmp_path / "one.dcm"))


def test_damaged_run_lengths_are_refused(tmp_path: Path) -> None:
    dataset = make_slice(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64))
    dataset.compress(RLELossless)
    # Beside the header of the segments: what follows says other lengths.
    damaged = bytearray(dataset.PixelData)
    damaged[100:400] = bytes([127, 1, 2] * 100)
    dataset.PixelData = bytes(damaged)
    with pytest.raises(InputError, match="Cannot read"):
        read_image(save(dataset, tmp_path / "one.dcm"))


def test_header_of_odd_lengths_is_refused(tmp_path: Path) -> None:
    path = save(make_slice(volume(1)[0]), tmp_path / "one.dcm")
    content = path.read_bytes()
    # Rows, two bytes long, with one.
    at = content.index(b"\x28\x00\x10\x00US\x02\x00")
    path.write_bytes(content[: at + 6] + b"\x01\x00" + content[at + 8 :])
    with pytest.raises(InputError, match="Cannot read"):
        read_image(path)
