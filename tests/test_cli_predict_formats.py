"""`structseg predict --format`: the same labels in the files of other programs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dicom_files import make_series, save_series
from napari_structseg import predict, read_image, reproduce
from napari_structseg.errors import ConfigError
from napari_structseg.io.dicom.read import to_frames
from napari_structseg.results.recipe_files import read_recipe
from predict_helpers import blob, image, model, refused, run  # noqa: F401 -- fixtures

OPTIONS = ("--samples", 3, "--seed", 5, "--temperature", 2, "--save-probabilities")


def test_nrrd_holds_the_same_labels(image: Path, model: Path, tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK", reason="the extra [formats] is not installed")
    plain, out = tmp_path / "nifti", tmp_path / "nrrd"
    assert run(image, "--model", model, "--out", plain, *OPTIONS) == 0
    assert run(image, "--model", model, "--out", out, *OPTIONS, "--format", "nrrd") == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "entropy.nrrd",
        "hypotheses.seg.nrrd",
        "mean.seg.nrrd",
        "probabilities.nrrd",
        "recipe.json",
        *[f"sample-00{number}.seg.nrrd" for number in (1, 2, 3)],
        "volumes.csv",
    ]
    for name in ("mean", "sample-002"):
        ours = sitk.ReadImage(str(out / f"{name}.seg.nrrd"))
        other = sitk.ReadImage(str(plain / f"{name}.nii.gz"))
        assert np.array_equal(sitk.GetArrayFromImage(ours), sitk.GetArrayFromImage(other))
        np.testing.assert_allclose(ours.GetOrigin(), other.GetOrigin(), atol=1e-4)
        np.testing.assert_allclose(ours.GetDirection(), other.GetDirection(), atol=1e-5)
    assert (out / "volumes.csv").read_bytes() == (plain / "volumes.csv").read_bytes()
    # The hashes are of voxels, whatever they are written as.
    hashes = [list(read_recipe(folder / "recipe.json").outputs.values()) for folder in (plain, out)]
    assert hashes[0] == hashes[1]


def test_a_recipe_makes_the_same_files_again(image: Path, model: Path, tmp_path: Path) -> None:
    made = predict(image, model, tmp_path / "first", samples=1, format="nrrd")
    again = reproduce(tmp_path / "first" / "recipe.json", image, tmp_path / "second")
    assert again.outputs == made.outputs
    assert (tmp_path / "second" / "mean.seg.nrrd").is_file()
    assert not (tmp_path / "second" / "hypotheses.seg.nrrd").exists()


def test_results_of_another_format_are_replaced_too(
    image: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "results"
    assert run(image, "--model", model, "--out", out, *OPTIONS, "--format", "nrrd") == 0
    capsys.readouterr()
    refused(capsys, image, "--model", model, "--out", out, says=("--overwrite",))
    assert run(image, "--model", model, "--out", out, "--samples", 1, "--overwrite") == 0
    assert not list(out.glob("*.nrrd"))


def test_an_unknown_format_is_refused(image: Path, model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nifti"):
        predict(image, model, tmp_path / "out", format="mha")
    assert not (tmp_path / "out").exists()


def test_dicom_results_of_a_series(model: Path, tmp_path: Path) -> None:
    highdicom = pytest.importorskip("highdicom", reason="the extra [dicom] is not installed")
    folder = save_series(tmp_path / "scan", make_series(blob(8, 16, 12).astype(np.uint16)))
    plain, out = tmp_path / "nifti", tmp_path / "dicom"
    assert run(folder, "--model", model, "--out", plain, *OPTIONS) == 0
    assert run(folder, "--model", model, "--out", out, *OPTIONS, "--format", "dicom-seg") == 0
    assert sorted(path.name for path in out.iterdir()) == [
        # What DICOM SEG cannot hold stays NIfTI.
        "entropy.nii.gz",
        "hypotheses.dcm",
        "mean.dcm",
        "probabilities.dcm",
        "recipe.json",
        *[f"sample-00{number}.dcm" for number in (1, 2, 3)],
        "volumes.csv",
    ]
    scan = read_image(folder)
    uids = [frame.instance_uid for frame in scan.source.frames]
    for name in ("mean", "sample-002"):
        seg = highdicom.seg.segread(out / f"{name}.dcm")
        read = seg.get_pixels_by_source_instance(uids, combine_segments=True)
        expected = to_frames(read_image(plain / f"{name}.nii.gz").data[0], scan)
        assert np.array_equal(read, expected)
        assert len(np.unique(read)) > 1
    seg = highdicom.seg.segread(out / "hypotheses.dcm")
    described = seg.get_segment_description(1)
    assert "of 3 samples" in described.segment_label
    series = {str(highdicom.seg.segread(path).SeriesInstanceUID) for path in out.glob("*.dcm")}
    assert len(series) == 1


def test_dicom_results_need_a_dicom_series(
    image: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("highdicom", reason="the extra [dicom] is not installed")
    out = tmp_path / "out"
    options = ("--model", model, "--out", out)
    refused(capsys, image, *options, "--format", "dicom-seg", says=("Save as NIfTI or NRRD",))
    refused(capsys, image, *options, "--keep-patient", says=("--format dicom-seg",))
