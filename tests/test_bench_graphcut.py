"""`structseg bench graphcut` on tiny images: both ways agree, and the figures are there."""

from __future__ import annotations

import json
from importlib.util import find_spec

import pytest

from napari_structseg.bench.graphcut import bench_graphcut, rows, slice_rows
from napari_structseg.cli import main

LIBRARIES = [name for name in ("scipy", "pymaxflow") if name == "scipy" or find_spec("maxflow")]


@pytest.mark.parametrize("by", LIBRARIES)
def test_both_give_the_same_labels_and_are_timed(by) -> None:
    told: list[str] = []
    shapes, slices = {"2d": (20, 24), "3d": (6, 8, 10)}, {"slice": (4, 10, 12), "flat": (10, 12)}
    result = bench_graphcut(shapes, 1, told.append, by, slices=slices, moves=3)
    compared = ["2d", "2d_undecided", "3d", "3d_undecided"]
    alone, moved = ["2d_expansion", "3d_expansion"], ["slice", "flat"]
    assert told == [*compared[:2], alone[0], *compared[2:], alone[1], *moved]
    for what in compared:
        part = result[what]
        assert part["ratio"] == pytest.approx(part["ours_ms"] / part["library_ms"], rel=0.05)
    assert result["library"] == by
    assert all(result[what]["ours_ms"] > 0 for what in alone)
    assert len(rows(result)) == 6
    for what in moved:
        assert 0 < result[what]["p50_ms"] <= result[what]["p95_ms"]
    assert [what for what, _, _ in slice_rows(result)] == ["slice", "flat"]
    json.dumps(result)


def test_no_runs_are_refused(tmp_path, capsys) -> None:
    assert main(["bench", "graphcut", "--json", str(tmp_path / "b.json"), "--runs", "0"]) == 2
    assert "--runs" in capsys.readouterr().err
