"""The user's own result as files, from Python and from `structseg sessions`."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from correction_helpers import CLASSES, everything, labelling, strokes_of
from dicom_files import make_series, save_series
from napari_structseg.cli import main
from napari_structseg.correction.actions import Correction
from napari_structseg.correction.autosave import Autosave
from napari_structseg.correction.export import ResultRecord, save_result
from napari_structseg.correction.identity import identify
from napari_structseg.distributions import Strokes
from napari_structseg.errors import InputError
from napari_structseg.image import Image
from napari_structseg.io.dicom.read import read_dicom, to_frames
from napari_structseg.io.nifti import read_image
from napari_structseg.io.references import file_hash, voxel_hash

SHAPE = (6, 7, 8)


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """An image whose axes run otherwise than those of the viewer."""
    affine = np.array([[0, -2.0, 0, 9], [0, 0, 1.5, -4], [-1, 0, 0, 3], [0, 0, 0, 1]])
    path = tmp_path / "scan.nii.gz"
    voxels = np.random.default_rng(0).integers(0, 99, SHAPE).astype(np.int16)
    nib.Nifti1Image(voxels, affine).to_filename(path)
    return path


def corrected(image: Image) -> Correction:
    shape = image.spatial_shape
    correction = Correction(shape, len(CLASSES))
    correction.accept(labelling(0, shape), name="accept sample 12", details={"sample": 12})
    correction.accept(labelling(1, shape), name="accept sample 13")
    correction.undo()
    correction.lock_class(2, name="lock two")
    correction.set_strokes(strokes_of(3, shape), name="condition")
    return correction


def test_a_result_is_saved_on_the_grid_of_the_image_with_all_that_belongs_to_it(
    scan: Path, tmp_path: Path
) -> None:
    image = read_image(scan)
    correction = corrected(image)
    samples = np.random.default_rng(0).random((20, len(CLASSES)))
    paths = save_result(
        tmp_path / "mine.nii.gz",
        correction,
        image,
        CLASSES,
        image_path=scan,
        source={"model": "tiny"},
        volumes_over_samples=samples,
    )
    assert [path.name for path in paths] == [
        "mine.nii.gz",
        "mine.csv",
        "mine-strokes.nii.gz",
        "mine.json",
    ]
    saved = nib.nifti1.load(paths[0])
    assert np.array_equal(saved.affine, nib.nifti1.load(scan).affine)
    again = read_image(paths[0])
    assert np.array_equal(again.data[0], correction.result.labels)
    strokes = read_image(paths[2]).data[0]
    assert Strokes.from_array(strokes, len(CLASSES)) == correction.strokes

    with paths[1].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == [one.name for one in CLASSES]
    assert [int(row["voxels"]) for row in rows] == correction.result.counts.tolist()
    assert float(rows[1]["ml"]) == pytest.approx(correction.result.counts[1] * 3e-3, abs=1e-4)
    assert float(rows[1]["ml_p95"]) == pytest.approx(np.percentile(samples[:, 1], 95), abs=1e-4)

    record = ResultRecord.model_validate_json(paths[3].read_bytes())
    assert [step.name for step in record.steps] == ["accept sample 12", "lock two", "condition"]
    assert record.steps[0].details == {"sample": 12}
    assert record.classes == CLASSES
    assert record.image_file is not None
    assert record.image_file.sha256 == file_hash(scan)
    assert record.voxels == voxel_hash(correction.result.labels)
    assert record.source == {"model": "tiny"}


def test_a_result_of_another_image_is_refused(tmp_path: Path) -> None:
    image = Image.from_array(np.zeros((3, 4), np.uint8))
    with pytest.raises(InputError, match="shape"):
        save_result(tmp_path / "a.nii", Correction((4, 4), 4), image, CLASSES)
    with pytest.raises(InputError, match=r"\.nii\.gz"):
        save_result(tmp_path / "a.png", Correction((3, 4), 4), image, CLASSES)
    assert list(tmp_path.iterdir()) == []


def test_without_strokes_there_is_no_file_of_them(tmp_path: Path) -> None:
    image = Image.from_array(np.zeros((3, 4), np.uint8))
    paths = save_result(tmp_path / "a.nii", Correction((3, 4), 4), image, CLASSES)
    assert [path.name for path in paths] == ["a.nii", "a.csv", "a.json"]


@pytest.fixture
def kept(scan: Path, tmp_path: Path) -> tuple[Path, Correction]:
    """A session that was not saved, and what was in it."""
    image = read_image(scan)
    correction = Correction(image.spatial_shape, len(CLASSES))
    root = tmp_path / "sessions"
    autosave = Autosave(correction, identify(image, scan), CLASSES, root=root)
    correction.accept(labelling(0, image.spatial_shape), name="accept")
    correction.paint(np.arange(9), 2)
    autosave.note(recipe='{"model": "tiny"}')
    autosave.close()
    assert autosave.folder is not None
    return autosave.folder, correction


def test_saving_and_reopening_gives_the_same_session(
    kept: tuple[Path, Correction], scan: Path, tmp_path: Path
) -> None:
    folder, correction = kept
    autosave, work = Autosave.reopen(folder)
    save_result(tmp_path / "mine.nii.gz", work.correction, read_image(scan), CLASSES)
    autosave.note_saved()
    autosave.close()
    again, work = Autosave.reopen(folder)
    again.close()
    assert everything(work.correction) == everything(correction)
    assert work.recipe == '{"model": "tiny"}'
    assert work.saved == work.number == 2


def test_sessions_are_listed_and_their_results_saved_without_a_window(
    kept: tuple[Path, Correction],
    scan: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, correction = kept
    monkeypatch.setenv("STRUCTSEG_SESSIONS", str(folder.parent.parent))
    assert main(["sessions", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["folder"], row["file"], row["open"]) == (str(folder), str(scan), False)
    assert row["unsaved_actions"] > 0
    assert main(["sessions", str(folder)]) == 0
    assert str(folder) in capsys.readouterr().out

    out = tmp_path / "result.nii.gz"
    assert main(["sessions", str(folder), "--image", str(scan), "--out", str(out)]) == 0
    assert np.array_equal(read_image(out).data[0], correction.result.labels)
    record = ResultRecord.model_validate_json((tmp_path / "result.json").read_bytes())
    assert record.source == {"model": "tiny"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{folder}", "--image", "{scan}"], "needs all three"),
        (["--image", "{scan}", "--out", "a.nii.gz"], "needs all three"),
        (["{folder}", "--image", "{scan}", "--out", "{folder}/a.txt"], "ends in .nii.gz"),
        (["{folder}", "--image", "{other}", "--out", "{folder}/a.nii.gz"], "lie otherwise"),
        (["{folder}/none"], "cannot be read"),
    ],
)
def test_what_cannot_be_saved_is_said(  # noqa: PLR0917 -- fixtures
    arguments: list[str],
    message: str,
    kept: tuple[Path, Correction],
    scan: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = tmp_path / "other.nii"
    nib.Nifti1Image(np.zeros(SHAPE, np.int16), np.eye(4)).to_filename(other)
    words = [one.format(folder=kept[0], scan=scan, other=other) for one in arguments]
    assert main(["sessions", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_result_of_a_dicom_series_is_dicom_and_says_that_a_person_made_it(tmp_path: Path) -> None:
    highdicom = pytest.importorskip("highdicom", reason="the extra [dicom] is not installed")
    folder = save_series(tmp_path / "scan", make_series(np.full((4, 6, 5), 1024, np.uint16)))
    image = read_dicom(folder)
    correction = corrected(image)
    paths = save_result(tmp_path / "mine.dcm", correction, image, CLASSES)
    assert [path.name for path in paths] == [
        "mine.dcm",
        "mine.csv",
        "mine-strokes.nii.gz",
        "mine.json",
    ]
    seg = highdicom.seg.segread(paths[0])
    uids = [frame.instance_uid for frame in image.source.frames]
    read = seg.get_pixels_by_source_instance(uids, combine_segments=True)
    assert np.array_equal(read, to_frames(correction.result.labels, image))
    assert seg.get_segment_description(1).algorithm_type.value == "SEMIAUTOMATIC"
    assert (str(seg.PatientName), seg.PatientID) == ("", "")


def test_a_result_of_another_image_is_no_dicom(scan: Path, tmp_path: Path) -> None:
    pytest.importorskip("highdicom", reason="the extra [dicom] is not installed")
    image = read_image(scan)
    with pytest.raises(InputError, match="Save as NIfTI or NRRD"):
        save_result(tmp_path / "mine.dcm", corrected(image), image, CLASSES)
    assert not list(tmp_path.glob("mine*"))
