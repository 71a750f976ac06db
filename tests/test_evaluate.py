"""`structseg evaluate`: rows, summary, resuming, and what is refused."""

from __future__ import annotations

import inspect
import itertools
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import copy

import numpy as np
import pytest
from skimage.io import imsave

from conftest import REPOSITORY
from napari_structseg.cli import main
from napari_structseg.cohort.cases import Cohort, Selection
from napari_structseg.cohort.draws import DrawSettings, draw_case
from napari_structseg.cohort.rows import Row
from napari_structseg.cohort.run import evaluate as run_evaluation
from napari_structseg.cohort.settings import Evaluation
from napari_structseg.cohort.summary import accumulate, compare_models
from napari_structseg.commands.evaluate import evaluate as evaluate_command
from napari_structseg.controls import Controls
from napari_structseg.evaluation import brier_score, dice_per_class
from napari_structseg.evaluation.calibration import N_BINS
from napari_structseg.evaluation.metrics import METRICS
from napari_structseg.io.weights import load_weights, weights_hash
from napari_structseg.models import ClassSpec, HeadSpec
from napari_structseg.prediction.predictor import Predictor, prior_for
from napari_structseg.priors import PriorSpec
from napari_structseg.refine.refinement import Refinement, labels_with_prior
from napari_structseg.render.rendering import render_labels
from tiny_models import tiny_model

SIZE = 24
N_SAMPLES = 6
CLASSES = (ClassSpec(name="background", color="#000000"), ClassSpec(name="nodule", color="#ff0000"))
DESCRIPTION = {
    "channel_names": {"0": "CT"},
    "labels": {"background": 0, "nodule": 1},
    "file_ending": ".png",
}


def disc(radius: float) -> np.ndarray:
    axis = np.arange(SIZE) - SIZE // 2
    return (axis[:, None] ** 2 + axis**2 < radius**2).astype(np.uint8)


# A shell that runs the tests in the background may have told them, and what they start, not to.
HEEDING_CTRL_C = """
import signal, sys
from napari_structseg.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Two cases of each of three patients, by two raters; nobody marked the last."""
    folder = tmp_path / "Dataset001_Nodule"
    rng = np.random.default_rng(0)
    for sub in ("imagesTr", "labelsTr"):
        (folder / sub).mkdir(parents=True)
    for index, (patient, nodule) in enumerate(itertools.product("abc", "12")):
        image = rng.integers(1, 60, (SIZE, SIZE)) + 150 * disc(5)
        save(folder / "imagesTr" / f"{patient}-{nodule}_0000.png", image)
        for rater, radius in (("ann", 5 + index % 3), ("bea", 4 * (index % 2))):
            labels = disc(radius) if index < 5 else disc(0)
            save(folder / "labelsTr" / f"{patient}-{nodule}__{rater}.png", labels)
    (folder / "dataset.json").write_text(json.dumps(DESCRIPTION))
    return folder


def stacked(dataset: Path, folder: Path) -> Path:
    """The same cases as arrays; those of patient a are of the split train."""
    folder.mkdir()
    cases = list(Cohort(dataset, Selection()))
    np.save(folder / "images.npy", np.stack([case.image.data for case in cases]))
    np.save(folder / "labels.npy", np.stack([case.raters for case in cases]))
    lines = [f"{c.name},{c.name[0]},{'train' if c.name[0] == 'a' else 'test'}" for c in cases]
    (folder / "cases.csv").write_text("\n".join(["case,patient,split", *lines]) + "\n")
    (folder / "dataset.json").write_text(json.dumps(DESCRIPTION | {"raters": ["ann", "bea"]}))
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return two_class_model(tmp_path / "ssn.safetensors")


def two_class_model(path: Path, **fields) -> Path:
    return tiny_model(path, dimensions=2, **{"classes": CLASSES, **fields})


def save(path: Path, pixels: np.ndarray) -> None:
    imsave(path, pixels.astype(np.uint8), check_contrast=False)


def evaluate(dataset: Path, *arguments: object, samples: int = N_SAMPLES) -> int:
    command = ["evaluate", str(dataset), "--samples", str(samples), "--device", "cpu"]
    return main([*command, *map(str, arguments)])


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


