"""Predictions of other programs stand in the same table as models."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from evaluate_helpers import dataset, disc, evaluate, model, rows_of, save  # noqa: F401 -- fixtures
from napari_structseg.cohort.cases import Cohort, Selection

CASES = tuple(f"{patient}-{nodule}" for patient in "abc" for nodule in "12")


def predicted(folder: Path, radii: tuple[int, ...]) -> Path:
    """One folder for each member, with a file for each case."""
    for number, radius in enumerate(radii):
        (folder / f"run_{number}").mkdir(parents=True)
        for case in CASES:
            save(folder / f"run_{number}" / f"{case}.png", disc(radius))
    return folder


def summary_of(dataset: Path, out: Path, *arguments: object) -> dict:
    assert evaluate(dataset, *arguments, "--json", out, samples=20) == 0
    return json.loads(out.read_text())


def test_predictions_beside_a_model(dataset, model, tmp_path) -> None:
    runs = predicted(tmp_path / "runs", (3, 5, 7))
    options = ("--model", model, "--predictions", runs, "--name", "three runs")
    summary = summary_of(dataset, tmp_path / "e.json", *options)
    labels = [one["label"] for one in summary["models"]]
    assert labels == ["ssn", "three runs"]
    assert [one["members"] for one in summary["models"]] == [None, 3]
    assert summary["models"][1]["kind"] == "predictions"
    rows = rows_of(tmp_path / "e.json")
    assert len(rows) == 2 * len(CASES)
    assert {"ged", "dice"} <= {one["metric"] for one in summary["comparisons"]}


def test_what_raters_said_has_the_scores_of_a_perfect_model(dataset, tmp_path) -> None:
    """One folder for each rater: their distribution is that of the raters, to the sampling."""
    for case in Cohort(dataset, Selection()):
        for name, labels in zip(("ann", "bea"), case.raters, strict=True):
            (tmp_path / "raters" / name).mkdir(parents=True, exist_ok=True)
            save(tmp_path / "raters" / name / f"{case.name}.png", labels)
    wrong = predicted(tmp_path / "wrong", (9,))
    options = ("--predictions", tmp_path / "raters", wrong)
    summary = summary_of(dataset, tmp_path / "e.json", *options)
    raters, far = summary["models"]
    assert [one["label"] for one in summary["models"]] == ["raters", "wrong"]
    assert raters["metrics"]["ged"]["mean"] < 0.1 < far["metrics"]["ged"]["mean"]
    assert raters["metrics"]["dice"]["mean"] > far["metrics"]["dice"]["mean"]


def test_samples_as_predict_writes_them(dataset, tmp_path) -> None:
    folder = tmp_path / "out"
    for case in CASES:
        (folder / case).mkdir(parents=True)
        for number, radius in enumerate((4, 6), start=1):
            save(folder / case / f"sample-00{number}.png", disc(radius))
        save(folder / case / "mean.png", disc(5))
    summary = summary_of(dataset, tmp_path / "e.json", "--predictions", folder)
    assert summary["models"][0]["members"] == 2


def test_it_resumes_and_other_predictions_are_others(dataset, tmp_path) -> None:
    first = predicted(tmp_path / "first", (3, 5))
    out = tmp_path / "e.json"
    before = summary_of(dataset, out, "--predictions", first)
    rows = rows_of(tmp_path / "e.json")
    out.unlink()
    assert summary_of(dataset, out, "--predictions", first, "--resume") == before
    assert rows_of(tmp_path / "e.json") == rows
    save(first / "run_0" / "a-1.png", disc(8))
    summary_of(dataset, out, "--predictions", first, "--resume")
    assert len(rows_of(tmp_path / "e.json")) == 2 * len(rows)


@pytest.mark.parametrize("what", ["none", "lacking", "labels", "names", "grid", "twice", "colour"])
def test_what_does_not_fit(dataset, tmp_path, capsys, what: str) -> None:
    runs = predicted(tmp_path / "runs", (3, 5))
    options: list[object] = ["--predictions", runs]
    says = {
        "none": "no folder",
        "lacking": "run_1 holds no prediction of the case 'b-2'",
        "labels": "holds the label 2, but there are 2 classes",
        "names": "2 names for 1 folders",
        "grid": "voxel grid",
        "twice": "given twice",
        "colour": "in colour",
    }[what]
    if what == "none":
        options = ["--predictions", tmp_path / "missing"]
    elif what == "lacking":
        (runs / "run_1" / "b-2.png").unlink()
    elif what == "labels":
        save(runs / "run_1" / "b-2.png", 2 * disc(3))
    elif what == "names":
        options += ["--name", "one", "two"]
    elif what == "grid":
        for run in ("run_0", "run_1"):
            save(runs / run / "c-1.png", disc(3)[:-1])
    elif what == "twice":
        options += [predicted(tmp_path / "again", (3, 5))]
    else:
        save(runs / "run_0" / "a-1.png", np.stack([disc(3)] * 3, axis=-1))
    assert evaluate(dataset, *options, "--json", tmp_path / "e.json") == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    assert says in message.replace("\n", " ")
    assert not (tmp_path / "e.json").exists()
