"""Fine-tuning in a process of its own: it is told, it tells, and it never leaves half a file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from finetune_helpers import ball_settings
from napari_structseg.errors import ConfigError, InputError
from napari_structseg.finetuning.events import (
    Ended,
    Event,
    Paused,
    Started,
    Stepped,
    Written,
    read_event,
)
from napari_structseg.finetuning.process import LOG_NAME, FinetuneProcess
from napari_structseg.finetuning.run import TUNED_NAME, finetune
from napari_structseg.io.weights import load_weights
from test_finetuning import same_tensors

# Longer than the slowest machine needs; nothing waits for its end.
PATIENCE = 300


class Listener:
    """Keeps what a process tells."""

    def __init__(self, process: FinetuneProcess) -> None:
        self.events: list[Event] = []
        self._changed = threading.Condition()
        self._process = process
        process.told.connect(self._take)

    def _take(self, event: Event) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def of(self, kind: type) -> list:
        return [event for event in self.events if isinstance(event, kind)]

    def wait_for(self, kind: type, n: int = 1) -> None:
        with self._changed:
            came = self._changed.wait_for(
                lambda: len(self.of(kind)) >= n or self.of(Ended), PATIENCE
            )
        assert came
        assert len(self.of(kind)) >= n, self.events[-1]


def started(tmp_path: Path, **fields) -> tuple[FinetuneProcess, Listener]:
    process = FinetuneProcess(ball_settings(tmp_path, **fields), tmp_path / "run")
    listener = Listener(process)
    process.start()
    return process, listener


def test_a_run_in_a_process_tells_what_happens_and_gives_the_same_weights(tmp_path: Path) -> None:
    settings = ball_settings(tmp_path, threads=1, held_out=0)
    process = FinetuneProcess(settings, tmp_path / "run")
    listener = Listener(process)
    process.start()
    ended = process.wait(PATIENCE)
    assert ended is not None, listener.events
    assert ended.reason == "finished", ended.message
    assert [event.step for event in listener.of(Stepped)] == [1, 2, 3, 4, 5, 6]
    assert [event.step for event in listener.of(Written)] == [2, 4, 6]
    assert listener.of(Started)[0].steps == 6
    assert ended.weights == str(tmp_path / "run" / TUNED_NAME)
    assert not process.is_running
    finetune(settings, tmp_path / "here")
    assert same_tensors(tmp_path / "run" / TUNED_NAME, tmp_path / "here" / TUNED_NAME)


def test_it_is_paused_goes_on_and_is_cancelled(tmp_path: Path) -> None:
    process, listener = started(tmp_path, steps=100_000, validate_every=100_000)
    listener.wait_for(Stepped)
    process.pause()
    listener.wait_for(Paused)
    process.step_aside(0.01)
    process.resume()
    listener.wait_for(Paused, 2)
    listener.wait_for(Stepped, len(listener.of(Stepped)) + 2)
    # Also a run that waits can be cancelled.
    process.pause()
    listener.wait_for(Paused, 3)
    process.cancel()
    assert process.wait(PATIENCE).reason == "cancelled"
    assert [event.is_paused for event in listener.of(Paused)] == [True, False, True]
    assert not (tmp_path / "run" / TUNED_NAME).exists()


def test_a_killed_run_goes_on_where_its_checkpoint_is(tmp_path: Path) -> None:
    fields = {"threads": 1, "held_out": 0, "steps": 8}
    settings = ball_settings(tmp_path, **fields)
    process, listener = started(tmp_path, **fields)
    listener.wait_for(Written)
    os.kill(process.pid, signal.SIGKILL)
    ended = process.wait(PATIENCE)
    assert ended is not None
    if ended.reason != "finished":
        assert ended.reason == "crashed"
        assert f"signal {int(signal.SIGKILL)}" in ended.message
    # What lies there is whole, whatever it was doing.
    load_weights(tmp_path / "run" / "model.safetensors")
    again = FinetuneProcess(None, tmp_path / "run")
    seen = Listener(again)
    again.start()
    assert again.wait(PATIENCE).reason == "finished"
    assert seen.of(Started)[0].step >= 2
    finetune(settings, tmp_path / "straight")
    assert same_tensors(tmp_path / "straight" / TUNED_NAME, tmp_path / "run" / TUNED_NAME)


PARENT = """
import sys, threading
from pathlib import Path
from napari_structseg.finetuning.events import Stepped
from napari_structseg.finetuning.process import FinetuneProcess
from napari_structseg.finetuning.settings import read_settings

folder = Path(sys.argv[1])
process = FinetuneProcess(read_settings(folder), folder / "run")
stepped = threading.Event()
process.told.connect(lambda event: stepped.set() if isinstance(event, Stepped) else None)
process.start()
stepped.wait()
if sys.argv[2] == "paused":
    process.pause()
print(process.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="waits for a process of others")
@pytest.mark.parametrize("state", ["running", "paused"])
def test_an_orphan_ends_after_its_checkpoint(tmp_path: Path, state: str) -> None:
    import select

    ball_settings(tmp_path, steps=100_000, held_out=0, weights_every=100_000).write(tmp_path)
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path), state],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    orphan = os.pidfd_open(int(parent.stdout.readline()))
    parent.kill()
    parent.communicate()
    ready, _, _ = select.select([orphan], [], [], PATIENCE)
    os.close(orphan)
    assert ready
    _, spec = load_weights(tmp_path / "run" / "model.safetensors")
    assert 1 <= spec.training.steps < 100_000


def test_what_does_not_fit_is_refused_in_words(tmp_path: Path) -> None:
    settings = ball_settings(tmp_path, cases=[{"image": ["none.nii.gz"], "labels": "none.nii.gz"}])
    process = FinetuneProcess(settings, tmp_path / "run")
    listener = Listener(process)
    process.start()
    ended = process.wait(PATIENCE)
    assert ended.reason == "refused"
    assert "none.nii.gz" in ended.message
    assert listener.events[-1] == ended


def test_a_folder_with_a_run_or_without_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no fine-tuning run"):
        FinetuneProcess(None, tmp_path / "empty")
    settings = ball_settings(tmp_path, steps=1, held_out=0)
    finetune(settings, tmp_path / "run")
    with pytest.raises(ConfigError, match="already holds a run"):
        FinetuneProcess(settings, tmp_path / "run")


def test_a_process_that_cannot_begin_says_why(tmp_path: Path) -> None:
    settings = ball_settings(tmp_path)
    process = FinetuneProcess(settings, tmp_path / "run")
    (tmp_path / "run" / "finetune.json").write_text("{}")
    process.start()
    ended = process.wait(PATIENCE)
    assert ended.reason == "refused"
    assert "model" in ended.message
    assert (tmp_path / "run" / LOG_NAME).exists()


def test_events_survive_numbers_that_are_not_finite() -> None:
    event = Stepped(step=1, steps=2, loss=float("inf"), elapsed=1.0, remaining=1.0)
    assert read_event(event.model_dump_json()) == event
    assert json.loads(event.model_dump_json().replace("Infinity", "1"))["event"] == "stepped"
