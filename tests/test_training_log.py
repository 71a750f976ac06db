"""What `structseg train` writes beside the weights, signals, workers and folds."""

from __future__ import annotations

import csv
import json
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from napari_structseg.cli import EXIT_TERMINATED
from napari_structseg.data.splits import SPLITS
from napari_structseg.errors import ConfigError, InputError
from napari_structseg.interrupts import Terminated
from napari_structseg.training.checkpoint import read_checkpoint
from napari_structseg.training.input.batches import batches
from napari_structseg.training.log import COLUMNS, LOG_NAME
from napari_structseg.training.schedule import learning_rate
from napari_structseg.training.trainer import CHECKPOINT_NAME, WEIGHTS_NAME, Progress
from test_cli_train import dataset, train, write_config  # noqa: F401
from test_training import Stripes, dice_of, make_config, make_trainer, same_files, stop_at


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / LOG_NAME).open(newline="") as file:
        return list(csv.DictReader(file))


def test_log_has_a_line_for_each_step(tmp_path: Path) -> None:
    config, losses = make_config(), []
    trainer = make_trainer(tmp_path, config, validate=dice_of(lambda calls: 0.1 * (calls + 1)))
    trainer.run(lambda progress: losses.append(progress.loss))
    rows = rows_of(tmp_path)
    assert tuple(rows[0]) == COLUMNS
    assert [int(row["step"]) for row in rows] == list(range(1, 13))
    assert [float(row["loss"]) for row in rows] == pytest.approx(losses, rel=1e-5)
    rates = [learning_rate(config, step) for step in range(12)]
    assert [float(row["learning_rate"]) for row in rows] == pytest.approx(rates, rel=1e-5)
    assert [row["dice"] for row in rows if row["dice"]] == ["0.1", "0.2", "0.3"]
    assert all(float(row["seconds_per_step"]) > 0 for row in rows)


@pytest.mark.parametrize("cut", ["", "7,0.5"])
def test_log_survives_a_resume_without_doubles(tmp_path: Path, cut: str) -> None:
    make_trainer(tmp_path / "straight").run()
    trainer = make_trainer(tmp_path)

    def crash(progress: Progress) -> None:
        if progress.step == 6:
            raise ValueError("as if the machine had died")

    with pytest.raises(ValueError, match="had died"):
        trainer.run(crash)
    assert trainer.saved_step == 4
    assert len(rows_of(tmp_path)) == 6
    with (tmp_path / LOG_NAME).open("a") as file:
        file.write(cut)
    make_trainer(tmp_path, resume=True).run()
    kept = [[row["step"], row["loss"], row["learning_rate"]] for row in rows_of(tmp_path)]
    straight = rows_of(tmp_path / "straight")
    assert kept == [[row["step"], row["loss"], row["learning_rate"]] for row in straight]


