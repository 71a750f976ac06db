from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from napari_structseg.bench.memory import peak_bytes, resident_bytes
from napari_structseg.bench.timing import moved, percentiles, slider_values
from napari_structseg.cli import main
from napari_structseg.controls import Controls
from napari_structseg.errors import ConfigError
from napari_structseg.screen import check_screen

TINY = ["--shape", "10", "12", "14", "--moves", "3", "--memory-moves", "20"]
TIMES = {"p50_ms", "p95_ms"}


@pytest.fixture
def _screen() -> None:
    try:
        check_screen()
    except ConfigError as error:
        pytest.skip(str(error))


def bench(path: Path, *arguments: str) -> dict:
    """Run the benchmark as a user does; its result."""
    program = [sys.executable, "-m", "napari_structseg.cli", "bench", "explore"]
    finished = subprocess.run(
        [*program, "--json", str(path), *TINY, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    for row in ("slice along z", "full volume", "peak memory"):
        assert row in finished.stdout
    return json.loads(path.read_text())


def check_numbers(result: dict) -> None:
    for side in (result, result["direct"]):
        assert set(side["visible_slice"]) == {"z", "y", "x"}
        for times in side["visible_slice"].values():
            assert set(times) == TIMES
            assert 0 < times["p50_ms"] <= times["p95_ms"]
        assert side["full_volume"]["p50_ms"] > 0
        assert side["peak_memory_mb"] > 0
    assert isinstance(result["memory_growth_mb_after_20_moves"], float)
    assert result["environment"]["torch"]
    assert result["environment"]["device"] == "CPU"
    assert result["shape"] == [10, 12, 14]


def test_without_a_window(tmp_path: Path) -> None:
    result = bench(tmp_path / "bench.json", "--no-window")
    check_numbers(result)
    assert result["painted_frame"] is None
    assert result["direct"]["painted_frame"] is None
    assert "--no-window" in result["note"]


@pytest.mark.usefixtures("_screen")
def test_with_a_window(tmp_path: Path) -> None:
    result = bench(tmp_path / "bench.json")
    check_numbers(result)
    painted = result["painted_frame"]
    floor = {"napari_floor_p50_ms", "napari_floor_p95_ms"}
    assert set(painted) == TIMES | floor | {"p95_over_floor"}
    assert all(value > 0 for value in painted.values())
    assert set(result["direct"]["painted_frame"]) == TIMES


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="screens are found by DISPLAY")
def test_without_a_screen_the_message_says_what_to_do(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert main(["bench", "explore", "--json", str(tmp_path / "bench.json"), *TINY]) == 2
    message = capsys.readouterr().err
    assert "There is no screen" in message
    assert "--no-window" in message
    assert "Traceback" not in message
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "options",
    [
        ["--shape", "1", "8", "8"],
        ["--moves", "0"],
        ["--memory-moves", "0"],
        ["--shape", "2", "3"],
        ["--json", "."],
        ["--json", "nowhere/bench.json"],
        ["--shape", "20000", "20000", "20000"],
    ],
)
def test_what_cannot_be_measured_is_refused(options: list[str], tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    given = options if "--json" in options else [*options, "--json", "bench.json"]
    assert main(["bench", "explore", "--no-window", *given]) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("what", ["explore", "meanfield", "sampling", "predict"])
def test_a_device_that_is_not_there_is_refused(what: str, tmp_path: Path, capsys) -> None:
    arguments = ["bench", what, "--json", str(tmp_path / "bench.json"), "--device", "cuda:99"]
    assert main(arguments) == 2
    assert "no device 'cuda:99'" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def test_every_move_changes_a_slider_within_its_range() -> None:
    controls = Controls(sample=1)
    seen = set()
    for what, value in slider_values(300):
        after = moved(controls, what, value)
        Controls.model_validate(after.model_dump())
        assert after != controls
        controls = after
        seen.add((what, round(value, 2)))
    for what in ("temperature", "class_scale"):
        values = {value for name, value in seen if name == what}
        assert min(values) == 0.5
        assert max(values) == 2.0


def test_percentiles_are_in_milliseconds() -> None:
    assert percentiles([0.001] * 19 + [0.1]) == {"p50_ms": 1.0, "p95_ms": pytest.approx(5.95)}


def test_memory_is_that_of_this_process() -> None:
    before = resident_bytes()
    block = bytearray(b"x" * 80_000_000)
    after = resident_bytes()
    assert after - before > 70_000_000
    assert peak_bytes() >= after - 10_000_000
    del block


def test_mean_field_beside_the_direct_way(tmp_path: Path) -> None:
    out = tmp_path / "meanfield.json"
    sizes = ["--shape", "20", "24", "24", "--iterations", "3", "--runs", "1"]
    assert main(["bench", "meanfield", "--json", str(out), *sizes, "--no-window"]) == 0
    result = json.loads(out.read_text())
    assert result["shape"] == [20, 24, 24]
    assert result["first_iteration"] is None
    for case in ("demo_brain", "dense_random"):
        ours = result[case]
        assert ours["is_within_tolerance"]
        assert 0 < ours["largest_difference"] < 1e-5
        for way in (ours, ours["direct"]):
            assert way["ms_per_iteration"] > 0
            assert way["peak_memory_mb"] >= 0
        ratio = ours["direct"]["ms_per_iteration"] / ours["ms_per_iteration"]
        assert ours["speedup"] == pytest.approx(ratio, abs=0.01)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--iterations", "0"], "at least"),
        (["--shape", "1", "24", "24"], "at least 2"),
    ],
)
def test_mean_field_with_settings_that_make_no_sense(
    tmp_path: Path, arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["bench", "meanfield", "--json", str(tmp_path / "x.json"), "--no-window"]
    assert main([*command, *arguments]) == 2
    assert says in capsys.readouterr().err
