"""`structseg bench sampling`, on images of a few voxels."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from napari_structseg.bench.sampling import bench_sampling, rows
from napari_structseg.cli import main


def test_both_ways_give_the_same_logits() -> None:
    said: list[str] = []
    result = bench_sampling([(9, 8), (5, 6, 7)], (1, 3), 1, said.append)
    assert [(case["shape"], case["samples"]) for case in result["cases"]] == [
        ([9, 8], 1),
        ([9, 8], 3),
        ([5, 6, 7], 1),
        ([5, 6, 7], 3),
    ]
    assert all(case["is_within_tolerance"] for case in result["cases"])
    assert all(case["largest_difference"] < 1e-4 for case in result["cases"])
    assert len(said) == 8
    assert len(rows(result)) == 4
    assert json.loads(json.dumps(result)) == result


@pytest.mark.parametrize("option", ["--samples 0", "--sizes 0 4", "--runs 0"])
def test_numbers_below_one_are_refused(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["bench", "sampling", "--json", str(tmp_path / "s.json"), *option.split()]
    assert main(arguments) == 2
    assert "numbers of at least 1" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