@pytest.mark.parametrize("content", [b"something else\n1\n", b"\xff\xfe\x00", b""])
def test_a_file_that_is_no_log_is_not_replaced(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(KeyboardInterrupt):
        make_trainer(tmp_path).run(stop_at(3))
    (tmp_path / LOG_NAME).write_bytes(content)
    with pytest.raises(InputError, match="is not the log of a training run"):
        make_trainer(tmp_path, resume=True).run()
    assert (tmp_path / LOG_NAME).read_bytes() == content


def test_seconds_per_step_are_a_running_mean(tmp_path: Path) -> None:
    seconds: list[float] = []
    trainer = make_trainer(tmp_path, make_config(steps=30))
    totals = []

    def report(progress: Progress) -> None:
        seconds.append(progress.seconds_per_step)
        totals.append(trainer._state.seconds)

    trainer.run(report)
    single = np.diff([0.0, *totals])
    expected = [single[max(0, n - 20) : n].mean() for n in range(1, 31)]
    assert seconds == pytest.approx(expected)


def test_tensorboard_has_the_same_numbers(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    make_trainer(tmp_path, validate=dice_of(lambda _: 0.5)).run()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    losses = [event.value for event in events.Scalars("loss")]
    assert losses == pytest.approx([float(row["loss"]) for row in rows_of(tmp_path)], rel=1e-4)
    assert [event.step for event in events.Scalars("dice")] == [5, 10, 12]


# Signals.


def test_sigterm_keeps_the_work_as_ctrl_c_does(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    trainer = make_trainer(tmp_path)

    def terminate(*_: object) -> None:
        if trainer.step == 4:
            signal.raise_signal(signal.SIGTERM)

    trainer.optimiser.register_step_pre_hook(terminate)
    with pytest.raises(Terminated):
        trainer.run()
    assert read_checkpoint(tmp_path / CHECKPOINT_NAME).state.step == 5
    assert signal.getsignal(signal.SIGTERM) is before
    make_trainer(tmp_path / "straight").run()
    make_trainer(tmp_path, resume=True).run()
    assert same_files(tmp_path / "straight" / WEIGHTS_NAME, tmp_path / WEIGHTS_NAME)


def test_command_ends_with_the_code_of_sigterm(dataset, tmp_path: Path, capsys) -> None:
    config, out = write_config(tmp_path, steps=10**6), tmp_path / "run"

    def terminate() -> None:
        # The log is there from the first step on, and signals are held back by then.
        while not (out / LOG_NAME).exists():
            time.sleep(0.01)
        signal.raise_signal(signal.SIGTERM)

    # What ran before may have left another handler than the one of a new process.
    thread = threading.Thread(target=terminate)
    thread.start()
    assert train(dataset, config, out) == EXIT_TERMINATED
    thread.join()
    printed = capsys.readouterr().err
    assert "is kept in" in printed
    assert "--resume" in printed


# More steps.


def test_a_run_goes_on_for_longer(tmp_path: Path) -> None:
    make_trainer(tmp_path).run()
    longer = make_config(steps=20, workers=2)
    trainer = make_trainer(tmp_path, longer, resume=True)
    assert trainer.step == 12
    trainer.run()
    rows = rows_of(tmp_path)
    assert [int(row["step"]) for row in rows] == list(range(1, 21))
    assert float(rows[12]["learning_rate"]) == pytest.approx(learning_rate(longer, 12), rel=1e-5)
    # From now on it is a run of 20 steps.
    with pytest.raises(ConfigError, match=r"different: steps\)"):
        make_trainer(tmp_path, resume=True)
    make_trainer(tmp_path, longer, resume=True)


# Workers.


class Wide(Stripes):
    """Notes which threads draw its patches."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: set[str] = set()

    def patch(self, rng: np.random.Generator):
        self.threads.add(threading.current_thread().name)
        return super().patch(rng)


@pytest.mark.parametrize("batch", [1, 3])
def test_patches_do_not_depend_on_the_workers(batch: int) -> None:
    drawn = []
    for workers in (1, 2, 5):
        config = make_config(batch=batch, workers=workers, steps=9)
        drawn.append(list(batches(Wide(), config, 2)))
        assert len(drawn[-1]) == 7
    for other in drawn[1:]:
        for ours, theirs in zip(drawn[0], other, strict=True):
            assert all((a == b).all() for a, b in zip(ours, theirs, strict=True))


def test_workers_end_with_the_run(tmp_path: Path) -> None:
    source = Wide()
    with pytest.raises(KeyboardInterrupt):
        make_trainer(tmp_path, make_config(workers=3, steps=10**15), source=source).run(stop_at(4))
    assert all(name.startswith("structseg-patches") for name in source.threads)
    assert not {thread.name for thread in threading.enumerate()} & source.threads


def test_trained_weights_do_not_depend_on_the_workers(tmp_path: Path) -> None:
    for workers in (1, 4):
        make_trainer(tmp_path / f"{workers}", make_config(workers=workers)).run()
    ours, theirs = (load_file(tmp_path / name / WEIGHTS_NAME) for name in ("1", "4"))
    assert all((ours[name] == theirs[name]).all() for name in ours)


# Folds.


@pytest.mark.parametrize("fold", [0, 1])
def test_fold_says_who_is_trained_on(dataset, tmp_path: Path, fold: int) -> None:
    from napari_structseg.training.config import read_config, with_options
    from napari_structseg.training.sources import build_run

    folds = [{"train": ["c0", "c2"], "val": ["c1"]}, {"train": ["c1"], "val": ["c2", "c0"]}]
    (dataset / SPLITS).write_text(json.dumps(folds))
    config = with_options(read_config(write_config(tmp_path)), fold=fold)
    received: list[str] = []
    _, source, validator = build_run(config, dataset, lambda _a, _b, name: received.append(name))
    assert [case.name for case in source.cases] == folds[fold]["train"]
    assert received == [["c0", "c2", "c1"], ["c1", "c0"]][fold]
    assert validator is not None


@pytest.mark.parametrize(
    ("content", "fold", "reason"),
    [
        (None, 0, "splits_final.json cannot be read"),
        ([], 0, "has 0 folds"),
        ([{"train": ["c0"]}], 1, "fold 1 was asked for"),
        ([{"train": ["c0"], "val": ["c9"]}], 0, "that the data set does not have: 'c9'"),
        ([{"train": ["c0", "c1"], "val": ["c1"]}], 0, "on both sides: 'c1'"),
        ([{"train": [], "val": ["c1"]}], 0, "names no case to train on"),
        ({"train": []}, 0, "is not a list of folds"),
        ([{"val": ["c1"]}], 0, "is not a list of folds"),
        ([], -1, "fold: Input should be greater than or equal to 0"),
    ],
)
def test_fold_that_does_not_fit_is_refused(
    dataset, tmp_path: Path, capsys, *, content, fold: int, reason: str
) -> None:
    if content is not None:
        (dataset / SPLITS).write_text(json.dumps(content))
    assert train(dataset, write_config(tmp_path), tmp_path / "run", f"--fold={fold}") == 2
    assert reason in capsys.readouterr().err


def test_fold_is_part_of_the_run(dataset, tmp_path: Path, capsys) -> None:
    folds = [{"train": ["c0"], "val": ["c1"]}, {"train": ["c1"], "val": ["c0"]}]
    (dataset / SPLITS).write_text(json.dumps(folds))
    config, out = write_config(tmp_path), tmp_path / "run"
    assert train(dataset, config, out, "--fold=0", "--workers=2") == 0
    assert train(dataset, config, out, "--fold=1", "--resume") == 2
    assert "different: fold" in capsys.readouterr().err
    assert train(dataset, config, out, "--fold=0", "--resume") == 0
