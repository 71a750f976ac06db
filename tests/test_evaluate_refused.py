"""What `structseg evaluate` refuses before anything is computed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from evaluate_helpers import (  # noqa: F401
    CLASSES,
    N_SAMPLES,
    dataset,
    disc,
    evaluate,
    model,
    save,
    two_class_model,
    write_table,
)
from napari_structseg.cli import main
from napari_structseg.models import ClassSpec
from napari_structseg.priors import PriorSpec
from tiny_models import tiny_model


@pytest.fixture
def refused(dataset: Path, model: Path, tmp_path: Path, capsys):
    """Expects a reason, exit code 2 and no files."""

    def check(options: list[object], reason: str) -> None:
        out = tmp_path / "results.json"
        given = {"--model": model, "--samples": N_SAMPLES, "--json": out, "--device": "cpu"}
        words = [word for pair in given.items() if pair[0] not in options for word in pair]
        assert main(["evaluate", str(dataset), *map(str, (*words, *options))]) == 2
        message = capsys.readouterr().err
        assert reason in message
        assert "Traceback" not in message
        assert not out.exists()
        assert not (tmp_path / "results.rows.jsonl").exists()

    return check


@pytest.mark.parametrize(
    ("text", "options", "reason"),
    [
        (None, ["--split", "test"], "nothing says which case is in it"),
        ("case,split\na-1,test\n", [], "says nothing about 'a-2', 'b-1'"),
        ("name,split\na-1,test\n", [], "needs a column case"),
        ("case\na-1\n", [], "needs a column case"),
        ("case,split\na-1,x\na-1,y\n", [], "names 'a-1' more than once"),
    ],
)
def test_tables_that_do_not_fit(refused, tmp_path: Path, text, options, reason: str) -> None:
    if text is not None:
        (tmp_path / "cases.csv").write_text(text)
        options = [*options, "--table", tmp_path / "cases.csv"]
    refused(options, reason)


def test_unknown_split_names_the_known_ones(refused, tmp_path: Path) -> None:
    table = write_table(tmp_path / "cases.csv")
    refused(["--table", table, "--split", "val"], "are: test, train")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--samples", 0], "--samples and --batch must be 1 or more"),
        (["--counts", 1, 16], "between 1 and the 6 samples that are drawn, but it has 16"),
        (["--samples", 1, "--compare", "ged_u"], "needs two samples"),
        (["--compare", "accuracy"], "'accuracy', which is no metric"),
        (["--limit", 0], "--limit must be 1 or more"),
        (["--samples", 10**9], "up to 100000, but they are 1000000000 and"),
        (["--tolerance", -1], "--tolerance must be a number of mm, 0 or more"),
        (["--tolerance", "nan"], "--tolerance must be a number of mm, 0 or more"),
        (["--temperature", 9], "--temperature: Input should be less than or equal to 3"),
        (["--iterations", 3], "no model has one"),
        (["--rater", "cid"], "The raters of this data set are: ann, bea"),
        (["--compare", "dice: vessel"], "the foreground of the data set is nodule"),
        (["--rater", "ann", "--compare", "ged_u"], "needs two raters"),
        (["--resume", "--overwrite"], "either --resume or --overwrite"),
        (["--resume"], "no results.rows.jsonl in"),
        (["--device", "cuda:99"], "no device 'cuda:99'"),
        (["--json", "results.txt"], "named *.json"),
    ],
)
def test_options_that_make_no_sense(refused, options, reason: str) -> None:
    refused(options, reason)


def test_different_numbers_of_raters_are_told(refused, dataset, model, tmp_path: Path) -> None:
    (dataset / "labelsTr" / "b-1__ann.png").unlink()
    out = tmp_path / "results.json"
    refused([], "1 cases have 1, 5 cases have 2")
    refused(["--rater", "ann"], "it is 'ann'; without them: 'b-1'")
    assert evaluate(dataset, "--model", model, "--json", out, "--mixed-raters") == 0
    summary = json.loads(out.read_text())
    assert summary["data"]["cases_by_number_of_raters"] == {"1": 1, "2": 5}
    # The unbiased statistic needs two raters: the case is listed, not dropped in silence.
    assert summary["models"][0]["metrics"]["ged_u"]["left_out_cases"] == ["b-1"]
    assert "two raters" in summary["metrics"]["ged_u"]["undefined_if"]


def test_classes_of_the_model_must_be_those_of_the_data(refused, tmp_path: Path) -> None:
    four = tiny_model(tmp_path / "four.safetensors", dimensions=2)
    refused(["--model", four], "has the 4 classes")
    vessel = (CLASSES[0], ClassSpec(name="vessel", color="#00ff00"))
    other = two_class_model(tmp_path / "other.safetensors", classes=vessel)
    refused(["--model", other], "background, vessel, but the data set has 2")


def test_images_a_model_cannot_take_are_found_before_computing(refused, tmp_path: Path) -> None:
    volume = tiny_model(tmp_path / "volume.safetensors", dimensions=3, classes=CLASSES)
    refused(["--model", volume], "works on 3-D images")


def test_labels_that_do_not_fit_are_found_before_computing(refused, dataset) -> None:
    save(dataset / "labelsTr" / "c-2__bea.png", disc(4) * 3)
    refused([], "c-2__bea.png holds the values 3")


def test_mean_field_of_a_model_without_an_mrf(refused) -> None:
    refused(["--refine", "mean-field"], "--refine mean-field needs models with an MRF, but 'ssn'")


def test_iterations_beside_a_cut(refused, tmp_path: Path) -> None:
    path = two_class_model(tmp_path / "mrf.safetensors", prior=PriorSpec(iterations=2))
    options = ["--model", path, "--refine", "cut", "--iterations", 3]
    refused(options, "--iterations is about mean field, but --refine cut")


def test_the_same_model_twice_is_refused(refused, model, tmp_path: Path) -> None:
    copy = shutil.copy(model, tmp_path / "copy.safetensors")
    refused(["--model", model, copy], "given twice")
