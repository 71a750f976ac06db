"""`structseg bench correct`, small."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from napari_structseg.bench.correct import dabs
from napari_structseg.cli import main
from napari_structseg.errors import ConfigError
from napari_structseg.screen import check_screen

TINY = ("--shape", "10", "30", "40", "--strokes", "4", "--direct-strokes", "2")


def measured(path: Path, *options: str) -> dict:
    assert main(["bench", "correct", "--json", str(path), *TINY, *options]) == 0
    return json.loads(path.read_text())


def test_without_a_window(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = measured(tmp_path / "bench.json", "--no-window")
    for times in (result["stroke_to_slice"], result["stroke_to_labels"], result["direct"]):
        assert 0 < times["p50_ms"] <= times["p95_ms"]
    assert result["stroke_to_slice"]["painted"] is False
    assert result["first_stroke_ms"] > 0
    assert result["speedup"] > 0
    assert (result["shape"], result["rank"]) == ([10, 30, 40], 10)
    assert "the full-volume way" in capsys.readouterr().out


def test_with_painted_frames(tmp_path: Path) -> None:
    try:
        check_screen()
    except ConfigError as error:
        pytest.skip(str(error))
    said = measured(tmp_path / "bench.json")["stroke_to_slice"]
    assert said["painted"] is True
    assert 0 < said["p50_ms"] <= said["p95_ms"]
    assert 0 < said["event"]["p50_ms"] <= said["p50_ms"]


def test_each_dab_is_added_to_those_before() -> None:
    shape = (4, 40, 40)
    before = 0
    for strokes in dabs(shape, 6):
        assert len(strokes) > before
        before = len(strokes)
        assert (strokes.positions[:, 0] == 2).all()
        assert (np.diff(strokes.voxels) > 0).all()


def test_numbers_that_measure_nothing_are_refused(tmp_path: Path, capsys) -> None:
    asked = ("bench", "correct", "--json", str(tmp_path / "bench.json"), "--strokes", "0")
    assert main(list(asked)) == 2
    assert "at least 1" in capsys.readouterr().err
