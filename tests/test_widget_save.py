"""What is saved or duplicated is one whole labelling: never a mixture of what was looked at."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from napari.layers.base.base import Layer

import napari_structseg as ss
from dicom_files import PATIENT, make_series, oblique, save_series
from dock_helpers import dock, exploring  # noqa: F401
from napari_structseg.errors import InputError
from napari_structseg.io.dicom.read import to_frames
from napari_structseg.io.references import voxel_hash
from napari_structseg.layer_geometry import GEOMETRY_KEY
from napari_structseg.models import HeadSpec
from napari_structseg.priors import PriorSpec
from napari_structseg.reader import image_layers


def dense(shown) -> np.ndarray:
    """The labels that are chosen, of the whole image, by definition."""
    return ss.render_labels(shown.distribution, shown.widget.controls.noise, shown.widget.controls)


def stored(path: Path, shown) -> np.ndarray:
    """Labels of a file, in the order of the layer's data."""
    geometry = shown.widget.layers.segmentation.metadata[GEOMETRY_KEY]
    wanted = dense(shown)
    voxels = np.asarray(nib.load(path).dataobj)
    assert voxels.shape == geometry.to_file(wanted).shape
    # Places of the array, sent through the file's order and back.
    places = geometry.to_file(np.arange(wanted.size).reshape(wanted.shape))
    labels = np.empty(wanted.size, np.uint8)
    labels[places.ravel()] = voxels.ravel()
    return labels.reshape(wanted.shape)


@pytest.fixture
def moved(exploring):
    """Sample 3 was chosen just now: the layer holds the mean but for the visible slice."""
    explorer = ss.explorer(exploring.viewer)
    mean = exploring.labels.copy()
    explorer.controls.sample = 3
    explorer.controls.temperature = 3.0
    assert (exploring.labels == mean).mean() > 0.5
    return exploring


def test_napari_saves_one_labelling(moved, tmp_path: Path) -> None:
    segmentation = moved.widget.layers.segmentation
    for name in ("seg.nii.gz", "seg.tif"):
        (written,) = segmentation.save(str(tmp_path / name))
        assert Path(written).name == name
    np.testing.assert_array_equal(stored(tmp_path / "seg.nii.gz", moved), dense(moved))


def test_a_duplicate_is_one_labelling(moved) -> None:
    copied = Layer.create(*moved.widget.layers.segmentation.as_layer_data_tuple())
    np.testing.assert_array_equal(copied.data, dense(moved))


def test_save_waits_for_the_whole(moved, tmp_path: Path) -> None:
    wanted = dense(moved)
    paths = ss.explorer(moved.viewer).save(tmp_path / "result.nii.gz")
    assert [path.name for path in paths] == ["result.nii.gz", "result.csv", "result.json"]
    np.testing.assert_array_equal(stored(paths[0], moved), wanted)
    np.testing.assert_allclose(nib.load(paths[0]).header.get_zooms(), (1, 1, 2))
    record = json.loads(paths[2].read_text())
    assert record["voxels"] == voxel_hash(wanted)
    assert record["controls"]["sample"] == 3
    assert [one["name"] for one in record["classes"]] == list(moved.widget._spec.class_names)
    # The image came from no file: no command makes it again, and that is said.
    assert record["command"] is None
    rows = list(csv.DictReader(paths[1].read_text().splitlines()))
    assert [int(row["voxels"]) for row in rows] == [
        int((wanted == k).sum()) for k in range(len(rows))
    ]
    assert sum(float(row["ml"]) for row in rows) == pytest.approx(wanted.size * 2e-3)


def test_the_command_of_the_record_makes_the_same(dock, tmp_path: Path) -> None:
    data = np.random.default_rng(0).normal(100, 30, (16, 20, 12)).clip(1).astype(np.float32)
    path = tmp_path / "T1.nii.gz"
    nib.save(nib.Nifti1Image(data, np.diag([1.5, 1, 2, 1])), path)
    dock.viewer.open(str(path), plugin="napari-structseg")
    dock.choose(head=HeadSpec(), prior=PriorSpec())
    dock.run()
    explorer = ss.explorer(dock.viewer)
    explorer.controls.sample = 2
    explorer.controls.iterations = 2
    saved = explorer.save(tmp_path / "kept.nii.gz")
    record = json.loads(saved[2].read_text())
    assert record["command"][:2] == ["structseg", "predict"]
    arguments = record["command"][2:]
    out = tmp_path / "again"
    arguments[arguments.index("--out") + 1] = str(out)
    from napari_structseg.cli import main

    assert main(arguments=["predict", *arguments]) == 0
    again = ss.read_image(out / record["command_file"]).data
    np.testing.assert_array_equal(again, ss.read_image(saved[0]).data)


def test_the_button_asks_and_saves(moved, tmp_path: Path) -> None:
    status = moved.widget.status
    assert status.save_button.isEnabled()
    status.save_button.click()
    dialog = moved.widget.save_dialog
    assert dialog.selectedFiles()[0].endswith("T1_seed-7-sample-003.nii.gz")
    target = tmp_path / "from-the-dock.nii.gz"
    dialog.close()
    dialog.fileSelected.emit(str(target))
    wanted = dense(moved)
    # What is chosen meanwhile does not change what is saved.
    ss.explorer(moved.viewer).controls.sample = 0
    moved.settle()
    np.testing.assert_array_equal(stored(target, moved), wanted)
    assert "from-the-dock.nii.gz" in status.hint.toolTip() or target.is_file()


