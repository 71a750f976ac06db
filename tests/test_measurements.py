"""Measurements of one image: what is known, as a table and as JSON."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

from napari_structseg.controls import Controls
from napari_structseg.errors import InputError
from napari_structseg.results.measurements import (
    Measurements,
    compared,
    measured,
    write_measurements,
)

NAMES = ("Background", "Grey, deep", "White")
SAMPLES = np.random.default_rng(0).normal((500, 40, 30), (5, 4, 3), (20, 3))


def some(**fields) -> Measurements:
    """Measurements of three classes."""
    known = {
        "image": "T1",
        "shown": "sample 3",
        "names": NAMES,
        "unit": "mL",
        "per_ml": 1.0,
        "controls": Controls(sample=3),
        "refined": False,
        "shown_ml": np.array([500.0, 41.0, 29.5]),
        "samples_ml": SAMPLES,
    }
    return measured(**{**known, **fields})


def rows(text: str, separator: str = ",") -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text), delimiter=separator))


def test_volumes_and_their_spread() -> None:
    found = some().classes[1]
    assert found.shown == 41.0
    assert found.mean == pytest.approx(SAMPLES[:, 1].mean())
    assert found.median == pytest.approx(np.median(SAMPLES[:, 1]))
    ends = np.percentile(SAMPLES[:, 1], (5, 95))
    assert (found.p5, found.p95) == pytest.approx(tuple(ends))
    assert found.samples == pytest.approx(SAMPLES[:, 1])
    assert found.result is None


def test_another_unit() -> None:
    found = some(unit="voxels", per_ml=1000.0, result_ml=np.array([1.0, 2.0, 3.0]))
    assert found.classes[1].shown == 41000
    assert found.classes[2].result == 3000
    assert found.classes[1].p95 == pytest.approx(1000 * np.percentile(SAMPLES[:, 1], 95))


def test_the_table_has_what_is_known() -> None:
    table = rows(some().to_csv())
    assert [row["class"] for row in table] == list(NAMES)
    assert table[1]["shown"] == "41.0000"
    assert table[1]["result"] == table[1]["dice"] == ""
    assert table[1]["samples"] == "20"
    assert table[1]["samples_are"] == "as shown"
    assert float(table[2]["p5"]) == pytest.approx(np.percentile(SAMPLES[:, 2], 5), abs=1e-4)
    unknown = rows(some(samples_ml=None, shown_ml=None).to_csv())
    assert unknown[1]["shown"] == unknown[1]["mean"] == unknown[1]["samples"] == ""
    # For a spreadsheet.
    assert rows(some().to_csv("\t"), "\t") == table


def test_a_range_of_the_model_alone_says_so() -> None:
    alone = some(refined=True)
    assert "model alone" in alone.caption
    assert {row["samples_are"] for row in rows(alone.to_csv())} == {"model alone"}
    both = some(refined=True, samples_refined=True)
    assert "model alone" not in both.caption + both.to_csv()
    assert "no range" in some(samples_ml=None).caption


def test_two_labellings_are_compared_class_by_class() -> None:
    first = np.zeros((4, 20, 20), np.uint8)
    first[:, 5:10, 5:10] = 1
    second = np.zeros_like(first)
    second[:, 5:10, 7:12] = 1
    background, one, two = compared(first, second, 3, (2.0, 1.0, 1.0))
    assert one.dice == pytest.approx(2 * 60 / 200)
    assert one.hd95_mm == pytest.approx(2.0)
    assert 0 < one.surface_mm < 2
    assert background.surface_mm is None
    assert (two.dice, two.surface_mm, two.hd95_mm) == (None, None, None)
    same = compared(first, first, 2, (2.0, 1.0, 1.0))[1]
    assert (same.dice, same.surface_mm, same.hd95_mm) == (1, 0, 0)
    (_, gone) = compared(first, np.zeros_like(first), 2, (2.0, 1.0, 1.0))
    assert (gone.dice, gone.surface_mm) == (0, None)
    assert compared(first, second, 2, None)[1].hd95_mm is None
    assert compared(first, second, 2, None, lambda: True) is None


def test_files_hold_what_was_measured(tmp_path: Path) -> None:
    agreement = compared(np.eye(9, dtype=np.uint8), np.eye(9, dtype=np.uint8), 3, (1.0, 1.0))
    whole = some(agreement=agreement)
    write_measurements(tmp_path / "a.csv", whole)
    assert rows((tmp_path / "a.csv").read_text(encoding="utf-8")) == rows(whole.to_csv())
    write_measurements(tmp_path / "a.json", whole)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert Measurements.model_validate_json(text) == whole
    assert len(json.loads(text)["classes"][1]["samples"]) == 20


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.csv or \.json"):
        write_measurements(tmp_path / "a.txt", some())
    with pytest.raises(InputError, match="no folder"):
        write_measurements(tmp_path / "none" / "a.csv", some())
    before = tmp_path / "a.csv"
    before.mkdir()
    with pytest.raises(InputError, match="Cannot write"):
        write_measurements(before, some())
    assert list(tmp_path.iterdir()) == [before]
