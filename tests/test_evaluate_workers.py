"""`structseg evaluate` in several processes: the rows and the summary of one process."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from evaluate_helpers import dataset, model, rows_of, two_class_model  # noqa: F401
from napari_structseg.cohort.draws import DrawSettings
from napari_structseg.cohort.rows import RowFile
from napari_structseg.cohort.run import evaluate
from napari_structseg.cohort.settings import Evaluation
from napari_structseg.workers.crew import Crew

pytest.importorskip("distributed", reason="the extra [cohort] is not installed")


def by_case(path: Path) -> list[dict[str, object]]:
    return sorted(rows_of(path), key=lambda row: (row["case"], row["model"]))


def test_workers_give_the_rows_of_one_process_also_when_they_are_killed(
    dataset: Path, model: Path, tmp_path: Path
) -> None:
    other = two_class_model(tmp_path / "other.safetensors", spacing=(2.0, 2.0))
    evaluation = Evaluation(
        dataset, (str(model), str(other)), DrawSettings(n_samples=3), device="cpu"
    )
    files = [tmp_path / folder / "result.json" for folder in ("serial", "workers")]
    for file in files:
        file.parent.mkdir()
    killed = []

    def kill(what: str, done: int, total: int) -> None:
        # The first case has come; the others are still handed out.
        if what == "Evaluating" and done == 2 and not killed:
            for process in multiprocessing.active_children():
                killed.append(process.pid)
                os.kill(process.pid, signal.SIGKILL)

    serial = evaluate(evaluation, files[0])
    spread = evaluate(evaluation, files[1], report=kill, crew=Crew(workers=2))
    assert len(killed) == 2
    assert len(rows_of(files[1])) == 12
    assert by_case(files[1]) == by_case(files[0])
    assert spread == serial
    assert json.loads(files[1].read_text()) == json.loads(files[0].read_text())
    assert not multiprocessing.active_children()


def test_sums_do_not_depend_on_the_order_of_rows(
    dataset: Path, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "result.json"
    evaluation = Evaluation(dataset, (str(model),), DrawSettings(n_samples=2), device="cpu")
    first = evaluate(evaluation, out)
    path = tmp_path / "result.rows.jsonl"
    header, *rows = path.read_text().splitlines(keepends=True)
    path.write_text("".join([header, *rows[::-1]]))
    with RowFile(path, first["settings"], resume=True) as file:
        assert [row.case for row in file.in_order()] == sorted(row.case for row in file)
    assert evaluate(evaluation, out, resume=True) == first