def test_other_formats_hold_the_same_labels(moved, tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK", reason="the extra [formats] is not installed")
    explorer = ss.explorer(moved.viewer)
    plain = explorer.save(tmp_path / "plain.nii.gz")
    paths = explorer.save(tmp_path / "slicer.seg.nrrd")
    assert [path.name for path in paths] == ["slicer.seg.nrrd", "slicer.csv", "slicer.json"]
    ours, other = (sitk.ReadImage(str(one[0])) for one in (paths, plain))
    assert np.array_equal(sitk.GetArrayFromImage(ours), sitk.GetArrayFromImage(other))
    np.testing.assert_allclose(ours.GetOrigin(), other.GetOrigin(), atol=1e-4)
    assert ours.GetMetaData("Segment0_Name") == moved.widget._spec.class_names[1]
    with pytest.raises(InputError, match="Save as NIfTI or NRRD"):
        explorer.save(tmp_path / "no.dcm")


def test_a_report_is_of_what_is_chosen_and_of_samples(moved, tmp_path: Path) -> None:
    wanted = dense(moved)
    (path,) = ss.explorer(moved.viewer).save(tmp_path / "report.html")
    text = path.read_text(encoding="utf-8")
    assert "The segmentation: sample 3." in text
    assert "90 % of 20 samples" in text
    assert "Temperature</th><td>3<" in text
    voxel_ml = 2e-3
    largest = int(np.bincount(wanted.ravel())[1:].argmax()) + 1
    size = (wanted == largest).sum() * voxel_ml
    shown = f"{size:.0f}" if size >= 100 else f"{size:.1f}" if size >= 10 else f"{size:.2f}"
    assert f"<td>{shown}</td>" in text
    # A report is no copy of the labels: they are still unsaved.
    assert moved.widget._session.unsaved()


def test_the_dialog_lists_what_the_image_allows(moved, tmp_path: Path) -> None:
    moved.widget.status.save_button.click()
    dialog = moved.widget.save_dialog
    assert [words.partition(" (")[0] for words in dialog.nameFilters()] == [
        "NIfTI",
        "Segmentation for 3D Slicer",
        "Report on one page",
    ]
    words = dialog.nameFilters()[2]
    dialog.selectNameFilter(words)
    dialog.filterSelected.emit(words)
    assert dialog.selectedFiles()[0].endswith("T1_seed-7-sample-003.html")
    assert dialog.defaultSuffix() == "html"
    dialog.close()


def test_a_dicom_series_is_saved_as_dicom(dock, tmp_path: Path) -> None:
    highdicom = pytest.importorskip("highdicom", reason="the extra [dicom] is not installed")
    volume = np.random.default_rng(0).integers(900, 1200, (8, 16, 12)).astype(np.uint16)
    folder = save_series(tmp_path / "scan", make_series(volume, orientation=oblique()))
    ((data, settings, _),) = image_layers(ss.read_image(folder))
    dock.add_image(data, **settings)
    dock.choose()
    dock.run()
    dock.widget.status.save_button.click()
    dialog = dock.widget.save_dialog
    named = [words for words in dialog.nameFilters() if "names the patient" in words]
    dialog.selectNameFilter(named[0])
    dialog.fileSelected.emit(str(tmp_path / "named.dcm"))
    dialog.close()
    dock.settle()
    ss.explorer(dock.viewer).save(tmp_path / "silent.dcm")
    scan = ss.read_image(folder)
    uids = [frame.instance_uid for frame in scan.source.frames]
    for name, patient in (("named", PATIENT), ("silent", "")):
        seg = highdicom.seg.segread(tmp_path / f"{name}.dcm")
        assert str(seg.PatientName) == patient
        read = seg.get_pixels_by_source_instance(uids, combine_segments=True)
        assert np.array_equal(read, to_frames(dense(dock), scan))
        assert (tmp_path / f"{name}.csv").is_file()


def test_what_cannot_be_saved_is_said(dock, tmp_path: Path) -> None:
    assert not dock.widget.status.save_button.isEnabled()
    dock.add_image()
    explorer = ss.explorer(dock.viewer)
    with pytest.raises(InputError, match="no segmentation to save"):
        explorer.save(tmp_path / "a.nii.gz")
    dock.choose()
    dock.run()
    with pytest.raises(InputError, match=r"ends in \.nii\.gz"):
        explorer.save(tmp_path / "a.png")
    with pytest.raises(InputError, match="There is no folder"):
        explorer.save(tmp_path / "nowhere" / "a.nii.gz")
    assert list(tmp_path.glob("a*")) == []


def test_a_layer_without_its_dock_is_an_ordinary_one(exploring, tmp_path: Path) -> None:
    layer, wanted = exploring.widget.layers.segmentation, dense(exploring)
    exploring.widget.shut_down()
    np.testing.assert_array_equal(layer.as_layer_data_tuple()[0], wanted)
    assert len(layer.save(str(tmp_path / "after.nii.gz"))) == 1
