"""What napari shows of DICOM series, segmentations and NRRD files."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image as ImageLayer
from napari.layers import Labels, Layer

from dicom_files import PATIENT, make_series, save, save_series
from napari_structseg.errors import InputError
from napari_structseg.reader import get_reader

PLUGIN = "napari-structseg"


@pytest.fixture
def viewer(npe2pm):
    """A viewer without a window that knows this plugin and no other."""
    with npe2pm.tmp_plugin(manifest=str(files("napari_structseg") / "napari.yaml")):
        yield ViewerModel()


def voxels(n: int = 4) -> np.ndarray:
    return np.arange(n * 30, dtype=np.uint16).reshape(n, 5, 6)


def open_layers(path: Path) -> list[Layer]:
    reader = get_reader(str(path))
    assert reader is not None
    return [Layer.create(*layer) for layer in reader(str(path))]


def test_a_folder_that_is_dropped_is_one_layer(viewer: ViewerModel, tmp_path: Path) -> None:
    folder = save_series(tmp_path / f"{PATIENT}", make_series(voxels()))
    viewer.open(folder, plugin=PLUGIN)
    (layer,) = viewer.layers
    assert isinstance(layer, ImageLayer)
    assert layer.data.shape == (4, 5, 6)
    assert layer.scale == pytest.approx((2, 0.8, 0.6))
    assert layer.name == "Thorax 2.0"
    assert len(layer.metadata["structseg_image"].source.frames) == 4


def test_files_that_are_dropped_are_one_layer(viewer: ViewerModel, tmp_path: Path) -> None:
    folder = save_series(tmp_path, make_series(voxels()))
    viewer.open(sorted(folder.iterdir()), stack=True, plugin=PLUGIN)
    assert [layer.data.shape for layer in viewer.layers] == [(4, 5, 6)]


def test_one_file_stands_for_its_series(tmp_path: Path) -> None:
    folder = save_series(tmp_path, make_series(voxels()))
    other = make_series(voxels(7), SeriesInstanceUID="1.2.3.4")
    save_series(folder / "b", other)
    for path in folder.glob("b/*"):
        path.rename(folder / f"b{path.name}")
    (folder / "b").rmdir()
    (layer,) = open_layers(folder / "I0002.dcm")
    assert layer.data.shape == (4, 5, 6)
    (layer,) = open_layers(folder / "bI0002.dcm")
    assert layer.data.shape == (7, 5, 6)
    with pytest.warns(UserWarning, match="2 series were found, and the largest was opened"):
        (layer,) = open_layers(folder)
    assert layer.data.shape == (7, 5, 6)


def test_folders_of_other_files_are_left_to_other_plugins(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"II*\0")
    assert get_reader(str(tmp_path)) is None


def test_folder_without_images_says_what_is_there(tmp_path: Path) -> None:
    report = make_series(voxels(1), Rows=None, Columns=None, PixelData=None)
    save(report[0], tmp_path / "sr.dcm")
    reader = get_reader(str(tmp_path))
    assert reader is not None
    with pytest.raises(InputError, match="document without pixels"):
        reader(str(tmp_path))


SLICER = """NRRD0004
type: uchar
dimension: 4
space: left-posterior-superior
sizes: 2 4 3 2
space directions: none (1,0,0) (0,1,0) (0,0,2)
kinds: list domain domain domain
encoding: raw
space origin: (0,0,0)
Segment0_ID:=Segment_1
Segment0_Name:=liver
Segment0_Color:=1 0.5 0
Segment0_LabelValue:=1
Segment0_Layer:=0
Segment1_Name:=tumour
Segment1_Color:=0 1 0
Segment1_LabelValue:=3
Segment1_Layer:=1

"""


def test_a_segmentation_of_slicer_has_its_names_and_colours(tmp_path: Path) -> None:
    pytest.importorskip("SimpleITK")
    stored = np.zeros((2, 3, 4, 2), np.uint8)
    stored[0, 1, 2, 0], stored[1, 1, 2, 1] = 1, 3
    path = tmp_path / "a.seg.nrrd"
    path.write_bytes(SLICER.encode() + stored.tobytes())
    liver, tumour = open_layers(path)
    assert isinstance(liver, Labels)
    assert isinstance(tumour, Labels)
    assert liver.data.shape == (2, 3, 4)
    # Slices run towards inferior.
    assert np.argwhere(liver.data == 1).tolist() == [[1, 1, 2]]
    assert np.argwhere(tumour.data == 3).tolist() == [[0, 1, 2]]
    assert np.allclose(liver.get_color(1), (1, 0.5, 0, 1))
    assert list(tumour.features["name"]) == ["tumour"]
    assert liver.scale == pytest.approx((2, 1, 1))


def test_overlapping_segments_lie_on_the_voxels_of_their_series(data_dir: Path) -> None:
    pytest.importorskip("highdicom")
    sitk = pytest.importorskip("SimpleITK")
    folder = data_dir / "dicom_io" / "dcmqi"
    if not folder.is_dir():
        pytest.skip(f"needs {folder}")
    layers = open_layers(folder / "partial_overlaps.dcm")
    assert len(layers) > 1
    assert all(isinstance(layer, Labels) for layer in layers)
    named = {
        name: layer.data == value
        for layer in layers
        for value, name in zip(layer.features["index"], layer.features["name"], strict=True)
    }
    assert len(named) == 5
    # The twins that the same program wrote as NRRD files.
    counted = sorted(int(mask.sum()) for mask in named.values())
    twins = []
    for path in sorted(folder.glob("partial_overlaps-*.nrrd")):
        found = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
        twins += [int((found == value).sum()) for value in np.unique(found) if value]
    assert counted == sorted(twins)


def test_a_segmentation_lies_on_the_series_beside_it(data_dir: Path, tmp_path: Path) -> None:
    pytest.importorskip("highdicom")
    folder = data_dir / "dicom_io" / "dcmqi"
    if not folder.is_dir():
        pytest.skip(f"needs {folder}")
    for path in (*(folder / "ct-3slice").iterdir(), folder / "liver.dcm"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    image, labels = open_layers(tmp_path)
    assert isinstance(labels, Labels)
    assert labels.data.shape == image.data.shape
    known = image.metadata["structseg_image"]
    assert known.geometry.same_grid(labels.metadata["structseg_geometry"])
    # A liver is soft tissue.
    assert 0 < np.median(image.data[labels.data > 0]) < 200


def test_fractions_are_an_image_of_probabilities(data_dir: Path) -> None:
    pytest.importorskip("highdicom")
    path = data_dir / "dicom_io" / "highdicom_test_files" / "seg_image_ct_true_fractional.dcm"
    if not path.is_file():
        pytest.skip(f"needs {path}")
    (layer,) = open_layers(path)
    assert isinstance(layer, ImageLayer)
    assert layer.data.dtype == np.float32
    assert 0 < layer.data.max() <= 1
