"""Rows of an evaluation: interrupted, continued, damaged, or of another machine."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import copy

import pytest

from evaluate_helpers import dataset, disc, evaluate, model, rows_of, save, two_class_model  # noqa: F401
from napari_structseg.cohort.cases import Cohort, Selection
from napari_structseg.cohort.draws import DrawSettings
from napari_structseg.cohort.run import evaluate as run_evaluation
from napari_structseg.cohort.settings import Evaluation
from napari_structseg.models import HeadSpec

# A shell that runs the tests in the background may have told them, and what they start, not to.
HEEDING_CTRL_C = """
import signal, sys
from napari_structseg.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(main(sys.argv[1:]))
"""


@contextmanager
def full_disk(n_bytes: int) -> Iterator[None]:
    """The system refuses files that are larger, as a full disk does."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_interrupted_rows_are_continued(dataset, model, tmp_path: Path, capsys) -> None:
    whole, out = tmp_path / "whole.json", tmp_path / "results.json"
    evaluate(dataset, "--model", model, "--json", whole)
    lines = (tmp_path / "whole.rows.jsonl").read_text().splitlines(keepends=True)
    # Stopped in the middle of writing the third row.
    (tmp_path / "results.rows.jsonl").write_text("".join(lines[:3]) + lines[3][:40])
    assert evaluate(dataset, "--model", model, "--json", out) == 2
    assert "already holds results.rows.jsonl" in capsys.readouterr().err
    assert evaluate(dataset, "--model", model, "--json", out, "--resume") == 0
    assert rows_of(out) == rows_of(whole)
    found, wanted = (json.loads(path.read_text()) for path in (out, whole))
    assert found | {"command": []} == wanted | {"command": []}


def test_overwriting_leaves_no_summary_beside_other_rows(dataset, model, tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    evaluate(dataset, "--model", model, "--json", out)

    def interrupt(what: str, done: int, _total: int) -> None:
        if what == "Evaluating" and done == 2:
            raise KeyboardInterrupt

    evaluation = Evaluation(dataset, (str(model),), DrawSettings(3), device="cpu")
    with pytest.raises(KeyboardInterrupt):
        run_evaluation(evaluation, out, overwrite=True, report=interrupt)
    assert not out.exists()
    assert len(rows_of(out)) == 2
    again = run_evaluation(evaluation, out, resume=True)
    assert len(rows_of(out)) == 6
    assert again == json.loads(out.read_text())


def test_a_model_may_be_added(dataset, model, tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    evaluate(dataset, "--model", model, "--json", out)
    first = rows_of(out)
    point = two_class_model(tmp_path / "unet.safetensors", head=HeadSpec(kind="point"))
    assert evaluate(dataset, "--model", model, point, "--json", out, "--resume") == 0
    assert rows_of(out)[:6] == first
    assert len(rows_of(out)) == 12
    assert len(json.loads(out.read_text())["models"]) == 2


def test_rows_of_other_settings_are_not_mixed(dataset, model, tmp_path: Path, capsys) -> None:
    out = tmp_path / "results.json"
    evaluate(dataset, "--model", model, "--json", out)
    again = ("--model", model, "--json", out, "--resume")
    assert evaluate(dataset, *again, samples=7) == 2
    assert "another evaluation: samples 6; now samples 7" in capsys.readouterr().err
    save(dataset / "labelsTr" / "a-1__ann.png", disc(9))
    assert evaluate(dataset, *again) == 2
    assert "another evaluation: data" in capsys.readouterr().err
    assert evaluate(dataset, *again[:-1], "--overwrite") == 0


@pytest.mark.parametrize("line", ["{}", "no JSON", '{"model": "x"}'])
def test_damaged_rows_are_named(dataset, model, tmp_path: Path, capsys, line: str) -> None:
    out = tmp_path / "results.json"
    evaluate(dataset, "--model", model, "--json", out)
    rows = tmp_path / "results.rows.jsonl"
    lines = rows.read_text().splitlines()
    rows.write_text("\n".join([lines[0], line, *lines[2:]]) + "\n")
    assert evaluate(dataset, "--model", model, "--json", out, "--resume") == 2
    assert "Line 2 of" in capsys.readouterr().err
    rows.write_text(line + "\n")
    assert evaluate(dataset, "--model", model, "--json", out, "--resume") == 2
    assert "holds no rows of this version" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("device", "NVIDIA H100", 'device "NVIDIA H100"; now device "CPU"'),
        ("threads", 64, "threads 64; now threads"),
        ("version of torch", "1.0", 'version of torch "1.0"; now version of torch'),
    ],
)
def test_rows_of_another_machine_are_not_mixed(
    dataset, model, tmp_path: Path, capsys, *, name: str, value, said: str
) -> None:
    out = tmp_path / "results.json"
    evaluate(dataset, "--model", model, "--json", out)
    rows = tmp_path / "results.rows.jsonl"
    first, *others = rows.read_text().splitlines()
    header = json.loads(first)
    header["settings"][name] = value
    rows.write_text("\n".join([json.dumps(header), *others]) + "\n")
    assert evaluate(dataset, "--model", model, "--json", out, "--resume") == 2
    assert said in capsys.readouterr().err