def rows_of(path: Path) -> list[dict]:
    lines = path.with_name(f"{path.stem}.rows.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines[1:]]


def test_rows_are_the_metrics_of_each_case(dataset, model, tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    assert evaluate(dataset, "--model", model, "--json", out, "--counts", 1, 4) == 0
    rows = rows_of(out)
    assert [row["case"] for row in rows] == ["a-1", "a-2", "b-1", "b-2", "c-1", "c-2"]
    assert {row["model"] for row in rows} == {weights_hash(model)}
    assert set(rows[0]["scores"]) == {*METRICS, "ged_1", "ged_4"}
    predictor = Predictor(*load_weights(model))
    for row, case in zip(rows, Cohort(dataset, Selection()), strict=True):
        drawn = draw_case(predictor, case.image, case.name, DrawSettings(N_SAMPLES))
        distribution = predictor.predict(case.image)
        controls = Controls(seed=row["seed"])
        np.testing.assert_array_equal(drawn.mean, render_labels(distribution, None, controls))
        for number, labels in enumerate(drawn.samples, start=1):
            noise = controls.model_copy(update={"sample": number}).noise
            np.testing.assert_array_equal(labels, render_labels(distribution, noise, controls))
        np.testing.assert_allclose(drawn.probability.sum(axis=0), 1, atol=1e-5)
        assert row["scores"]["brier"] == [brier_score(drawn.probability, case.raters)]
        dice = [dice_per_class(drawn.mean, rater, 2)[1] for rater in case.raters]
        wanted = [None if np.isnan(one) else one for one in dice]
        assert row["scores"]["dice"] == wanted
    # Cases do not share their noise.
    assert len({row["seed"] for row in rows}) == 6


def test_summary_says_what_was_done_and_what_came_out(dataset, model, tmp_path, capsys) -> None:
    out = tmp_path / "results.json"
    table = tmp_path / "cases.csv"
    table.write_text("case,patient\n" + "".join(f"{p}-{n},{p}\n" for p in "abc" for n in "12"))
    assert evaluate(dataset, "--model", model, "--json", out, "--table", table) == 0
    summary, rows = json.loads(out.read_text()), rows_of(out)
    assert summary["data"] | {"sha256": ""} == {
        "name": "Dataset001_Nodule",
        "sha256": "",
        "cases": 6,
        "patients": 3,
        "cases_by_number_of_raters": {"2": 6},
        "empty_masks": 5,
        "cases_that_nobody_marked": 1,
    }
    (described,) = summary["models"]
    assert described["sha256"] == weights_hash(model)
    assert described["label"] == "ssn"
    ged, dice = described["metrics"]["ged"], described["metrics"]["dice_marked"]
    assert ged["mean"] == pytest.approx(np.mean([row["scores"]["ged"] for row in rows]), abs=1e-6)
    assert ged["low"] <= ged["mean"] <= ged["high"]
    assert (ged["cases"], ged["values"], ged["left_out_cases"]) == (6, 6, [])
    values = [one for row in rows for one in row["scores"]["dice_marked"] if one is not None]
    assert dice["mean"] == pytest.approx(np.mean(values), abs=1e-6)
    assert (dice["cases"], dice["values"], dice["undefined_values"]) == (5, 7, 5)
    assert dice["left_out_cases"] == ["c-2"]
    assert "did not mark" in summary["metrics"]["dice_marked"]["undefined_if"]
    assert sum(one["observations"] for one in described["reliability"]) == 6 * 2 * SIZE**2
    assert summary["settings"]["seed"] == 7
    assert summary["settings"]["unit"] == "pixels"
    assert summary["comparisons"] == []
    # Nothing of this machine.
    assert str(tmp_path) not in out.read_text()
    command = ["structseg", "evaluate", "Dataset001_Nodule", "--model", "ssn.safetensors"]
    assert summary["command"][:5] == command
    captured = capsys.readouterr()
    assert "6 cases of 3 patients; 5 masks of raters are empty" in captured.err
    assert "nobody marked anything in 1 cases" in captured.err
    assert "ssn" in captured.out


def test_a_deterministic_model_is_its_one_sample(dataset, tmp_path: Path) -> None:
    point = two_class_model(tmp_path / "unet.safetensors", head=HeadSpec(kind="point"))
    out = tmp_path / "results.json"
    assert evaluate(dataset, "--model", point, "--json", out, "--counts", 1) == 0
    for row in rows_of(out):
        assert row["scores"]["sample_diversity"] == [0]
        assert row["scores"]["ged"] == row["scores"]["ged_1"]
        assert set(row["scores"]["better_than_mean"]) <= {0, None}


def test_models_are_compared_in_pairs(dataset, model, tmp_path: Path, capsys) -> None:
    point = two_class_model(tmp_path / "unet.safetensors", head=HeadSpec(kind="point"))
    out = tmp_path / "results.json"
    assert evaluate(dataset, "--model", model, point, "--json", out, "--compare", "ged") == 0
    summary = json.loads(out.read_text())
    (comparison,) = summary["comparisons"]
    assert (comparison["first"], comparison["second"]) == ("ssn", "unet")
    means = [one["metrics"]["ged"]["mean"] for one in summary["models"]]
    assert comparison["difference"] == pytest.approx(means[0] - means[1], abs=2e-6)
    assert comparison["patients"] == 6
    assert comparison["p"] == comparison["p_bonferroni"]
    assert comparison["low"] <= comparison["difference"] <= comparison["high"]
    said = f"ged of ssn less that of unet: {comparison['difference']:+.3f} ("
    assert said in capsys.readouterr().err


def test_models_are_compared_on_patients_for_whom_both_are_defined() -> None:
    dice = {"one": {"a": [0.1], "b": [0.5, None], "c": [None]}, "two": {"b": [0.75], "c": [0.9]}}
    counts = ([0] * N_BINS,) * 3
    rows = [
        Row(
            model=model,
            case=patient,
            patient=patient,
            seed=0,
            scores={"dice": values.get(patient, [None])},
            reliability=counts,
        )
        for model, values in dice.items()
        for patient in "abc"
    ]
    (comparison,) = compare_models(accumulate(rows, list(dice)), ["dice"])
    assert comparison["difference"] == -0.25
    assert comparison["values"] == [1, 1]
    assert comparison["patients"] == 1


def test_samples_that_repeat_are_said(dataset, tmp_path: Path, capsys) -> None:
    head = HeadSpec(kind="heads", members=2)
    path = two_class_model(tmp_path / "heads.safetensors", head=head)
    assert evaluate(dataset, "--model", path, "--json", tmp_path / "out.json") == 0
    assert f"heads is a set of 2: {N_SAMPLES} samples of it repeat these" in capsys.readouterr().err


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


def test_a_prior_refines_mean_and_samples(dataset, tmp_path: Path) -> None:
    with_prior = two_class_model(tmp_path / "mrf.safetensors", prior=PriorSpec(iterations=3))
    predictor = Predictor(*load_weights(with_prior))
    (case, *_) = Cohort(dataset, Selection())
    for asked, used in ((None, 3), (1, 1)):
        settings = DrawSettings(2, iterations=asked)
        drawn = draw_case(predictor, case.image, case.name, settings)
        controls = settings.controls(case.name, 3)
        assert controls.iterations == used
        distribution = predictor.predict(case.image)
        prior = prior_for(predictor.network, case.image)
        refinement = Refinement(distribution, prior)
        expected = np.mean(
            [
                refinement.probabilities(controls.model_copy(update={"sample": sample}))
                for sample in (1, 2)
            ],
            axis=0,
        )
        np.testing.assert_allclose(drawn.probability, expected, atol=1e-6)
        unary = draw_case(predictor, case.image, case.name, DrawSettings(2, iterations=0))
        assert np.abs(drawn.probability - unary.probability).max() > 0.01
        for sample, labels in enumerate((drawn.mean, *drawn.samples)):
            shown = controls.model_copy(update={"sample": sample})
            wanted = labels_with_prior(
                distribution, prior_for(predictor.network, case.image), shown
            )
            np.testing.assert_array_equal(labels, wanted)


def test_the_table_says_which_models_an_mrf_refines(dataset, tmp_path: Path, capsys) -> None:
    refined = two_class_model(tmp_path / "mrf.safetensors", prior=PriorSpec(iterations=2))
    plain = two_class_model(tmp_path / "plain.safetensors")
    out = tmp_path / "results.json"
    assert evaluate(dataset, "--model", refined, plain, "--json", out) == 0
    assert capsys.readouterr().out.count("with MRF") == 1
    said = [model["refined_by_mrf"] for model in json.loads(out.read_text())["models"]]
    assert said == [True, False]


def test_batches_of_samples_change_nothing(dataset, model) -> None:
    predictor = Predictor(*load_weights(model))
    (case, *_) = Cohort(dataset, Selection())
    few, many = (
        draw_case(predictor, case.image, case.name, DrawSettings(5, batch=batch))
        for batch in (2, 16)
    )
    np.testing.assert_array_equal(few.samples, many.samples)
    np.testing.assert_allclose(few.probability, many.probability, atol=1e-6)


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


def write_table(path: Path) -> Path:
    rows = [f"{p}-{n},P{p},{'test' if p != 'a' else 'train'}" for p in "abc" for n in "12"]
    path.write_text("\n".join(["case,patient,split", *rows]) + "\n")
    return path


def test_part_of_a_data_set_is_selected(dataset, tmp_path: Path) -> None:
    table = write_table(tmp_path / "cases.csv")
    cohort = Cohort(dataset, Selection(table=table, split="test", raters=("bea",)))
    assert [case.name for case in cohort.cases] == ["b-1", "b-2", "c-1", "c-2"]
    assert [case.patient for case in cohort.cases] == ["Pb", "Pb", "Pc", "Pc"]
    (first, *_) = cohort
    assert first.raters.shape == (1, SIZE, SIZE)
    assert not first.raters.any()
    by_name = Cohort(dataset, Selection(patient_separator="-", limit=3))
    assert [case.name for case in by_name.cases] == ["a-1", "b-1", "c-1"]
    assert [case.patient for case in by_name.cases] == ["a", "b", "c"]
    assert [case.patient for case in Cohort(dataset, Selection()).cases][:2] == ["a-1", "a-2"]


def test_a_stack_of_arrays_gives_what_its_files_give(dataset, model, tmp_path: Path) -> None:
    arrays = stacked(dataset, tmp_path / "stack")
    of_files, of_arrays = tmp_path / "files.json", tmp_path / "arrays.json"
    evaluate(dataset, "--model", model, "--json", of_files, "--patient-separator", "-")
    assert evaluate(arrays, "--model", model, "--json", of_arrays) == 0
    assert rows_of(of_arrays) == rows_of(of_files)
    found, wanted = (json.loads(path.read_text()) for path in (of_arrays, of_files))
    assert found["models"] == wanted["models"]
    assert found["settings"] == wanted["settings"]
    test = Cohort(arrays, Selection(split="test", raters=("bea",)))
    assert [case.name for case in test.cases] == ["b-1", "b-2", "c-1", "c-2"]
    (_, second, *_) = test
    assert second.raters.any()
    np.testing.assert_array_equal(second.raters, np.load(arrays / "labels.npy")[3, 1:])


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


def test_the_same_model_twice_is_refused(refused, model, tmp_path: Path) -> None:
    copy = shutil.copy(model, tmp_path / "copy.safetensors")
    refused(["--model", model, copy], "given twice")


def test_every_metric_and_option_is_documented() -> None:
    pages = REPOSITORY / "docs"
    metrics = (pages / "evaluation.md").read_text(encoding="utf-8")
    assert [name for name in METRICS if f"| `{name}` |" not in metrics] == []
    _, _, section = (
        (pages / "command-line.md").read_text(encoding="utf-8").partition("## structseg evaluate")
    )
    section = section.partition("\n## ")[0]
    options = inspect.signature(evaluate_command).parameters
    names = [f"--{name.replace('_', '-')}" for name in options if name != "dataset"]
    assert [name for name in names if f"| `{name}` |" not in section] == []
