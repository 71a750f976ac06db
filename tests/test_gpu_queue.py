"""The queue of experiments/gpu.py: in order, stopped in time, and gone on with."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "experiments" / "gpu.py"
# Waits until it is asked to stop, as a training does, and is complete when it is called again.
WAITING = """
import pathlib, signal, sys, time
mark = pathlib.Path({mark!r})
if mark.exists():
    sys.exit("--resume" not in sys.argv)
def stop(*_):
    mark.write_text("checkpoint")
    sys.exit(1)
signal.signal(signal.SIGTERM, stop)
time.sleep(60)
"""


@pytest.fixture(scope="module")
def gpu() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_queue", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu_queue"] = module
    spec.loader.exec_module(module)
    return module


def statuses(work: Path) -> dict[str, str]:
    record = json.loads((work / "done.json").read_text())
    return {name: entry["status"] for name, entry in record.items()}


def test_a_training_is_stopped_in_time_and_resumed(gpu: ModuleType, tmp_path: Path) -> None:
    mark = tmp_path / "checkpoint.safetensors"
    queue = [
        gpu.Task("first", ("-c", "print('hello')")),
        gpu.Task("training", ("-c", WAITING.format(mark=str(mark))), mark),
    ]
    assert not gpu.run(queue, tmp_path, time.monotonic() + 12, grace=4)
    assert statuses(tmp_path) == {"first": "done", "training": "stopped"}
    assert mark.read_text() == "checkpoint"
    assert (tmp_path / "first.log").read_text() == "hello\n"
    assert gpu.run(queue, tmp_path, time.monotonic() + 60, grace=3)
    assert statuses(tmp_path) == {"first": "done", "training": "done"}
    # What is done is not repeated.
    assert (tmp_path / "first.log").read_text() == "hello\n"


def test_what_fails_does_not_hold_up_the_rest(gpu: ModuleType, tmp_path: Path) -> None:
    queue = [
        gpu.Task("broken", ("-c", "raise SystemExit(2)")),
        gpu.Task("next", ("-c", "pass")),
    ]
    assert not gpu.run(queue, tmp_path, time.monotonic() + 60, grace=1)
    assert statuses(tmp_path) == {"broken": "failed", "next": "done"}


def test_every_command_of_the_queue_is_understood(gpu: ModuleType, tmp_path: Path) -> None:
    from napari_structseg.training.config import read_config

    queue = gpu.tasks(tmp_path / "data", tmp_path, "cuda")
    assert [task.name for task in queue][:2] == ["brain-tissue, mean", "brain-tissue, likelihood"]
    for task in queue:
        arguments = task.arguments()
        assert "--resume" not in arguments
        if "train" in arguments:
            read_config(Path(arguments[arguments.index("--config") + 1]))
        elif arguments[1].endswith(".py"):
            assert Path(arguments[1]).is_file()


def test_nested_figures_become_rows(gpu: ModuleType) -> None:
    found = {"a": 1.23456, "machine": "x", "b": {"c": 2, "ok": True}}
    assert gpu._figures(found) == [("a", 1.2346), ("b.c", 2)]
