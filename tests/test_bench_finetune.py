"""`structseg bench finetune`, small."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from napari_structseg.cli import main
from napari_structseg.errors import ConfigError
from napari_structseg.screen import check_screen

TINY = ("--shape", "20", "30", "40", "--moves", "10", "--seconds", "0.5", "--patch", "16")


def measured(path: Path, *options: str) -> dict:
    assert main(["bench", "finetune", "--json", str(path), *TINY, *options]) == 0
    return json.loads(path.read_text())


def test_without_a_window(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = measured(tmp_path / "bench.json", "--no-window")
    for name in ("slider_p50_ms", "slider_p95_ms", "first_move_p95_ms"):
        times = result[name]
        assert min(times["alone"], times["training"]) > 0
        assert times["ratio"] == pytest.approx(times["training"] / times["alone"], rel=0.05)
    assert result["steps_per_second"]["alone"] >= 0
    assert result["steps_per_second"]["exploring"] >= 0
    assert result["painted"] is False
    assert "steps of training" in capsys.readouterr().out


def test_with_painted_frames(tmp_path: Path) -> None:
    try:
        check_screen()
    except ConfigError as error:
        pytest.skip(str(error))
    assert measured(tmp_path / "bench.json")["painted"] is True


def test_numbers_that_measure_nothing_are_refused(tmp_path: Path, capsys) -> None:
    asked = ("bench", "finetune", "--json", str(tmp_path / "bench.json"), "--moves", "0")
    assert main(list(asked)) == 2
    assert "at least 1" in capsys.readouterr().err