def without(*keys: str):
    def change(row: dict) -> None:
        for key in keys[:-1]:
            row = row[key]
        del row[keys[-1]]

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without("scores"), "Field required"),
        (without("scores", "dice"), "it lacks or adds the metric 'dice'"),
        (lambda row: row["scores"].update(ged_3=[1.0]), "it lacks or adds the metric 'ged_3'"),
        (lambda row: row["reliability"][0].pop(), "at least 15 items"),
        (lambda row: row["scores"].update(ged=[float("nan")]), "is not a row"),
        (lambda row: row.update(case="a-2"), "the case 'a-2' came before"),
    ],
)
def test_rows_with_foreign_content_are_named(
    dataset, model, tmp_path: Path, capsys, *, change, said: str
) -> None:
    out = tmp_path / "results.json"
    evaluate(dataset, "--model", model, "--json", out)
    rows = tmp_path / "results.rows.jsonl"
    lines = rows.read_text().splitlines()
    changed = json.loads(lines[3])
    change(changed)
    rows.write_text("\n".join([*lines[:3], json.dumps(changed), *lines[4:]]) + "\n")
    assert evaluate(dataset, "--model", model, "--json", out, "--resume") == 2
    message = capsys.readouterr().err
    assert "Line 4 of" in message
    assert said in message


@pytest.mark.parametrize("foreign", [b"\xff\xfe\x00\n", b"[" * 50_000 + b"\n", b"9" * 5000 + b"\n"])
def test_rows_with_foreign_bytes_are_named(
    dataset, model, tmp_path: Path, capsys, foreign: bytes
) -> None:
    out = tmp_path / "results.json"
    evaluate(dataset, "--model", model, "--json", out)
    rows = tmp_path / "results.rows.jsonl"
    whole = rows.read_bytes()
    rows.write_bytes(whole + foreign)
    assert evaluate(dataset, "--model", model, "--json", out, "--resume") == 2
    assert "Line 8 of" in capsys.readouterr().err
    rows.write_bytes(foreign + whole)
    assert evaluate(dataset, "--model", model, "--json", out, "--resume") == 2
    assert "holds no rows of this version" in capsys.readouterr().err


@pytest.mark.parametrize("kept", [0, 3])
def test_full_disk_keeps_the_rows(dataset, model, tmp_path: Path, capsys, kept: int) -> None:
    whole, out = tmp_path / "whole.json", tmp_path / "results.json"
    rows = tmp_path / "results.rows.jsonl"
    evaluate(dataset, "--model", model, "--json", whole)
    lines = (tmp_path / "whole.rows.jsonl").read_bytes().splitlines(keepends=True)
    resume = []
    if kept:
        rows.write_bytes(b"".join(lines[:kept]))
        resume = ["--resume"]
    with full_disk(sum(map(len, lines[:kept])) + 100):
        assert evaluate(dataset, "--model", model, "--json", out, *resume) == 2
    message = capsys.readouterr().err
    assert "Cannot write" in message
    assert "then continue with --resume" in message
    assert rows.read_bytes().startswith(b"".join(lines[:kept]))
    assert not out.exists()
    assert evaluate(dataset, "--model", model, "--json", out, "--resume") == 0
    assert rows_of(out) == rows_of(whole)


def test_ctrl_c_keeps_the_rows(dataset, model, tmp_path: Path) -> None:
    # Enough work for the signal to come in the middle of it, however busy the machine.
    n_cases = 30
    for number in range(3, n_cases - 3):
        for file in [*dataset.rglob("c-2_*")]:
            copy(file, file.with_name(file.name.replace("c-2", f"c-{number}")))
    out = tmp_path / "results.json"
    rows = tmp_path / "results.rows.jsonl"
    command = [sys.executable, "-c", HEEDING_CTRL_C, "evaluate", str(dataset)]
    command += ["--model", str(model), "--samples", "2000", "--json", str(out), "--device", "cpu"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        while not (rows.exists() and len(rows.read_text().splitlines()) > 1):
            with suppress(subprocess.TimeoutExpired):
                pytest.fail(f"ended with code {process.wait(timeout=0.05)}")
        process.send_signal(signal.SIGINT)
        _, message = process.communicate()
    finally:
        process.kill()
    assert process.returncode == 130
    assert "--resume" in message
    assert "Traceback" not in message
    assert not out.exists()
    assert 1 <= len(rows_of(out)) < n_cases


def test_ctrl_c_comes_after_a_case_is_read(dataset) -> None:
    cohort = Cohort(dataset, Selection())
    inner, finished = cohort._source, []

    class Pressed:
        def read(self, *case):
            signal.raise_signal(signal.SIGINT)
            found = inner.read(*case)
            finished.append(case)
            return found

    cohort._source = Pressed()
    with pytest.raises(KeyboardInterrupt):
        cohort.read(cohort.cases[0])
    assert len(finished) == 1
