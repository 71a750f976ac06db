"""DICOM SR: the volumes and hypotheses of a prediction, over its segmentation."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("highdicom", reason="the extra [dicom] is not installed")

import highdicom
import pydicom

from dicom_files import PATIENT, make_series, save_series
from napari_structseg import read_image
from predict_helpers import blob, model, refused, run  # noqa: F401 -- a fixture

OPTIONS = ("--samples", 4, "--temperature", 2, "--format", "dicom-seg", "--sr")


@pytest.fixture
def made(model: Path, tmp_path: Path) -> Path:
    scan = save_series(tmp_path / "scan", make_series(blob(8, 16, 12).astype(np.uint16)))
    assert run(scan, "--model", model, "--out", tmp_path / "out", *OPTIONS) == 0
    return tmp_path / "out"


def test_it_says_what_the_table_says(made: Path) -> None:
    report = highdicom.sr.srread(made / "measurements.dcm")
    over_segments = report.content.get_volumetric_roi_measurement_groups()
    others = report.content.get_image_measurement_groups()
    groups = {one.tracking_identifier: one for one in (*over_segments, *others)}
    rows = [row.split(",") for row in (made / "volumes.csv").read_text().splitlines()[2:]]
    assert sorted(groups) == sorted(["Hypotheses", *(row[1] for row in rows)])
    seg = pydicom.dcmread(made / "mean.dcm")
    for number, row in enumerate(rows, start=1):
        group = groups[row[1]]
        sizes = {
            None if one.derivation is None else one.derivation.meaning: one.value
            for one in group.get_measurements()
        }
        assert sizes[None] == pytest.approx(float(row[3]), abs=1e-4)
        assert sizes["5th percentile over samples"] == pytest.approx(float(row[4]), abs=1e-4)
        assert sizes["95th percentile over samples"] == pytest.approx(float(row[5]), abs=1e-4)
        assert {one.unit.value for one in group.get_measurements()} == {"ml"}
        if int(row[2]):
            segment = group.referenced_segment
            assert segment.referenced_sop_instance_uid == seg.SOPInstanceUID
            assert list(segment.referenced_segment_numbers or ()) == [number]
    # One class at least is there.
    assert len(over_segments) == sum(int(row[2]) > 0 for row in rows) > 0
    shares = [one.value for one in groups["Hypotheses"].get_measurements()]
    assert sum(shares) == pytest.approx(100)
    assert report.StudyInstanceUID == seg.StudyInstanceUID
    for word in (PATIENT, "4711"):
        assert word.encode() not in (made / "measurements.dcm").read_bytes()


def test_a_validator_finds_no_fault(made: Path) -> None:
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy (Debian's dicom3tools) is not installed")
    done = subprocess.run(
        ["dciodvfy", "-new", str(made / "measurements.dcm")],
        capture_output=True,
        text=True,
        check=False,
    )
    said = (done.stdout + done.stderr).splitlines()
    assert not [line for line in said if line.startswith("Error")], "\n".join(said)


def test_it_needs_a_segmentation_in_dicom(
    made: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = tmp_path / "scan"
    assert read_image(scan).source is not None
    options = ("--model", model, "--out", tmp_path / "other")
    refused(capsys, scan, *options, "--sr", says=("--format dicom-seg",))
