"""`structseg bench history`, on an image of a few voxels."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from napari_structseg.cli import main


def test_every_step_is_timed_and_comes_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "history.json"
    arguments = ["bench", "history", "--json", str(path), "--shape", "12", "13", "14"]
    assert main([*arguments, "--actions", "5"]) == 0
    result = json.loads(path.read_text())
    assert result["actions"] == 5
    assert result["is_same"]
    assert 0 < result["bytes_per_step"] < result["direct"]["bytes_per_step"] == 12 * 13 * 14
    assert all(result[name]["p50_ms"] > 0 for name in ("accept", "undo", "redo"))
    assert "memory of a step" in capsys.readouterr().out
    assert main([*arguments, "--actions", "0"]) == 2
    assert "--actions at least 1" in capsys.readouterr().err
